//! Which work is ordered before which, whatever the time it ran at: two streams that touch the same bytes, one of them to
//! write, with nothing that makes one wait for the other, are a race. It is found also when the bytes came out right.
//!
//! Every operation has a clock: for each stream, how much of it is done before. A stream's clock grows by what it waits for
//! (events, the legacy stream, memory of a pool) and by what the host saw done before it queued the operation. All
//! threads of the host count as one, so that what two threads do without order between them is not found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::state::State;
use crate::stream::Point;

/// For each stream, how much of it is done.
pub type Clock = BTreeMap<u64, u64>;

/// The accesses that are remembered.
const REMEMBERED: usize = 20_000;
/// The races that are written down.
const RACES: usize = 1000;

/// An operation and what is done before it.
#[derive(Clone, Debug)]
pub struct Stamp {
    point: Point,
    clock: Arc<Clock>,
}

impl Stamp {
    /// Whether this is done before the other begins.
    fn is_before(&self, other: &Stamp) -> bool {
        let (stream, number) = self.point;
        if stream == other.point.0 { number <= other.point.1 } else { is_in(&other.clock, self.point) }
    }
}

fn is_in(clock: &Clock, point: Point) -> bool {
    clock.get(&point.0).is_some_and(|&number| number >= point.1)
}

/// Bytes that an operation touches: rows of `width` bytes every `pitch`, or all from start to end where `pitch` is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// The first byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Bytes from row to row.
    pub pitch: u64,
    /// Bytes of a row.
    pub width: u64,
}

impl Region {
    /// So many bytes.
    pub fn line(start: u64, len: u64) -> Region {
        Region { start, end: start + len, pitch: 0, width: len }
    }

    /// Whether two have a byte in common. Rows with different pitches count as all between them.
    fn meets(&self, other: &Region) -> bool {
        if self.start >= other.end || other.start >= self.end {
            return false;
        }
        if self.pitch == 0 || self.pitch != other.pitch {
            return true;
        }
        // In the columns of this one, the other begins at `from`.
        let from = (i128::from(other.start) - i128::from(self.start)).rem_euclid(i128::from(self.pitch)) as u64;
        from < self.width || from + other.width > self.pitch
    }

    fn holds(&self, other: &Region) -> bool {
        self == other || (self.pitch == 0 && self.start <= other.start && other.end <= self.end)
    }
}

/// One access.
#[derive(Clone, Debug)]
pub struct Touch {
    /// Where.
    pub region: Region,
    /// Whether to write.
    pub writes: bool,
}

struct Access {
    touch: Touch,
    stamp: Stamp,
    what: Arc<str>,
}

/// All that is known about order.
#[derive(Default)]
pub struct Order {
    host: Arc<Clock>,
    /// The clocks of each stream, from which operation on; also of streams that are gone.
    clocks: HashMap<u64, Vec<(u64, Arc<Clock>)>>,
    accesses: Vec<Access>,
    /// The races that were found.
    pub races: Vec<String>,
}

fn join(clock: &mut Arc<Clock>, other: &Clock) {
    for (&stream, &number) in other {
        if !is_in(clock, (stream, number)) {
            Arc::make_mut(clock).insert(stream, number);
        }
    }
}

impl Order {
    /// What is done before an operation of a stream.
    fn clock_of(&self, point: Point) -> Option<&Arc<Clock>> {
        let clocks = self.clocks.get(&point.0)?;
        let at = clocks.partition_point(|&(from, _)| from <= point.1);
        at.checked_sub(1).map(|at| &clocks[at].1)
    }

    /// A clock that has a point and all before it.
    fn reach(&self, clock: &mut Arc<Clock>, point: Point) {
        // Point 0 of a stream is before its first operation.
        if point.1 == 0 || is_in(clock, point) {
            return;
        }
        if let Some(before) = self.clock_of(point) {
            join(clock, before);
        }
        Arc::make_mut(clock).insert(point.0, point.1);
    }

    /// The stamp of the operation that a stream is given now.
    pub fn stamp(&mut self, point: Point, after: &[Point]) -> Stamp {
        let last = self.clocks.get(&point.0).and_then(|clocks| clocks.last()).map(|(_, clock)| Arc::clone(clock));
        let mut clock = last.clone().unwrap_or_default();
        join(&mut clock, &self.host);
        for &point in after {
            self.reach(&mut clock, point);
        }
        if last.is_none_or(|last| last != clock) {
            self.clocks.entry(point.0).or_default().push((point.1, Arc::clone(&clock)));
        }
        Stamp { point, clock }
    }

    /// A stream's later operations come after a point without waiting: the driver saw that it was reached.
    pub fn follow(&mut self, next: Point, after: Point) {
        self.stamp(next, &[after]);
    }

    /// The host saw that points were reached: whatever it asks for from now on comes after them.
    pub fn host_saw(&mut self, points: &[Point]) {
        let mut host = Arc::clone(&self.host);
        for &point in points {
            self.reach(&mut host, point);
        }
        self.host = host;
        if self.accesses.len() > 64 {
            let host = &self.host;
            self.accesses.retain(|access| !is_in(host, access.stamp.point));
        }
    }

    /// An operation touches memory.
    pub fn touch(&mut self, stamp: &Stamp, what: &Arc<str>, touch: Touch) {
        for other in &self.accesses {
            let conflict = (touch.writes || other.touch.writes) && touch.region.meets(&other.touch.region);
            if conflict && !other.stamp.is_before(stamp) && !stamp.is_before(&other.stamp) && self.races.len() < RACES {
                let (start, end) =
                    (touch.region.start.max(other.touch.region.start), touch.region.end.min(other.touch.region.end));
                self.races.push(format!(
                    "stream {} operation {} ({what}, {}) and stream {} operation {} ({}, {}) touch {start:#x}..{end:#x} in no order",
                    stamp.point.0, stamp.point.1, verb(touch.writes),
                    other.stamp.point.0, other.stamp.point.1, other.what, verb(other.touch.writes),
                ));
            }
        }
        // What comes after this comes after those that it covers.
        self.accesses.retain(|other| {
            let covered = touch.region.holds(&other.touch.region) && (touch.writes || !other.touch.writes);
            !(covered && other.stamp.is_before(stamp))
        });
        if self.accesses.len() == REMEMBERED {
            self.accesses.remove(0);
        }
        self.accesses.push(Access { touch, stamp: stamp.clone(), what: Arc::clone(what) });
    }

    /// Nothing is remembered of accesses and races.
    pub fn forget(&mut self) {
        self.accesses.clear();
        self.races.clear();
    }
}

fn verb(writes: bool) -> &'static str {
    if writes { "writes" } else { "reads" }
}

impl State {
    /// What an operation touches is compared with what others did.
    pub fn touches(&mut self, stamp: &Stamp, what: &str, touches: Vec<Touch>) {
        if touches.is_empty() {
            return;
        }
        let what: Arc<str> = what.into();
        for touch in touches {
            self.order.touch(stamp, &what, touch);
        }
    }
}

/// The ranges that a kernel touched, joined where they meet.
#[derive(Default)]
pub struct Ranges {
    /// Start to end, never meeting.
    apart: BTreeMap<u64, u64>,
    /// The one that grows: kernels mostly walk forwards.
    last: (u64, u64),
}

/// The ranges that are kept apart; beyond, all between the first and the last counts as touched.
const APART: usize = 256;

impl Ranges {
    /// Adds a range.
    pub fn add(&mut self, start: u64, len: u64) {
        let end = start + len;
        if start < self.last.0 || start > self.last.1 {
            let (start, end) = std::mem::replace(&mut self.last, (start, end));
            self.put(start, end);
        } else {
            self.last.1 = self.last.1.max(end);
        }
    }

    fn put(&mut self, start: u64, end: u64) {
        if start == end {
            return;
        }
        let (mut start, mut end) = (start, end);
        // The ranges that it meets, from the last one backwards.
        while let Some((&at, &until)) = self.apart.range(..=end).next_back() {
            if until < start {
                break;
            }
            if at <= start && until >= end {
                return;
            }
            self.apart.remove(&at);
            (start, end) = (start.min(at), end.max(until));
        }
        self.apart.insert(start, end);
        if self.apart.len() > APART
            && let (Some((&first, _)), Some((_, &last))) = (self.apart.first_key_value(), self.apart.last_key_value())
        {
            self.apart = BTreeMap::from([(first, last)]);
        }
    }

    /// The ranges as accesses.
    pub fn touches(&mut self, writes: bool) -> impl Iterator<Item = Touch> {
        let (start, end) = std::mem::take(&mut self.last);
        self.put(start, end);
        self.apart.iter().map(move |(&start, &end)| Touch { region: Region::line(start, end - start), writes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_where_they_meet() {
        let mut ranges = Ranges::default();
        for (start, len) in [(10, 5), (20, 5), (30, 5), (15, 5), (12, 2), (24, 1), (29, 1)] {
            ranges.add(start, len);
        }
        let found = |ranges: &mut Ranges| {
            let found = ranges.touches(true).map(|touch| (touch.region.start, touch.region.end));
            found.collect::<Vec<_>>()
        };
        assert_eq!(found(&mut ranges), [(10, 25), (29, 35)]);
        ranges.add(0, 100);
        ranges.add(100, 1);
        assert_eq!(found(&mut ranges), [(0, 101)]);
        for i in 0..1000 {
            ranges.add(1000 + 2 * i, 1);
        }
        let many = found(&mut ranges);
        let all = many.iter().all(|&(start, end)| start < end) && many.windows(2).all(|pair| pair[0].1 < pair[1].0);
        assert!(all && many.len() <= APART, "{} ranges", many.len());
        assert_eq!((many[0].0, many[many.len() - 1].1), (0, 2999), "nothing is left out");
    }

    #[test]
    fn rows_with_one_pitch_meet_in_their_columns_only() {
        let rows = |start: u64, width| Region { start, end: start + 3 * 10 + width, pitch: 10, width };
        assert!(!rows(0, 4).meets(&rows(4, 6)) && !rows(4, 6).meets(&rows(0, 4)));
        assert!(rows(0, 5).meets(&rows(4, 2)) && rows(4, 2).meets(&rows(0, 5)));
        assert!(!rows(0, 4).meets(&rows(26, 4)), "the same columns, further down");
        assert!(rows(8, 4).meets(&rows(20, 1)), "columns that go on in the next row");
        assert!(rows(0, 4).meets(&Region::line(6, 1)), "rows and bytes count as all between");
        assert!(!rows(0, 4).meets(&Region::line(34, 1)));
    }

    #[test]
    fn clocks_grow_by_what_is_waited_for() {
        let mut order = Order::default();
        let first = order.stamp((1, 1), &[]);
        let apart = order.stamp((2, 1), &[]);
        let after = order.stamp((2, 2), &[(1, 1)]);
        let through = order.stamp((3, 1), &[(2, 2)]);
        assert!(!first.is_before(&apart) && first.is_before(&after) && first.is_before(&through));
        assert!(!apart.is_before(&first) && apart.is_before(&through));
        let later = order.stamp((1, 2), &[]);
        order.host_saw(&[(1, 2)]);
        assert!(later.is_before(&order.stamp((4, 1), &[])) && !apart.is_before(&order.stamp((4, 2), &[])));
    }
}
