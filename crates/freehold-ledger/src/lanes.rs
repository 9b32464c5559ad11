//! Which holders held one buffer, over time: a lane for each buffer that was.
//!
//! The index groups what is live at one moment. Here holders that are gone take part too, in the order of the events,
//! so that an address that is used again is another lane, as it was another buffer.

use std::collections::{BTreeMap, HashMap};

use crate::index::Space;
use crate::{HolderId, order};

/// A holder on its way into a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stay {
    pub(crate) id: HolderId,
    pub(crate) space: Space,
    /// The bytes that it keeps from being freed; none if they are equal.
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    pub(crate) opened: u64,
    /// Orders what was opened at the same time.
    pub(crate) order: u64,
    pub(crate) closed: Option<u64>,
    /// The holder that it was shared from.
    pub(crate) parent: HolderId,
    /// The live buffer that it is in; 0 if it is gone.
    pub(crate) buffer: u64,
}

/// A buffer from its first holder to its last.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) buffer: u64,
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    pub(crate) opened: u64,
    pub(crate) closed: Option<u64>,
    holders: u32,
    /// Where it is found in [`Now`].
    keys: Vec<(Space, u64)>,
}

/// The lanes, in the order in which they were opened, and the lane of each holder.
pub(crate) struct Lanes {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) of: HashMap<HolderId, u32>,
}

/// What is held at one moment of the sweep: the end and the lane of each range, by its start.
type Now = BTreeMap<(Space, u64), (u64, u32)>;

/// Groups holders by the buffer that they held.
pub(crate) fn group(stays: &[Stay]) -> Lanes {
    // At one time, what opens comes first: a view is often made and its source dropped in one tick of the clock.
    let mut events: Vec<(u64, bool, u64, u32)> = Vec::with_capacity(stays.len() * 2);
    for (i, stay) in stays.iter().enumerate() {
        events.push((stay.opened, false, stay.order, i as u32));
        events.extend(stay.closed.map(|closed| (closed.max(stay.opened), true, stay.order, i as u32)));
    }
    order::by_key(&mut events, |event| *event);

    let mut now = Now::new();
    let mut lanes: Vec<Lane> = Vec::new();
    let mut of: HashMap<HolderId, u32> = HashMap::with_capacity(stays.len());
    let mut of_buffer: HashMap<u64, u32> = HashMap::new();
    for (at, closes, _, i) in events {
        let stay = &stays[i as usize];
        if closes {
            let lane = &mut lanes[of[&stay.id] as usize];
            lane.holders -= 1;
            if lane.holders == 0 {
                lane.closed = Some(at);
                for key in lane.keys.drain(..) {
                    if now.get(&key).is_some_and(|(_, owner)| *owner == of[&stay.id]) {
                        now.remove(&key);
                    }
                }
            }
            continue;
        }
        // What the index says of live holders is true: it knows more (former queries, chains of shares).
        let known = (stay.buffer != 0).then(|| of_buffer.get(&stay.buffer).copied()).flatten();
        let open = |lane: &u32| lanes[*lane as usize].holders != 0;
        let found =
            known.or_else(|| of.get(&stay.parent).copied().filter(&open)).or_else(|| find(&now, stay)).filter(open);
        let number = found.unwrap_or(lanes.len() as u32);
        if found.is_none() {
            let (lo, hi) = (stay.lo, stay.hi);
            lanes.push(Lane { buffer: 0, lo, hi, opened: at, closed: None, holders: 0, keys: Vec::new() });
        }
        let lane = &mut lanes[number as usize];
        lane.holders += 1;
        if stay.lo < stay.hi {
            if lane.lo == lane.hi {
                (lane.lo, lane.hi) = (stay.lo, stay.hi);
            }
            (lane.lo, lane.hi) = (lane.lo.min(stay.lo), lane.hi.max(stay.hi));
            claim(&mut now, lane, number, stay);
        }
        if stay.buffer != 0 {
            lane.buffer = stay.buffer;
            of_buffer.insert(stay.buffer, number);
        }
        of.insert(stay.id, number);
    }
    Lanes { lanes, of }
}

/// Adds a holder's bytes to those of its lane. Ranges of one lane are joined where they meet, so that none lies in
/// another; bytes that another lane has (the times say that both are live, so some are not exact) stay that lane's.
fn claim(now: &mut Now, lane: &mut Lane, number: u32, stay: &Stay) {
    let (mut lo, mut hi) = (stay.lo, stay.hi);
    while let Some((key, end, owner)) = touching(now, stay.space, lo, hi) {
        if owner != number {
            return;
        }
        now.remove(&key);
        (lo, hi) = (lo.min(key.1), hi.max(end));
    }
    now.insert((stay.space, lo), (hi, number));
    lane.keys.push((stay.space, lo));
}

/// A range that shares a byte with another: its key, its end and its lane.
fn touching(now: &Now, space: Space, lo: u64, hi: u64) -> Option<((Space, u64), u64, u32)> {
    let before = now.range(..(space, hi)).next_back();
    let (key, (end, lane)) = before.filter(|(key, (end, _))| key.0 == space && *end > lo)?;
    Some((*key, *end, *lane))
}

/// The lane that a holder's bytes touch.
fn find(now: &Now, stay: &Stay) -> Option<u32> {
    if stay.lo >= stay.hi {
        return None;
    }
    touching(now, stay.space, stay.lo, stay.hi).map(|(_, _, lane)| lane)
}

/// The moment at which most bytes were held, and how many: the sum of the lanes that were open.
pub(crate) fn peak(lanes: &[Lane]) -> Option<(u64, u64)> {
    let mut events: Vec<(u64, bool, u64)> = Vec::with_capacity(lanes.len() * 2);
    for lane in lanes {
        let bytes = lane.hi - lane.lo;
        events.push((lane.opened, true, bytes));
        events.extend(lane.closed.map(|closed| (closed, false, bytes)));
    }
    // At one time, what closes comes first: a peak that never was is worse than one too low by what came and went.
    order::by_key(&mut events, |event| *event);
    let (mut held, mut most) = (0u64, None);
    for (at, opens, bytes) in events {
        held = if opens { held.saturating_add(bytes) } else { held.saturating_sub(bytes) };
        if most.is_none_or(|(_, peak)| held > peak) {
            most = Some((at, held));
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use freehold_tensor::Device;

    use super::*;

    fn stay(id: u64, lo: u64, hi: u64, opened: u64, closed: Option<u64>) -> Stay {
        let (id, space) = (HolderId::from_raw(id), Space::of(Device::CPU));
        Stay { id, space, lo, hi, opened, order: opened, closed, parent: HolderId::NONE, buffer: 0 }
    }

    fn lanes_of(stays: &[Stay]) -> Vec<u32> {
        let lanes = group(stays);
        stays.iter().map(|stay| lanes.of[&stay.id]).collect()
    }

    #[test]
    fn an_address_that_is_used_again_is_another_lane() {
        let stays = [stay(1, 100, 200, 1, Some(5)), stay(2, 100, 200, 6, Some(9)), stay(3, 150, 160, 7, None)];
        assert_eq!(lanes_of(&stays), [0, 1, 1]);
        let lanes = group(&stays).lanes;
        assert_eq!((lanes[0].closed, lanes[1].closed), (Some(5), None));
    }

    #[test]
    fn a_view_outlives_its_source_in_one_lane() {
        let late = stay(3, 190, 200, 8, Some(9));
        let stays = [stay(1, 100, 200, 1, Some(5)), stay(2, 120, 130, 2, None), late];
        assert_eq!(lanes_of(&stays), [0, 0, 0], "the view keeps the whole allocation");
    }

    #[test]
    fn a_share_is_followed_and_devices_are_kept_apart() {
        let mut shared = stay(2, 0, 0, 2, None);
        shared.parent = HolderId::from_raw(1);
        let mut elsewhere = stay(3, 100, 200, 3, None);
        elsewhere.space = Space::of(Device::new(freehold_tensor::DeviceKind::CUDA, 0));
        assert_eq!(lanes_of(&[stay(1, 100, 200, 1, None), shared, elsewhere]), [0, 0, 1]);
    }

    #[test]
    fn the_peak_is_where_most_is_open() {
        let stays = [stay(1, 0, 100, 1, Some(4)), stay(2, 1000, 1050, 2, Some(3)), stay(3, 2000, 2120, 4, None)];
        assert_eq!(peak(&group(&stays).lanes), Some((2, 150)));
        assert_eq!(peak(&[]), None);
    }

    /// Random holders against the plain definition: two are in one lane if they are joined by overlaps in time and place.
    #[test]
    fn lanes_of_equal_ranges_are_the_runs_of_one_range() {
        let mut state = 7u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..if cfg!(miri) { 3 } else { 200 } {
            let mut stays = Vec::new();
            for id in 1..30 {
                let (place, opened) = (random(4) * 100, random(60) * 2);
                let closed = (random(4) != 0).then(|| opened + 1 + 2 * random(10));
                stays.push(stay(id, place, place + 100, opened * 100 + id, closed.map(|c| c * 100)));
            }
            let lanes = group(&stays);
            let mut expected: HashMap<u64, Vec<&Stay>> = HashMap::new();
            stays.iter().for_each(|stay| expected.entry(stay.lo).or_default().push(stay));
            let mut count = 0;
            for run in expected.values_mut() {
                run.sort_by_key(|stay| stay.opened);
                let (mut end, mut lane) = (None, None);
                for stay in run {
                    let goes_on = lane.is_some() && end.is_none_or(|end| end > stay.opened);
                    count += u32::from(!goes_on);
                    assert_eq!(goes_on, lane == Some(lanes.of[&stay.id]));
                    end = if goes_on { end.and_then(|e: u64| stay.closed.map(|c| c.max(e))) } else { stay.closed };
                    lane = Some(lanes.of[&stay.id]);
                }
            }
            assert_eq!(count as usize, lanes.lanes.len());
        }
    }
}
