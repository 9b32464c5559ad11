//! Which records hold which buffer.
//!
//! The hot path does not know. A query groups the live records: two belong to one buffer if their allocations (or,
//! where the allocation is not known, the bytes they reach) intersect, if one was shared from the other, or if a
//! former query found them in one buffer; and so on from record to record. The result is kept, and brought up to date
//! by the first query after a record was opened or closed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use freehold_tensor::{Device, DeviceKind};

use crate::record::Record;
use crate::report::PeakReport;
use crate::thread::SHARDS;
use crate::{HolderId, Ledger, slab};

mod group;
mod spans;
mod update;

pub(crate) use group::Group;
use group::{Entry, Grouped, sort};
use spans::Spans;
use update::{Changes, Seen};

/// The address space of a device: devices in one space see the same memory at the same address.
///
/// Page-locked host memory is host memory, whoever registered it, so a NumPy view of a pinned PyTorch tensor is seen
/// as an alias.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Space(i32, i32);

impl Space {
    pub(crate) const fn of(device: Device) -> Space {
        if device.kind.is_host() { Space(DeviceKind::CPU.0, 0) } else { Space(device.kind.0, device.id) }
    }
}

/// Whether a pointer on this device is a handle, which is not an address: two of them are equal or unrelated.
pub(crate) const fn is_handle(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::OPENCL | DeviceKind::VULKAN | DeviceKind::METAL | DeviceKind::WEBGPU)
}

/// The bytes that a record keeps from being freed, as far as it is known.
pub(crate) fn pinned_range(record: &Record) -> (u64, u64) {
    if is_handle(record.device.kind) {
        let handle = record.alloc.map_or(record.address, |(base, _)| base);
        return (handle, handle.saturating_add(1));
    }
    let extent = record.extent();
    let Some((base, len)) = record.alloc.filter(|(_, len)| *len != 0) else { return extent };
    let end = base.saturating_add(len);
    if extent.0 == extent.1 {
        return (base, end);
    }
    // A view outside the allocation that was named for it: the caller is wrong about one of them. The bytes are what
    // matters for aliasing.
    if extent.0 >= end || extent.1 <= base { extent } else { (base.min(extent.0), end.max(extent.1)) }
}

/// All buffers at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// By the order in which ids were given. Some have no members: those who had them are in others, or gone.
    pub(crate) groups: Vec<Group>,
    /// How many records are in a group.
    records: usize,
    empty: Empty,
    spans: Spans,
    /// The generation and the group of the record in each place, by shard; (0, 0) if there is none.
    of: Vec<Vec<(u32, u32)>>,
}

/// The records that reach no byte, by the address that tells them.
#[derive(Clone, Default, Debug)]
struct Empty {
    at: BTreeSet<(Space, u64, HolderId)>,
    of: HashMap<HolderId, (Space, u64)>,
}

impl Empty {
    fn add(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.lo >= entry.hi) {
            self.at.insert((entry.space, entry.lo, entry.id));
            self.of.insert(entry.id, (entry.space, entry.lo));
        }
    }

    fn remove(&mut self, id: HolderId) {
        if !self.of.is_empty()
            && let Some((space, address)) = self.of.remove(&id)
        {
            self.at.remove(&(space, address, id));
        }
    }

    fn between(&self, space: Space, lo: u64, hi: u64) -> impl Iterator<Item = HolderId> {
        self.at.range((space, lo, HolderId::NONE)..(space, hi, HolderId::NONE)).map(|(_, _, id)| *id)
    }
}

impl Index {
    /// Where the group of a record is.
    fn position_of(&self, id: HolderId) -> Option<u32> {
        position_in(&self.of, id)
    }

    /// The group of a record.
    pub(crate) fn group_of(&self, id: HolderId) -> Option<&Group> {
        self.groups.get(self.position_of(id)? as usize)
    }

    /// The id of a record's buffer; 0 if the record is younger than this index.
    pub(crate) fn buffer_of(&self, id: HolderId) -> u64 {
        self.group_of(id).map_or(0, |group| group.id)
    }

    /// The group that an address of a device belongs to.
    pub(crate) fn group_at(&self, device: Device, address: u64) -> Option<&Group> {
        self.groups.get(self.spans.at(Space::of(device), address)? as usize)
    }

    /// The groups that a range of addresses of a device touches, by id.
    pub(crate) fn groups_in(&self, device: Device, lo: u64, hi: u64) -> Vec<&Group> {
        let mut groups: Vec<u32> = self.spans.touched(Space::of(device), lo, hi).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.into_iter().filter_map(|group| self.groups.get(group as usize)).collect()
    }
}

/// The last index, and what must outlive it.
pub(crate) struct IndexCache {
    last: Option<Arc<Index>>,
    /// How far into the changes of the ledger the last index goes.
    seen: Seen,
    /// The next buffer id.
    next: u64,
    /// How many buffers were seen at an address.
    generations: Option<HashMap<(Space, u64), u32>>,
    /// The most bytes that a question came across.
    pub(crate) peak: Option<PeakReport>,
}

impl IndexCache {
    pub(crate) const fn new() -> IndexCache {
        IndexCache { last: None, seen: Seen::nothing(), next: 1, generations: None, peak: None }
    }

    /// Starts again, with ids that go on where they were.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.seen = Seen::nothing();
        self.generations = None;
        self.peak = None;
    }

    fn build(&mut self, ledger: &Ledger) -> Arc<Index> {
        // Read before the records are: a change meanwhile is seen or not, and looked at by the next question.
        let version = ledger.version();
        if let Some(last) = self.last.as_ref().filter(|_| self.seen.version == version) {
            return Arc::clone(last);
        }
        let index = match self.update(ledger) {
            Some(updated) => updated,
            None => {
                let seen = Seen::now(ledger);
                let index = Arc::new(self.build_all(ledger));
                self.seen = seen;
                index
            }
        };
        self.seen.version = version;
        self.last = Some(Arc::clone(&index));
        index
    }

    /// The last index with what happened since; `None` if that is much.
    fn update(&mut self, ledger: &Ledger) -> Option<Arc<Index>> {
        let last = self.last.as_ref().filter(|last| !last.is_worn())?;
        let mut changes = Changes::since(last, &self.seen, ledger)?;
        sort(&mut changes.entries);
        let found: HashMap<HolderId, u32> = changes.entries.iter().zip(0..).map(|(entry, i)| (entry.id, i)).collect();
        let new = self.group(&changes.entries, &|id| found.get(&id).copied());
        let mut last = self.last.take()?;
        // A copy of it, if a question on another thread has not yet been answered.
        Arc::make_mut(&mut last).replace(&changes, new);
        self.seen.apply(changes.seen);
        Some(last)
    }

    fn build_all(&mut self, ledger: &Ledger) -> Index {
        let mut entries = Vec::new();
        ledger.each_record(&mut |record| {
            let known = self.last.as_ref().and_then(|last| last.group_of(record.id)).map(|g| (g.id, g.generation));
            entries.push(Entry::new(&record, known));
            true
        });
        sort(&mut entries);
        let mut of: Vec<Vec<(u32, u32)>> = vec![Vec::new(); SHARDS];
        entries.iter().zip(0..).for_each(|(entry, i)| place(&mut of, entry.id, i));
        let Grouped { groups, spans, of_entry } = self.group(&entries, &|id| position_in(&of, id));
        entries.iter().zip(&of_entry).for_each(|(entry, group)| place(&mut of, entry.id, *group));
        let mut empty = Empty::default();
        empty.add(&entries);
        Index { groups, records: entries.len(), empty, spans: Spans::of(&spans), of }
    }
}

fn position_in(of: &[Vec<(u32, u32)>], id: HolderId) -> Option<u32> {
    let (generation, value) = *of.get(id.shard())?.get(slab::number(id.slot()) as usize)?;
    (generation != 0 && generation == id.generation()).then_some(value)
}

fn place(of: &mut [Vec<(u32, u32)>], id: HolderId, value: u32) {
    let (places, slot) = (&mut of[id.shard()], slab::number(id.slot()) as usize);
    if places.len() <= slot {
        places.resize(slot + 1, (0, 0));
    }
    places[slot] = (id.generation(), value);
}

impl Ledger {
    /// The buffers as they are now.
    pub(crate) fn index(&self) -> Arc<Index> {
        self.index.lock().build(self)
    }
}
