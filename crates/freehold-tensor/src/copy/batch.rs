//! Casts of many small tiles: as many as a block holds are read together, converted by one call, and written together.

use std::ops::ControlFlow;

use super::pass::Block;
use super::plan::{Axes, Axis, Plan, walk};
use super::run::{Steps, Unit};
use super::way::{BLOCK, Way};

/// Elements of a tile that repays its own conversion.
const ENOUGH: usize = 512;

/// How the innermost axes are taken together.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    /// How many axes make up what is repeated, the fastest of the destination.
    inner: usize,
    /// How many positions of the axis before those go together.
    chunk: usize,
}

/// The axes of a plan in the order of the destination: turning may have moved one.
fn in_order(plan: &Plan) -> Axes {
    let mut axes = Axes::new();
    for axis in &plan.axes {
        axes.insert(axes.partition_point(|other| other.dst >= axis.dst), *axis);
    }
    axes
}

impl Batch {
    /// For a plan with values to change and small tiles; `None` for any other.
    pub(super) fn new(steps: &Steps, plan: &Plan) -> Option<Batch> {
        let (outer, row, col) = plan.split();
        if outer.is_empty() || steps.is_plain() || row.n.saturating_mul(col.n) >= ENOUGH {
            return None;
        }
        let capacity = BLOCK / steps.src_unit.block_size().max(steps.dst_unit.block_size());
        let axes = in_order(plan);
        let (mut inner, mut elements) = (0, 1);
        for axis in axes.iter().skip(1).rev() {
            if elements * axis.n.min(BLOCK) * 2 > capacity {
                break;
            }
            elements *= axis.n;
            inner += 1;
        }
        // Both axes of a tile, or there would be as many calls as before.
        let taken = &axes[axes.len() - inner..];
        (taken.contains(&row) && taken.contains(&col)).then(|| Batch { inner, chunk: capacity / elements })
    }

    /// [`Steps::run`] for a plan that this was made for, or a piece of it.
    ///
    /// # Safety
    ///
    /// As for [`Steps::run`].
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    pub(super) unsafe fn run(&self, steps: &Steps, dst: *mut u8, src: *const u8, plan: &Plan) -> u64 {
        let mut blocks = [const { Block::new() }; 2];
        let [read, made] = blocks.each_mut().map(Block::start);
        let axes = in_order(plan);
        let (outer, inner) = axes.split_at(axes.len() - self.inner);
        let Some((&along, outer)) = outer.split_last() else { return 0 };
        let (gather, scatter) = (steps.gathering(), steps.scattering());
        let mut parts = [self.chunk.min(along.n), along.n % self.chunk.min(along.n)]
            .map(|n| Part::new(&gather, &scatter, along, n, inner));
        let mut lost = 0;
        walk(outer, plan.dst_start, plan.src_start, |dst_at, src_at| -> ControlFlow<()> {
            for start in (0..along.n).step_by(self.chunk) {
                let part = &mut parts[usize::from(along.n - start < self.chunk && along.n > self.chunk)];
                part.read.src_start = src_at + start as isize * along.src;
                part.write.dst_start = dst_at + start as isize * along.dst;
                let n = part.elements * steps.group;
                // SAFETY: the part's elements of the caller's, of which a block holds all; each stage reads what the
                // one before wrote.
                unsafe {
                    gather.walk(&part.reading, read, src, &part.read);
                    steps.decode.decode(read, n);
                    let out = match steps.dst_unit {
                        Unit::Bytes(_) if part.is_run => dst.offset(part.write.dst_start),
                        _ => made,
                    };
                    match &steps.convert {
                        Some(convert) => lost += convert.run(out, read, n) as u64,
                        None => std::ptr::copy_nonoverlapping(read, out, part.elements * steps.src_unit.block_size()),
                    }
                    steps.encode.encode(out, n);
                    if out == made {
                        scatter.walk(&part.writing, dst, made, &part.write);
                    }
                }
            }
            ControlFlow::Continue(())
        });
        lost
    }
}

/// What passes through the blocks at once.
struct Part {
    elements: usize,
    read: Plan,
    reading: Way,
    write: Plan,
    writing: Way,
    /// It is one run in the destination.
    is_run: bool,
}

impl Part {
    /// `n` positions along an axis, and all of those inside it.
    fn new(gather: &Steps, scatter: &Steps, along: Axis, n: usize, inner: &[Axis]) -> Part {
        let mut axes: Axes = Axes::new();
        axes.push(Axis { n, ..along });
        axes.extend_from_slice(inner);
        let elements = axes.iter().map(|axis| axis.n).product();
        // The same axes between one side and a block, where elements lie in this order.
        let with_block = |unit: Unit, block_side: fn(Axis, isize) -> Axis| {
            let mut step = unit.block_size() as isize;
            let mut axes = axes.clone();
            for axis in axes.iter_mut().rev() {
                let n = axis.n as isize;
                *axis = block_side(*axis, step);
                step *= n;
            }
            Plan::new(&axes)
        };
        let read = with_block(gather.dst_unit, |axis, step| Axis { dst: step, ..axis });
        let write = with_block(scatter.src_unit, |axis, step| Axis { src: step, ..axis });
        let step = scatter.dst_unit.compact();
        let is_run = write.axes.len() == 1 && write.axes[0].dst == step && write.axes[0].src == step;
        let (reading, writing) = (Way::new(gather, &read), Way::new(scatter, &write));
        Part { elements, read, reading, write, writing, is_run }
    }
}

impl Steps {
    /// Moves what is read into a block, as it is.
    fn gathering(&self) -> Steps {
        let (decode, dst_unit) = (self.decode.nothing(), Unit::Bytes(self.src_unit.block_size()));
        Steps { dst_unit, decode, convert: None, encode: decode, ..*self }
    }

    /// Moves what a block holds to the destination, as it is.
    fn scattering(&self) -> Steps {
        let (encode, src_unit) = (self.encode.nothing(), Unit::Bytes(self.dst_unit.block_size()));
        Steps { src_unit, decode: encode, convert: None, encode, ..*self }
    }
}
