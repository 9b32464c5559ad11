//! The stretches of addresses that belong to buffers, in order.
//!
//! A tree and not a sorted list, so that a buffer that comes or goes moves no other.

use std::collections::BTreeMap;

use super::Space;

/// A stretch of addresses that belong to one buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) space: Space,
    pub(super) lo: u64,
    pub(super) hi: u64,
    /// The place of its group.
    pub(super) group: u32,
}

/// A space and an address in it as one number, which compares in two instructions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key(u128);

impl Key {
    const fn new(Space(kind, id): Space, address: u64) -> Key {
        Key((kind as u32 as u128) << 96 | (id as u32 as u128) << 64 | address as u128)
    }

    const fn space(self) -> Space {
        Space((self.0 >> 96) as u32 as i32, (self.0 >> 64) as u32 as i32)
    }
}

/// Where a span ends, and its group.
type End = (u64, u32);

/// Spans that do not intersect.
#[derive(Clone, Default, Debug)]
pub(super) struct Spans(BTreeMap<Key, End>);

impl Spans {
    pub(super) fn of(spans: &[Span]) -> Spans {
        Spans(spans.iter().map(|span| (Key::new(span.space, span.lo), (span.hi, span.group))).collect())
    }

    /// The group of the span that has an address.
    pub(super) fn at(&self, space: Space, address: u64) -> Option<u32> {
        let (key, (hi, group)) = self.0.range(..=Key::new(space, address)).next_back()?;
        (key.space() == space && address < *hi).then_some(*group)
    }

    /// The groups of the spans that a range of addresses touches, from the highest span to the lowest. An empty range
    /// touches the span that it lies inside.
    pub(super) fn touched(&self, space: Space, lo: u64, hi: u64) -> impl Iterator<Item = u32> {
        let before = self.0.range(..Key::new(space, hi)).rev();
        before.take_while(move |(key, (end, _))| key.space() == space && *end > lo).map(|(_, (_, group))| *group)
    }

    /// Adds a span, which must touch no other.
    pub(super) fn insert(&mut self, span: Span) {
        let before = self.0.insert(Key::new(span.space, span.lo), (span.hi, span.group));
        debug_assert!(before.is_none(), "two spans begin at {:#x}", span.lo);
    }

    /// Takes away the span that begins at an address.
    pub(super) fn remove(&mut self, space: Space, lo: u64) {
        let before = self.0.remove(&Key::new(space, lo));
        debug_assert!(before.is_some(), "no span begins at {lo:#x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_found_by_the_addresses_that_they_have() {
        let spaces = [Space(-1, i32::MIN), Space(1, 0), Space(2, 0), Space(2, 1)];
        let span = |space, lo, hi, group| Span { space, lo, hi, group };
        let mut spans = Spans::of(&[span(spaces[1], 10, 20, 0), span(spaces[1], 20, 30, 1)]);
        spans.insert(span(spaces[2], 0, u64::MAX, 2));
        spans.insert(span(spaces[0], 15, 16, 3));
        let at = |space: Space| [0, 9, 10, 15, 19, 20, 29, 30, u64::MAX].map(|address| spans.at(space, address));
        assert_eq!(at(spaces[0]), [None, None, None, Some(3), None, None, None, None, None]);
        assert_eq!(at(spaces[1]), [None, None, Some(0), Some(0), Some(0), Some(1), Some(1), None, None]);
        let all_but_the_last = [Some(2), Some(2), Some(2), Some(2), Some(2), Some(2), Some(2), Some(2), None];
        assert_eq!(at(spaces[2]), all_but_the_last);
        assert_eq!(at(spaces[3]), [None; 9]);
        let touched = |lo, hi| spans.touched(spaces[1], lo, hi).collect::<Vec<_>>();
        assert!(touched(0, 10).is_empty() && touched(30, u64::MAX).is_empty());
        assert_eq!(touched(0, 11), [0]);
        assert_eq!(touched(19, 21), [1, 0]);
        assert_eq!((touched(15, 15), touched(20, 20).len()), (vec![0], 0));
        spans.remove(spaces[1], 10);
        assert_eq!((spans.at(spaces[1], 15), spans.at(spaces[1], 20)), (None, Some(1)));
    }
}
