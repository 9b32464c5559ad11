//! Questions about what was live before: the history of a snapshot, and the peak.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use freehold_tensor::{Device, Verdict};

use crate::history::{Closed, Past};
use crate::index::{Index, Space, is_handle, pinned_range};
use crate::lanes::{self, Lane, Lanes, Stay};
use crate::query::buffer_len;
use crate::record::Record;
use crate::report::{ClosedReport, History, LaneReport, PeakHolder, PeakReport};
use crate::{HolderId, Ledger, clock, order};

/// The most buffers that are named for the peak.
const PEAK_NAMED: usize = 32;

impl Ledger {
    /// The history, and the most bytes that were live at once.
    pub(crate) fn history(&self, past: Past) -> (History, Option<PeakReport>) {
        let sampled = self.index.lock().peak.clone();
        if past.closed.is_empty() {
            return (History { dropped: past.dropped, ..History::default() }, sampled);
        }
        let index = self.index();
        let start = self.start();
        let mut stays: Vec<Stay> = Vec::new();
        // The first holder of each lane says on which device it is, and whose it was.
        let mut records: Vec<Record> = Vec::new();
        for Closed { record, at, .. } in &past.closed {
            stays.push(stay(record, past.opened_at(record), Some(*at), 0));
        }
        self.each_record(&mut |record| {
            stays.push(stay(&record, past.opened_at(&record), None, index.buffer_of(record.id)));
            records.push(record);
            true
        });
        let Lanes { lanes, of } = lanes::group(&stays);
        let mut first: Vec<Option<&Record>> = vec![None; lanes.len()];
        for record in past.closed.iter().map(|closed| &closed.record).chain(&records) {
            if let Some(place) = of.get(&record.id).and_then(|lane| first.get_mut(*lane as usize))
                && place.is_none_or(|known| (record.opened, record.id) < (known.opened, known.id))
            {
                *place = Some(record);
            }
        }
        let device = |lane: usize| first[lane].map_or(Device::CPU, |record| record.device);
        let lane_report = |(i, lane): (usize, &Lane)| LaneReport {
            lane: i as u32 + 1,
            buffer: (lane.buffer != 0).then_some(lane.buffer),
            device: device(i),
            base: lane.lo,
            len: bytes_of(lane, device(i)),
            opened_ns: lane.opened.saturating_sub(start),
            closed_ns: lane.closed.map(|at| at.saturating_sub(start)),
        };
        // What was closed at a lower level, or only counted, is not in the history.
        let (mut closes, mut unrecorded) = (0, 0);
        for (_, shard) in self.each_shard() {
            closes += shard.closed();
            unrecorded += shard.unrecorded.load(Ordering::Relaxed);
        }
        let exact = closes == past.closed.len() as u64 && unrecorded == 0;
        let peak = lanes::peak(&lanes).map(|(at, bytes)| {
            let open = |lane: &Lane| lane.opened <= at && lane.closed.is_none_or(|closed| closed > at);
            let named = lanes.iter().enumerate().filter(|(_, lane)| open(lane)).map(|(i, lane)| PeakHolder {
                bytes: bytes_of(lane, device(i)),
                device: device(i),
                framework: first[i].map_or("", |record| record.framework.as_str()),
                site: first[i].map_or("", |record| record.site.as_str()),
                buffer: (lane.buffer != 0).then_some(lane.buffer),
            });
            let at_ns = at.saturating_sub(start);
            PeakReport { bytes, at_ns, exact, holders: largest(named.collect()) }
        });
        let lane_of = |id: HolderId| of.get(&id).map_or(0, |lane| lane + 1);
        let closed = past.closed.iter().map(|closed| report(closed, &past, lane_of(closed.record.id), start)).collect();
        let lanes = lanes.iter().enumerate().map(lane_report).collect();
        let most = match (peak, sampled) {
            (Some(swept), Some(sampled)) if sampled.bytes > swept.bytes => Some(sampled),
            (swept, sampled) => swept.or(sampled),
        };
        (History { closed, lanes, dropped: past.dropped }, most)
    }

    /// Remembers what is live, if it is the most so far.
    pub(crate) fn note_peak(&self, bytes: u64, index: &Index) {
        if bytes == 0 || self.index.lock().peak.as_ref().is_some_and(|peak| peak.bytes >= bytes) {
            return;
        }
        let named = index.groups.iter().filter_map(|group| {
            let record = group.members().iter().find_map(|id| self.record(*id))?;
            Some(PeakHolder {
                bytes: buffer_len(group, record.device),
                device: record.device,
                framework: record.framework.as_str(),
                site: record.site.as_str(),
                buffer: Some(group.id),
            })
        });
        let holders = largest(named.collect());
        let at_ns = clock::exact().saturating_sub(self.start());
        let peak = &mut self.index.lock().peak;
        if peak.as_ref().is_none_or(|peak| peak.bytes < bytes) {
            *peak = Some(PeakReport { bytes, at_ns, exact: false, holders });
        }
    }
}

fn stay(record: &Record, opened: u64, closed: Option<u64>, buffer: u64) -> Stay {
    let (lo, hi) = pinned_range(record);
    let parent = match &record.source {
        Some(source) if source.verdict == Verdict::Share => source.from,
        _ => HolderId::NONE,
    };
    let (id, space) = (record.id, Space::of(record.device));
    Stay { id, space, lo, hi, opened, order: record.opened, closed, parent, buffer }
}

/// A handle has no length that the ledger knows.
fn bytes_of(lane: &Lane, device: Device) -> u64 {
    if is_handle(device.kind) { 0 } else { lane.hi - lane.lo }
}

fn largest(mut holders: Vec<PeakHolder>) -> Vec<PeakHolder> {
    order::by_key(&mut holders, |holder| Reverse(holder.bytes));
    holders.truncate(PEAK_NAMED);
    holders
}

fn report(closed: &Closed, past: &Past, lane: u32, start: u64) -> ClosedReport {
    let Closed { record, at, by } = closed;
    let (extent_start, extent_end) = record.extent();
    let source = record.source.as_ref();
    ClosedReport {
        id: record.id,
        lane,
        role: record.role,
        framework: record.framework.as_str(),
        site: record.site.as_str(),
        extent_bytes: extent_end - extent_start,
        dtype: record.dtype,
        shape: record.shape.to_vec(),
        flags: record.flags,
        opened_ns: past.opened_at(record).saturating_sub(start),
        closed_ns: at.saturating_sub(start),
        thread: record.thread,
        closed_by: *by,
        parent: source.map_or(HolderId::NONE, |source| source.from),
        from: source.map(|source| source.framework.as_str()),
        verdict: source.map(|source| source.verdict),
        steps: source.map_or_else(Default::default, |source| source.steps),
        reasons: source.map_or_else(Vec::new, |source| source.reasons.to_vec()),
        bytes: source.map_or(0, |source| source.bytes),
    }
}
