//! Normal form of a pair of layouts: the fewest axes, in the order the destination lies in memory.

use std::ops::ControlFlow;

use smallvec::SmallVec;

/// One axis of a copy, with the step of each side in that side's unit (bytes, or bits where values are packed).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Axis {
    pub n: usize,
    pub dst: isize,
    pub src: isize,
}

/// Axes on the stack up to eight dimensions and a lane axis.
pub(super) type Axes = SmallVec<[Axis; 9]>;

/// A copy in normal form.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Never empty. The last is the fastest of the destination, whose steps are all positive; the rest are in its
    /// order too, except as `turned` says.
    pub axes: Axes,
    /// The source is faster along another axis than the last, which then stands before it.
    pub turned: bool,
    /// Where the walk starts, relative to element 0, in each side's unit.
    pub dst_start: isize,
    pub src_start: isize,
}

impl Plan {
    /// Drops axes of size 1, walks the destination upwards, sorts by its steps and joins what is one run on both
    /// sides. No axis may have size 0, and none of the destination's with more than one index step 0.
    #[inline]
    pub(super) fn new(axes: &[Axis]) -> Plan {
        let mut plan = Plan { axes: Axes::new(), turned: false, dst_start: 0, src_start: 0 };
        for &axis in axes {
            if axis.n <= 1 {
                continue;
            }
            let mut axis = axis;
            if axis.dst < 0 {
                // From the other end: the offsets stay inside the extents that were validated.
                let last = axis.n as isize - 1;
                plan.dst_start += last * axis.dst;
                plan.src_start += last * axis.src;
                axis = Axis { n: axis.n, dst: -axis.dst, src: -axis.src };
            }
            // Insertion keeps equal steps in their order; layouts arrive nearly sorted.
            let at = plan.axes.iter().rposition(|other| other.dst >= axis.dst).map_or(0, |i| i + 1);
            if at == plan.axes.len() {
                plan.axes.push(axis);
            } else {
                plan.axes.insert(at, axis);
            }
        }
        join(&mut plan.axes, |outer, inner| {
            Some(outer.dst) == step_over(inner.dst, inner.n) && Some(outer.src) == step_over(inner.src, inner.n)
        });
        plan.turn();
        plan
    }

    /// Puts the source's fastest axis next to the destination's.
    pub(super) fn turn(&mut self) {
        let last = self.axes.len() - 1;
        let step = |i: usize| self.axes[i].src.unsigned_abs();
        // A repeated axis (step 0) reads one place: nothing to gain from walking along it.
        let fastest = (0..last).rev().filter(|&i| step(i) != 0).min_by_key(|&i| step(i));
        if let Some(i) = fastest
            && step(i) < step(last)
        {
            // By exchanges: a rotation by one of so few costs more in its generality than in its moves.
            (i..last - 1).for_each(|k| self.axes.swap(k, k + 1));
            self.turned = true;
        }
    }

    /// Positions of the walk.
    pub(super) fn elements(&self) -> u64 {
        self.axes.iter().map(|axis| axis.n as u64).product()
    }

    /// The axes before the last two, rows, and columns; an axis of size 1 stands in for rows that are not there.
    pub(super) fn split(&self) -> (&[Axis], Axis, Axis) {
        match &self.axes[..] {
            [outer @ .., row, col] => (outer, *row, *col),
            axes => (&[], Axis { n: 1, dst: 0, src: 0 }, axes[0]),
        }
    }
}

/// Joins neighbouring axes, in place, where one step of the outer is all steps of the inner; leaves at least one.
pub(super) fn join(axes: &mut Axes, one_run: impl Fn(&Axis, &Axis) -> bool) {
    let mut kept = 0;
    for i in 1..axes.len() {
        let (outer, inner) = (axes[kept], axes[i]);
        if one_run(&outer, &inner) {
            axes[kept] = Axis { n: outer.n * inner.n, ..inner };
        } else {
            kept += 1;
            axes[kept] = inner;
        }
    }
    axes.truncate(kept + 1);
    if axes.is_empty() {
        axes.push(Axis { n: 1, dst: 0, src: 0 });
    }
}

/// All steps of an axis together, unless that is beyond any address.
pub(super) fn step_over(step: isize, n: usize) -> Option<isize> {
    step.checked_mul(isize::try_from(n).ok()?)
}

/// Calls `visit` with the offsets of every position over `axes`, the last fastest, until it breaks off.
pub(super) fn walk<B>(
    axes: &[Axis],
    mut dst: isize,
    mut src: isize,
    mut visit: impl FnMut(isize, isize) -> ControlFlow<B>,
) -> Option<B> {
    let mut index: SmallVec<[usize; 9]> = SmallVec::from_elem(0, axes.len());
    loop {
        if let ControlFlow::Break(value) = visit(dst, src) {
            return Some(value);
        }
        let mut i = axes.len();
        loop {
            if i == 0 {
                return None;
            }
            i -= 1;
            let axis = axes[i];
            index[i] += 1;
            if index[i] < axis.n {
                dst += axis.dst;
                src += axis.src;
                break;
            }
            index[i] = 0;
            let back = axis.n as isize - 1;
            dst -= back * axis.dst;
            src -= back * axis.src;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(n: usize, dst: isize, src: isize) -> Axis {
        Axis { n, dst, src }
    }

    #[test]
    fn compact_pairs_become_one_run() {
        let plan = Plan::new(&[axis(2, 48, 48), axis(1, 777, -3), axis(3, 16, 16), axis(4, 4, 4)]);
        assert_eq!(plan.axes[..], [axis(24, 4, 4)]);
        // Both Fortran-ordered: the same run.
        let plan = Plan::new(&[axis(4, 4, 4), axis(3, 16, 16), axis(2, 48, 48)]);
        assert_eq!(plan.axes[..], [axis(24, 4, 4)]);
        // Both reversed: the same run, from the other end.
        let plan = Plan::new(&[axis(3, -16, -16), axis(4, -4, -4)]);
        assert_eq!((&plan.axes[..], plan.dst_start, plan.src_start), (&[axis(12, 4, 4)][..], -44, -44));
    }

    #[test]
    fn a_transpose_keeps_two_axes_and_a_broadcast_joins() {
        let plan = Plan::new(&[axis(3, 4, 16), axis(4, 12, 4)]);
        assert_eq!(plan.axes[..], [axis(4, 12, 4), axis(3, 4, 16)]);
        let plan = Plan::new(&[axis(5, 12, 0), axis(3, 4, 0)]);
        assert_eq!(plan.axes[..], [axis(15, 4, 0)]);
        assert!(!plan.turned);
        assert_eq!(Plan::new(&[]).axes[..], [axis(1, 0, 0)]);
        // Channels last to channels first: n stays outside, channels turn against pixels.
        let plan = Plan::new(&[axis(2, 240, 240), axis(3, 80, 4), axis(4, 20, 60), axis(5, 4, 12)]);
        assert_eq!(plan.split(), (&[axis(2, 240, 240)][..], axis(3, 80, 4), axis(20, 4, 12)));
        assert!(plan.turned);
        // Three axes reversed: the outermost becomes the rows.
        let plan = Plan::new(&[axis(2, 48, 4), axis(3, 16, 8), axis(4, 4, 24)]);
        assert_eq!(plan.split(), (&[axis(3, 16, 8)][..], axis(2, 48, 4), axis(4, 4, 24)));
    }

    #[test]
    fn walk_visits_every_position_in_order() {
        let mut seen = Vec::new();
        let all = walk(&[axis(2, 10, -1), axis(3, 1, 5)], 100, 0, |d, s| -> ControlFlow<()> {
            seen.push((d, s));
            ControlFlow::Continue(())
        });
        assert_eq!(all, None);
        assert_eq!(seen, [(100, 0), (101, 5), (102, 10), (110, -1), (111, 4), (112, 9)]);
        assert_eq!(walk(&[], 7, 9, |d, s| ControlFlow::Break((d, s))), Some((7, 9)));
    }
}
