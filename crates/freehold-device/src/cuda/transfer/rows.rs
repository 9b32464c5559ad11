//! Copies of the same elements in other places: rows and slices at a pitch, or many runs in one batch, by the driver alone.
//!
//! No processor touches a byte, nothing is allocated, and rows can be captured into graphs.

use freehold_tensor::StrideUnit;
use freehold_tensor::copy::Operand;
use smallvec::SmallVec;

use super::{Side, TransferError};
use crate::cuda::error::check;
use crate::cuda::{Context, StreamRef, order, sys};

/// The most calls for one copy: beyond, what a call costs is more than packing.
const MAX_CALLS: u64 = 16;
/// The most runs of one batch.
const MAX_RUNS: u64 = 16 << 10;

/// One axis of both sides: elements, and bytes from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    n: i64,
    dst: i64,
    src: i64,
}

/// Runs of bytes that follow each other on both sides, and how they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    dst: u64,
    src: u64,
    /// Bytes of a run.
    width: i64,
    /// The axes of runs, outermost first.
    axes: SmallVec<[Axis; 6]>,
}

impl Rows {
    /// The runs of a copy whose elements are the same bytes on both sides, at least one. `None` for elements that share bytes
    /// or differ, for joined elements of the destination, and for a repeated source of single elements.
    pub(super) fn new(dst: &Operand<'_>, src: &Operand<'_>) -> Option<Rows> {
        let size = dst.dtype.size()? as i64;
        if dst.dtype != src.dtype || dst.traits != src.traits || dst.layout.shape != src.layout.shape {
            return None;
        }
        let (mut to, mut from) = (dst.data.addr() as u64, src.data.addr() as u64);
        let step = |operand: &Operand<'_>, i: usize| match operand.unit {
            StrideUnit::Bytes => operand.layout.strides[i],
            StrideUnit::Elements => operand.layout.strides[i] * size,
        };
        let mut axes: SmallVec<[Axis; 6]> = SmallVec::new();
        for (i, &n) in dst.layout.shape.iter().enumerate() {
            let mut axis = Axis { n, dst: step(dst, i), src: step(src, i) };
            match n {
                0 => return None,
                1 => continue,
                _ if axis.dst == 0 => return None,
                _ => {}
            }
            if axis.dst < 0 {
                to = to.wrapping_add_signed(axis.dst * (n - 1));
                from = from.wrapping_add_signed(axis.src * (n - 1));
                (axis.dst, axis.src) = (-axis.dst, -axis.src);
            }
            axes.insert(axes.partition_point(|other| other.dst >= axis.dst), axis);
        }
        let mut rows = Rows { dst: to, src: from, width: size, axes: SmallVec::new() };
        for axis in axes {
            match rows.axes.last_mut() {
                Some(outer) if outer.dst == axis.n * axis.dst && outer.src == axis.n * axis.src => {
                    *outer = Axis { n: outer.n * axis.n, ..axis };
                }
                _ => rows.axes.push(axis),
            }
        }
        if let Some(run) = rows.axes.last().filter(|axis| axis.dst == size && axis.src == size) {
            rows.width = run.n * size;
            rows.axes.pop();
        }
        Some(rows)
    }

    /// Bytes of a run.
    pub(super) fn width(&self) -> u64 {
        self.width.unsigned_abs()
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.width() * self.count(self.axes.len())
    }

    fn count(&self, axes: usize) -> u64 {
        self.axes[..axes].iter().map(|axis| axis.n.unsigned_abs()).product()
    }

    /// How many of the innermost axes one call takes: 0, 1 for rows, 2 for slices of rows.
    fn together(&self) -> usize {
        // The driver takes an `int` of bytes from row to row (CU_DEVICE_ATTRIBUTE_MAX_PITCH).
        let pitch = |step: i64| step >= self.width && step <= i64::from(i32::MAX);
        let Some(row) = self.axes.last().filter(|axis| pitch(axis.dst) && pitch(axis.src)) else { return 0 };
        let slice = |step: i64, pitch: i64| step % pitch == 0 && step / pitch >= row.n;
        match self.axes.len().checked_sub(2).map(|i| self.axes[i]) {
            Some(outer) if slice(outer.dst, row.dst) && slice(outer.src, row.src) => 2,
            _ => 1,
        }
    }

    /// Whether a few calls copy them.
    pub(super) fn are_pitched(&self) -> bool {
        self.count(self.axes.len() - self.together()) <= MAX_CALLS
    }

    /// Whether one batch copies them.
    pub(super) fn are_batched(&self) -> bool {
        self.count(self.axes.len()) <= MAX_RUNS
    }

    /// The addresses of both sides at each index of the outer axes.
    fn walk(&self, axes: usize) -> impl Iterator<Item = (u64, u64)> + '_ {
        (0..self.count(axes)).map(move |mut i| {
            let (mut dst, mut src) = (self.dst, self.src);
            for axis in self.axes[..axes].iter().rev() {
                let at = (i % axis.n.unsigned_abs()) as i64;
                i /= axis.n.unsigned_abs();
                dst = dst.wrapping_add_signed(at * axis.dst);
                src = src.wrapping_add_signed(at * axis.src);
            }
            (dst, src)
        })
    }

    /// Queues a call of the driver for every three axes of them.
    ///
    /// # Safety
    ///
    /// * All runs are memory of their sides until the copies are done.
    pub(super) unsafe fn copy(
        &self,
        context: &Context,
        to: &Side<'_>,
        from: &Side<'_>,
        stream: StreamRef,
    ) -> Result<(), TransferError> {
        let _entered = context.enter()?;
        let memory = &context.api().memory;
        let inner = self.together();
        let outer = self.axes.len() - inner;
        let width = self.width as usize;
        let kind = |side: &Side<'_>| {
            if side.is_on_device() { sys::MEMORYTYPE_DEVICE } else { sys::MEMORYTYPE_HOST }
        };
        let (dst_memory_type, src_memory_type) = (kind(to), kind(from));
        for (dst, src) in self.walk(outer) {
            // The driver looks at one of the two, by the type.
            let host = |address: u64| std::ptr::with_exposed_provenance_mut::<std::ffi::c_void>(address as usize);
            let (dst_host, src_host) = (host(dst), host(src).cast_const());
            if inner == 0 {
                // SAFETY: by the caller's word; the context is current and a `StreamRef` is a live stream.
                check("cuMemcpyAsync", unsafe { (memory.memcpy_async)(dst, src, width, stream.raw()) })?;
                continue;
            }
            let row = self.axes[self.axes.len() - 1];
            let plane = sys::CuMemcpy2D {
                src_x_in_bytes: 0,
                src_y: 0,
                src_memory_type,
                src_host,
                src_device: src,
                src_array: std::ptr::null_mut(),
                src_pitch: row.src as usize,
                dst_x_in_bytes: 0,
                dst_y: 0,
                dst_memory_type,
                dst_host,
                dst_device: dst,
                dst_array: std::ptr::null_mut(),
                dst_pitch: row.dst as usize,
                width_in_bytes: width,
                height: row.n as usize,
            };
            if inner == 1 {
                // SAFETY: as above; the struct is ours, and the driver reads it now.
                check("cuMemcpy2DAsync_v2", unsafe { (memory.memcpy_2d_async)(&raw const plane, stream.raw()) })?;
                continue;
            }
            let slice = self.axes[outer];
            let space = sys::CuMemcpy3D {
                src_x_in_bytes: 0,
                src_y: 0,
                src_z: 0,
                src_lod: 0,
                src_memory_type,
                src_host,
                src_device: src,
                src_array: std::ptr::null_mut(),
                reserved0: std::ptr::null_mut(),
                src_pitch: plane.src_pitch,
                src_height: (slice.src / row.src) as usize,
                dst_x_in_bytes: 0,
                dst_y: 0,
                dst_z: 0,
                dst_lod: 0,
                dst_memory_type,
                dst_host,
                dst_device: dst,
                dst_array: std::ptr::null_mut(),
                reserved1: std::ptr::null_mut(),
                dst_pitch: plane.dst_pitch,
                dst_height: (slice.dst / row.dst) as usize,
                width_in_bytes: width,
                height: plane.height,
                depth: slice.n as usize,
            };
            // SAFETY: as above.
            check("cuMemcpy3DAsync_v2", unsafe { (memory.memcpy_3d_async)(&raw const space, stream.raw()) })?;
        }
        Ok(())
    }

    /// Queues all runs in one batch.
    ///
    /// # Safety
    ///
    /// * As [`Rows::copy`], and as [`batch`].
    pub(super) unsafe fn copy_batch(&self, context: &'static Context, stream: StreamRef) -> Result<(), TransferError> {
        let (mut to, mut from): (Vec<u64>, Vec<u64>) = self.walk(self.axes.len()).unzip();
        let mut bytes = vec![self.width as usize; to.len()];
        // SAFETY: forwarded from the caller.
        unsafe { batch(context, &mut to, &mut from, &mut bytes, stream) }
    }
}

/// Many copies in one call where the driver has it, in no order among themselves.
///
/// # Safety
///
/// * The three lists are of one length. Every range is page-locked, managed or a device's memory until the copies are done, and no
///   destination overlaps another range.
/// * The stream is not captured.
pub(super) unsafe fn batch(
    context: &'static Context,
    to: &mut [u64],
    from: &mut [u64],
    bytes: &mut [usize],
    stream: StreamRef,
) -> Result<(), TransferError> {
    let functions = context.api().batch.as_ref().filter(|_| to.len() > 1);
    // The driver has no batches on the legacy default stream: one of ours takes its place, before and after it.
    let stand_in = if functions.is_some() && stream == StreamRef::LEGACY { Some(context.work_stream()?) } else { None };
    if let Some(work) = stand_in {
        order(context, stream, context, work)?;
        // SAFETY: forwarded from the caller.
        unsafe { batch(context, to, from, bytes, work) }?;
        return Ok(order(context, work, context, stream).or_else(|error| context.synchronize(work).and(Err(error)))?);
    }
    let _entered = context.enter()?;
    if let Some(functions) = functions {
        let nowhere = sys::CuMemLocation { kind: 0, id: 0 };
        let mut attributes = sys::CuMemcpyAttributes {
            src_access_order: sys::MEMCPY_SRC_ACCESS_ORDER_STREAM,
            src_loc_hint: nowhere,
            dst_loc_hint: nowhere,
            flags: 0,
        };
        let (mut first, mut failed) = (0_usize, usize::MAX);
        // SAFETY: as many addresses and lengths as are said; one set of attributes, from the first copy on; the caller
        // vouches for the memory, and the context is current.
        let status = unsafe {
            (functions.memcpy_batch_async)(
                to.as_mut_ptr(),
                from.as_mut_ptr(),
                bytes.as_mut_ptr(),
                to.len(),
                &raw mut attributes,
                &raw mut first,
                1,
                &raw mut failed,
                stream.raw(),
            )
        };
        return Ok(check("cuMemcpyBatchAsync", status)?);
    }
    for ((to, from), bytes) in to.iter().zip(from.iter()).zip(bytes.iter()) {
        // SAFETY: as above.
        check("cuMemcpyAsync", unsafe { (context.api().memory.memcpy_async)(*to, *from, *bytes, stream.raw()) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use freehold_tensor::copy::Lazy;
    use freehold_tensor::{DType, Layout};

    use super::*;

    fn rows(shape: &[i64], dst: &[i64], src: &[i64]) -> Option<Rows> {
        let operand = |strides, at: usize| Operand {
            data: std::ptr::without_provenance_mut(at),
            dtype: DType::F32,
            layout: Layout::new(shape, strides),
            unit: StrideUnit::Elements,
            traits: Lazy::empty(),
        };
        Rows::new(&operand(dst, 1 << 20), &operand(src, 1 << 30))
    }

    #[test]
    fn runs_join_and_rows_are_found() {
        let line = rows(&[4, 5], &[5, 1], &[5, 1]).expect("rows");
        assert_eq!((line.width(), line.axes.len(), line.together()), (80, 0, 0));
        let plane = rows(&[4, 5], &[5, 1], &[8, 1]).expect("rows");
        assert_eq!((plane.width(), plane.bytes(), plane.together()), (20, 80, 1));
        let space = rows(&[3, 4, 5], &[20, 5, 1], &[64, 8, 1]).expect("rows");
        assert_eq!((space.width(), space.together(), space.walk(1).count()), (20, 2, 3));
        // A slice that is no multiple of the pitch, and one that would overlap.
        for src in [[65, 8, 1], [24, 8, 1]] {
            let rows = rows(&[3, 4, 5], &[20, 5, 1], &src).expect("rows");
            assert_eq!((rows.together(), rows.are_pitched()), (1, true));
        }
        // A source that is walked downwards or repeated has no pitch; a destination is turned.
        assert_eq!(rows(&[4, 5], &[5, 1], &[-8, 1]).expect("rows").together(), 0);
        assert_eq!(rows(&[4, 5], &[5, 1], &[0, 1]).expect("rows").together(), 0);
        let turned = rows(&[4, 5], &[-5, 1], &[-8, 1]).expect("rows");
        assert_eq!((turned.together(), turned.dst, turned.src), (1, (1 << 20) - 60, (1 << 30) - 96));
        // Transposed: single elements, in rows of their own.
        assert_eq!(rows(&[40, 50], &[50, 1], &[1, 40]).expect("rows").width(), 4);
        assert!(rows(&[2, 3], &[0, 1], &[3, 1]).is_none() && rows(&[0, 3], &[3, 1], &[3, 1]).is_none());
    }
}
