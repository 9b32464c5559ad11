//! Copies: one, two and three dimensions, between whatever memory.

use std::ptr;
use std::sync::Arc;

use crate::arena;
use crate::order::{Region, Touch};
use crate::state::{Kind, State};
use crate::status::{Outcome, Status};

/// Where one side of a copy is.
#[derive(Clone)]
enum Place {
    /// Memory of the driver, by the program's address.
    Known(u64),
    /// Ordinary memory of the host.
    Pageable(usize),
    /// A source that was read when the copy was asked for.
    Staged(Arc<[u8]>),
}

/// One copy, ready to run.
#[derive(Clone)]
pub struct CopyJob {
    from: Place,
    to: Place,
    shape: Shape,
    from_pitch: usize,
    from_slice: usize,
    to_pitch: usize,
    to_slice: usize,
}

/// Rows of bytes.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Bytes of a row.
    pub width: usize,
    /// Rows of a slice.
    pub height: usize,
    /// Slices.
    pub depth: usize,
}

impl Shape {
    /// So many bytes in a row.
    pub fn line(width: usize) -> Shape {
        Shape { width, height: 1, depth: 1 }
    }

    fn bytes(self) -> usize {
        self.width * self.height * self.depth
    }
}

/// What the caller says that an address is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The host's: a device pointer is refused.
    Host,
    /// A device's: ordinary host memory is refused.
    Device,
    /// Told from the address.
    Unified,
}

/// One side of a copy that is asked for.
#[derive(Clone, Copy)]
pub struct Side {
    /// What the caller says that it is.
    pub said: Said,
    /// Where it begins.
    pub address: u64,
    /// Bytes from row to row.
    pub pitch: usize,
    /// Bytes from slice to slice.
    pub slice: usize,
}

impl Side {
    /// Bytes in a row.
    pub fn line(said: Said, address: u64) -> Side {
        Side { said, address, pitch: 0, slice: 0 }
    }

    /// The bytes from the first to behind the last.
    fn span(&self, shape: Shape) -> Option<usize> {
        let rows = self.pitch.checked_mul(shape.height.checked_sub(1)?)?;
        let slices = self.slice.checked_mul(shape.depth.checked_sub(1)?)?;
        rows.checked_add(slices)?.checked_add(shape.width)
    }
}

/// When a source in ordinary host memory is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Before the call returns.
    Now,
    /// When the stream comes to it.
    Stream,
}

impl State {
    /// Checks a copy as the driver does and reads what is read at once. The second value is whether the call must not
    /// return before the copy is done: its destination is ordinary host memory.
    ///
    /// # Safety
    ///
    /// * Ordinary host memory that the copy names is there: a source until the call returns or, with [`Order::Stream`],
    ///   until the copy is done; a destination until it is done.
    pub unsafe fn copy_job(
        &self,
        from: Side,
        to: Side,
        shape: Shape,
        order: Order,
    ) -> Outcome<(Option<CopyJob>, bool)> {
        if shape.width == 0 || shape.height == 0 || shape.depth == 0 {
            return Ok((None, false));
        }
        let source = self.place(from, shape)?;
        let target = self.place(to, shape)?;
        let waits = matches!(target, Place::Pageable(_));
        let mut job = CopyJob {
            from: source,
            to: target,
            shape,
            from_pitch: from.pitch,
            from_slice: from.slice,
            to_pitch: to.pitch,
            to_slice: to.slice,
        };
        if let (Place::Pageable(_), Order::Now) = (&job.from, order) {
            let mut staged = vec![0_u8; shape.bytes()];
            let at = staged.as_mut_ptr();
            // SAFETY: the caller vouches for the source; the rows of the target are those of a buffer of their size.
            unsafe { job.rows(job.source()?, at, shape.width, shape.width * shape.height) };
            job.from = Place::Staged(staged.into());
            (job.from_pitch, job.from_slice) = (shape.width, shape.width * shape.height);
        }
        Ok((Some(job), waits))
    }

    /// Whose memory one side is, and whether all of it is.
    fn place(&self, side: Side, shape: Shape) -> Outcome<Place> {
        let span = side.span(shape).ok_or(Status::INVALID_VALUE)? as u64;
        let Some(block) = self.block(side.address) else {
            // What was freed is no host memory, though it is in none of the blocks.
            if side.said == Said::Device || side.address == 0 || arena::is_ours(side.address) {
                return Err(Status::INVALID_VALUE);
            }
            return Ok(Place::Pageable(side.address as usize));
        };
        if span > block.len - (side.address - block.start) || (side.said == Said::Host && block.kind == Kind::Device) {
            return Err(Status::INVALID_VALUE);
        }
        Ok(Place::Known(side.address))
    }
}

impl CopyJob {
    /// The bytes that it copies.
    pub fn bytes(&self) -> usize {
        self.shape.bytes()
    }

    /// Whether it reads or writes ordinary host memory, or did.
    pub fn is_pageable(&self) -> bool {
        matches!(self.to, Place::Pageable(_)) || !matches!(self.from, Place::Known(_))
    }

    /// The memory of the driver that it touches.
    pub fn touches(&self) -> Vec<Touch> {
        let side = |place: &Place, pitch: usize, slice: usize, writes: bool| {
            let Place::Known(start) = *place else { return None };
            let Shape { width, height, depth } = self.shape;
            let end = start + ((depth - 1) * slice + (height - 1) * pitch + width) as u64;
            let in_rows = height > 1 && (depth == 1 || slice.is_multiple_of(pitch.max(1)));
            let (pitch, width) = if in_rows { (pitch as u64, width as u64) } else { (0, end - start) };
            Some(Touch { region: Region { start, end, pitch, width }, writes })
        };
        let from = side(&self.from, self.from_pitch, self.from_slice, false);
        from.into_iter().chain(side(&self.to, self.to_pitch, self.to_slice, true)).collect()
    }

    fn source(&self) -> Outcome<*const u8> {
        Ok(match &self.from {
            Place::Known(address) => arena::alias(*address, 1).ok_or(Status::ILLEGAL_ADDRESS)?,
            Place::Pageable(address) => ptr::with_exposed_provenance(*address),
            Place::Staged(bytes) => bytes.as_ptr(),
        })
    }

    /// Copies.
    pub fn run(&self) -> Outcome {
        let to = match &self.to {
            Place::Known(address) => arena::alias(*address, 1).ok_or(Status::ILLEGAL_ADDRESS)?,
            Place::Pageable(address) => ptr::with_exposed_provenance_mut(*address),
            Place::Staged(_) => unreachable!("nothing is staged to write to"),
        };
        // SAFETY: each side was checked to lie in one allocation, whose mapping stays, or is host memory that whoever made
        // the job vouched for.
        unsafe { self.rows(self.source()?, to, self.to_pitch, self.to_slice) };
        Ok(())
    }

    /// # Safety
    ///
    /// * Every row can be read at `from` and written at `to`.
    unsafe fn rows(&self, from: *const u8, to: *mut u8, to_pitch: usize, to_slice: usize) {
        for z in 0..self.shape.depth {
            for y in 0..self.shape.height {
                // SAFETY: the caller vouches for the rows. They may overlap where the program's memory does.
                unsafe {
                    let from = from.add(z * self.from_slice + y * self.from_pitch);
                    ptr::copy(from, to.add(z * to_slice + y * to_pitch), self.shape.width);
                }
            }
        }
    }
}
