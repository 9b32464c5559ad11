//! PyTorch's memory snapshot: what `pytorch.org/memory_viz` and `python -m torch.cuda._memory_viz` open.
//!
//! A buffer is an allocation in a segment of its own: `alloc` when its first holder came, `free_requested` and
//! `free_completed` when its last one went. Device `cuda:N` is trace N, other devices follow, and the host is the last one, as in PyTorch's own
//! export of a profile. The stack of an allocation names the buffer and everyone who held it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use freehold_tensor::{Device, DeviceKind};

use super::pickle::Pickler;
use super::place::{Place, how, layout, named};
use super::timeline::{Lane, Span, Timeline};
use crate::order;
use crate::report::Snapshot;

/// The most holders in the stack of one allocation.
const FRAMES: usize = 32;
/// The viewer keeps addresses as doubles.
const ADDRESS_MASK: u64 = (1 << 53) - 1;

pub(super) fn write(snapshot: &Snapshot, w: &mut dyn Write) -> io::Result<()> {
    let timeline = Timeline::of(snapshot);
    let devices = devices(&timeline);
    let mut holders: Vec<Vec<usize>> = vec![Vec::new(); timeline.lanes.len()];
    for (i, span) in timeline.spans.iter().enumerate() {
        let named = &mut holders[span.lane];
        if named.len() < FRAMES {
            named.push(i);
        }
    }
    // An allocation of no bytes is none.
    let lanes: Vec<usize> = (0..timeline.lanes.len()).filter(|&i| timeline.lanes[i].len != 0).collect();
    let categories: Vec<&str> = timeline.lanes.iter().map(|lane| category(&timeline, lane)).collect();
    // The viewer throws where there are categories and none of them is "unknown".
    let categories = lanes.iter().any(|&i| categories[i] == "unknown").then_some(categories);
    let start_us = (snapshot.taken_unix_ms * 1000).saturating_sub(snapshot.taken_ns / 1000);
    let out = Out { timeline: &timeline, holders: &holders, categories, start_us };

    let mut p = Pickler::new(w)?;
    p.dict(|p| {
        p.entry("segments", |p| {
            let live = lanes.iter().filter(|&&i| out.lane(i).closed.is_none());
            p.list(live, |p, &i| out.segment(p, &devices, i))
        })?;
        p.entry("device_traces", |p| {
            p.list(&devices, |p, device| {
                out.trace(p, lanes.iter().copied().filter(|&i| slot(out.lane(i).device) == *device))
            })
        })?;
        p.entry("allocator_settings", |p| p.dict(|_| Ok(())))?;
        p.entry("external_annotations", |p| p.list([(); 0], |_, ()| Ok(())))
    })?;
    p.end()
}

/// The device that stands for all names of one memory.
fn slot(device: Device) -> Device {
    if device.kind.is_host() { Device::CPU } else { device }
}

fn devices(timeline: &Timeline<'_>) -> Vec<Device> {
    let used: BTreeSet<Device> = timeline.lanes.iter().map(|lane| slot(lane.device)).collect();
    let cuda = used.iter().filter(|device| device.kind == DeviceKind::CUDA).map(|device| device.id).max();
    // A process has at most some hundreds of devices, whatever an id says.
    let mut devices: Vec<Device> =
        (0..=cuda.unwrap_or(-1).min(1023)).map(|id| Device::new(DeviceKind::CUDA, id)).collect();
    devices.extend(used.iter().copied().filter(|device| *device != Device::CPU && !(0..1024).contains(&device.id)));
    let others = used.iter().copied().filter(|device| device.kind != DeviceKind::CUDA && *device != Device::CPU);
    devices.extend(others);
    devices.push(Device::CPU);
    let mut seen = BTreeSet::new();
    devices.retain(|device| seen.insert(*device));
    devices
}

/// How the buffer came to be.
fn category(timeline: &Timeline<'_>, lane: &Lane) -> &'static str {
    lane.first.and_then(|i| timeline.spans[i].verdict).map_or("unknown", freehold_tensor::Verdict::name)
}

struct Out<'a> {
    timeline: &'a Timeline<'a>,
    holders: &'a [Vec<usize>],
    categories: Option<Vec<&'static str>>,
    start_us: u64,
}

impl Out<'_> {
    fn lane(&self, i: usize) -> &Lane {
        &self.timeline.lanes[i]
    }

    fn segment(&self, p: &mut Pickler<'_>, devices: &[Device], i: usize) -> io::Result<()> {
        let lane = self.lane(i);
        let device = devices.iter().position(|device| *device == slot(lane.device)).unwrap_or(0);
        p.dict(|p| {
            p.int_entry("device", device as u64)?;
            p.int_entry("address", lane.base & ADDRESS_MASK)?;
            for size in ["total_size", "allocated_size", "active_size", "requested_size"] {
                p.int_entry(size, lane.len)?;
            }
            p.int_entry("stream", 0)?;
            p.text_entry("segment_type", "large")?;
            p.entry("segment_pool_id", |p| p.list([0, 0], |p, n| p.int(n)))?;
            p.entry("is_expandable", |p| p.bool(false))?;
            p.entry("frames", |p| self.frames(p, i))?;
            p.entry("blocks", |p| {
                p.list([()], |p, ()| {
                    p.dict(|p| {
                        p.int_entry("address", lane.base & ADDRESS_MASK)?;
                        p.int_entry("size", lane.len)?;
                        p.int_entry("requested_size", lane.len)?;
                        p.text_entry("state", "active_allocated")?;
                        p.entry("frames", |p| self.frames(p, i))
                    })
                })
            })
        })
    }

    fn trace(&self, p: &mut Pickler<'_>, lanes: impl Iterator<Item = usize>) -> io::Result<()> {
        // Each buffer is a segment of its own, so that the viewer finds one for every block at every moment.
        let mut events: Vec<(u64, u8, usize, &str)> = Vec::new();
        for i in lanes {
            let (opened, closed) = (self.lane(i).opened, self.lane(i).closed);
            // At one time, what goes makes place for what comes, unless it is the same buffer.
            let came = |n: u8, action| (opened, 4 + n, i, action);
            events.extend([came(0, "segment_alloc"), came(1, "alloc")]);
            let last = if closed == Some(opened) { 6 } else { 0 };
            let went = ["free_requested", "free_completed", "segment_free"];
            events.extend(
                closed.iter().flat_map(|&at| {
                    went.into_iter().enumerate().map(move |(n, action)| (at, last + n as u8, i, action))
                }),
            );
        }
        order::by_key(&mut events, |event| *event);
        p.list(events, |p, (at, _, i, action)| {
            p.dict(|p| {
                p.text_entry("action", action)?;
                p.int_entry("addr", self.lane(i).base & ADDRESS_MASK)?;
                p.int_entry("size", self.lane(i).len)?;
                p.int_entry("stream", 0)?;
                p.int_entry("time_us", self.start_us + at / 1000)?;
                if let Some(categories) = &self.categories {
                    p.text_entry("category", categories[i])?;
                }
                p.entry("frames", |p| self.frames(p, i))
            })
        })
    }

    fn frames(&self, p: &mut Pickler<'_>, i: usize) -> io::Result<()> {
        p.list(self.holders[i].iter().enumerate(), |p, (n, &span)| {
            let span = &self.timeline.spans[span];
            let place = Place::of(span.site);
            p.dict(|p| {
                p.text_entry("name", &self.frame_name(n, i, span))?;
                p.text_entry("filename", if place.file.is_empty() { "freehold" } else { place.file })?;
                p.int_entry("line", place.line.into())
            })
        })
    }

    /// `buffer #12 numpy f32[2,3]`, then `numpy -> torch f32[2,3] (share RO02)`.
    fn frame_name(&self, n: usize, lane: usize, span: &Span<'_>) -> String {
        let mut name = if n == 0 { format!("{} ", self.timeline.name(lane)) } else { String::new() };
        if let Some(from) = span.from {
            name.push_str(&format!("{} -> ", named(from)));
        }
        name.push_str(&format!("{} {}", named(span.framework), layout(span.dtype, span.shape)));
        let how = how(span.verdict, span.reasons);
        if !how.is_empty() {
            name.push_str(&format!(" ({how})"));
        }
        name
    }
}
