//! Live holders and those that are gone, as one list over time.

use std::collections::HashMap;

use freehold_tensor::{Code, DType, Device, Verdict};

use crate::report::{LaneReport, Name, Snapshot};
use crate::{HolderId, order};

/// A holder, live or gone.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) id: HolderId,
    /// The place of its buffer in [`Timeline::lanes`].
    pub(super) lane: usize,
    pub(super) framework: Name,
    pub(super) site: Name,
    pub(super) dtype: DType,
    pub(super) shape: &'a [i64],
    pub(super) opened: u64,
    pub(super) closed: Option<u64>,
    pub(super) thread: u16,
    pub(super) closed_by: u16,
    pub(super) parent: HolderId,
    pub(super) from: Option<Name>,
    pub(super) verdict: Option<Verdict>,
    pub(super) reasons: &'a [Code],
    pub(super) bytes: u64,
}

/// A buffer over time.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) buffer: Option<u64>,
    pub(super) device: Device,
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) opened: u64,
    pub(super) closed: Option<u64>,
    /// The place of its first holder in [`Timeline::spans`].
    pub(super) first: Option<usize>,
}

/// Everything that has a beginning and perhaps an end.
pub(super) struct Timeline<'a> {
    pub(super) lanes: Vec<Lane>,
    /// By the time of opening.
    pub(super) spans: Vec<Span<'a>>,
}

impl<'a> Timeline<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Timeline<'a> {
        let history = &snapshot.history;
        let lane = |report: &LaneReport| Lane {
            buffer: report.buffer,
            device: report.device,
            base: report.base,
            len: report.len,
            opened: report.opened_ns,
            closed: report.closed_ns,
            first: None,
        };
        let mut lanes: Vec<Lane> = history.lanes.iter().map(lane).collect();
        let mut of_buffer: HashMap<u64, usize> =
            lanes.iter().enumerate().filter_map(|(i, lane)| Some((lane.buffer?, i))).collect();
        let mut spans: Vec<Span<'a>> = Vec::new();
        for buffer in &snapshot.buffers {
            let lane = *of_buffer.entry(buffer.id).or_insert_with(|| {
                let opened = buffer.members().map(|holder| holder.opened_ns).min().unwrap_or(0);
                let (device, base, len) = (buffer.device, buffer.base, buffer.len);
                lanes.push(Lane { buffer: Some(buffer.id), device, base, len, opened, closed: None, first: None });
                lanes.len() - 1
            });
            spans.extend(buffer.members().map(|holder| Span {
                id: holder.id,
                lane,
                framework: holder.framework,
                site: holder.site,
                dtype: holder.dtype,
                shape: &holder.shape,
                opened: holder.opened_ns,
                closed: None,
                thread: holder.thread,
                closed_by: 0,
                parent: holder.parent,
                from: holder.from,
                verdict: holder.verdict,
                reasons: &holder.reasons,
                bytes: holder.bytes,
            }));
        }
        spans.extend(history.closed.iter().map(|holder| Span {
            id: holder.id,
            lane: (holder.lane as usize).saturating_sub(1).min(lanes.len().saturating_sub(1)),
            framework: holder.framework,
            site: holder.site,
            dtype: holder.dtype,
            shape: &holder.shape,
            opened: holder.opened_ns,
            closed: Some(holder.closed_ns.max(holder.opened_ns)),
            thread: holder.thread,
            closed_by: holder.closed_by,
            parent: holder.parent,
            from: holder.from,
            verdict: holder.verdict,
            reasons: &holder.reasons,
            bytes: holder.bytes,
        }));
        if lanes.is_empty() {
            // A file that lists closed holders and no lanes was edited by hand.
            spans.clear();
        }
        order::by_key(&mut spans, |span| (span.opened, span.id));
        for (i, span) in spans.iter().enumerate() {
            lanes[span.lane].first.get_or_insert(i);
        }
        Timeline { lanes, spans }
    }

    /// `buffer #4`, or `a buffer that is gone` by its lane.
    pub(super) fn name(&self, lane: usize) -> String {
        match self.lanes[lane].buffer {
            Some(id) => format!("buffer #{id}"),
            None => format!("lane {}", lane + 1),
        }
    }
}
