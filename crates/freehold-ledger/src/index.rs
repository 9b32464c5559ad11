//! Which records hold which buffer.
//!
//! The hot path does not know. A query groups the live records: two belong to one buffer if their allocations (or,
//! where the allocation is not known, the bytes they reach) intersect, if one was shared from the other, or if a
//! former query found them in one buffer; and so on from record to record. The result is kept, and brought up to date
//! by the first query after a record was opened or closed.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use freehold_tensor::{Device, DeviceKind, Verdict};

use crate::record::Record;
use crate::report::PeakReport;
use crate::thread::SHARDS;
use crate::{HolderId, Ledger, slab};

mod update;

use update::Changes;

/// The most addresses whose generations are counted.
const GENERATIONS_KEPT: usize = 65_536;

/// How many spans one head stands for.
const STRIDE: usize = 32;

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

/// A stretch of addresses that belong to one buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) space: Space,
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    pub(crate) group: u32,
}

/// A buffer.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) generation: u32,
    pub(crate) space: Space,
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    /// Its part of [`Index::members`].
    first: u32,
    len: u32,
}

/// All buffers at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    version: u64,
    /// Of each shard.
    versions: Vec<u64>,
    /// By the order in which ids were given. Some have no members: those who had them are in others, or gone.
    pub(crate) groups: Vec<Group>,
    /// The records of each group, together, in the order they were opened.
    members: Vec<HolderId>,
    /// How many of those are in a group.
    records: usize,
    /// The records that reach no byte, with the address that tells them.
    empty: Vec<(Space, u64, HolderId)>,
    /// Sorted, not intersecting within a space.
    spans: Vec<Span>,
    /// Where every [`STRIDE`]th span begins: small enough to stay in the cache while the spans do not.
    heads: Vec<(Space, u64)>,
    /// The generation and the group of the record in each place, by shard; (0, 0) if there is none.
    of: Vec<Vec<(u32, u32)>>,
}

/// Records in their groups.
struct Grouped {
    groups: Vec<Group>,
    members: Vec<HolderId>,
    spans: Vec<Span>,
    /// The group of each entry.
    of_entry: Vec<u32>,
}

impl Index {
    /// The records of a group, in the order they were opened.
    pub(crate) fn members(&self, group: &Group) -> &[HolderId] {
        let first = group.first as usize;
        self.members.get(first..first + group.len as usize).unwrap_or(&[])
    }

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
        let key = (Space::of(device), address);
        let span = self.spans[..self.begin_by(key)].last()?;
        if span.space != key.0 || address >= span.hi {
            return None;
        }
        self.groups.get(span.group as usize)
    }

    /// How many spans begin at a place or before it.
    fn begin_by(&self, key: (Space, u64)) -> usize {
        let Some(block) = self.heads.partition_point(|head| *head <= key).checked_sub(1) else { return 0 };
        let from = block * STRIDE;
        let block = &self.spans[from..self.spans.len().min(from + STRIDE)];
        from + block.partition_point(|span| (span.space, span.lo) <= key)
    }

    /// The groups that a range of addresses of a device touches.
    pub(crate) fn groups_in(&self, device: Device, lo: u64, hi: u64) -> Vec<&Group> {
        let touched = self.spans_in(Space::of(device), lo, hi);
        let mut groups: Vec<u32> = touched.iter().map(|span| span.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.into_iter().filter_map(|group| self.groups.get(group as usize)).collect()
    }

    /// The spans that a range of addresses touches.
    fn spans_in(&self, space: Space, lo: u64, hi: u64) -> &[Span] {
        &self.spans[self.span_range(space, lo, hi)]
    }

    fn span_range(&self, space: Space, lo: u64, hi: u64) -> Range<usize> {
        let from = self.spans.partition_point(|span| (span.space, span.hi) <= (space, lo));
        let to = self.spans.partition_point(|span| (span.space, span.lo) < (space, hi));
        from..to.max(from)
    }
}

/// The last index, and what must outlive it.
pub(crate) struct IndexCache {
    last: Option<Arc<Index>>,
    /// The next buffer id.
    next: u64,
    /// How many buffers were seen at an address.
    generations: Option<HashMap<(Space, u64), u32>>,
    /// The most bytes that a question came across.
    pub(crate) peak: Option<PeakReport>,
}

/// One record on its way into a group.
struct Entry {
    space: Space,
    lo: u64,
    hi: u64,
    id: HolderId,
    opened: u64,
    /// The record it was shared from.
    parent: HolderId,
    /// The buffer it was in before, and that buffer's generation.
    known: Option<(u64, u32)>,
}

impl Entry {
    fn new(record: &Record, known: Option<(u64, u32)>) -> Entry {
        let (lo, hi) = pinned_range(record);
        let parent = match &record.source {
            Some(source) if source.verdict == Verdict::Share => source.from,
            _ => HolderId::NONE,
        };
        Entry { space: Space::of(record.device), lo, hi, id: record.id, opened: record.opened, parent, known }
    }
}

impl IndexCache {
    pub(crate) const fn new() -> IndexCache {
        IndexCache { last: None, next: 1, generations: None, peak: None }
    }

    /// Starts again, with ids that go on where they were.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.generations = None;
        self.peak = None;
    }

    fn build(&mut self, ledger: &Ledger) -> Arc<Index> {
        // Read before the records are: a change meanwhile makes this index old, never wrong for its version.
        let version = ledger.version();
        if let Some(last) = self.last.as_ref().filter(|last| last.version == version) {
            return Arc::clone(last);
        }
        let mut versions = vec![0; SHARDS];
        ledger.each_shard().for_each(|(number, shard)| versions[number] = shard.version());
        let index = match self.update(ledger, version, &versions) {
            Some(updated) => updated,
            None => Arc::new(self.build_all(ledger, version, versions)),
        };
        self.last = Some(Arc::clone(&index));
        index
    }

    /// The last index with what happened since; `None` if that is much.
    fn update(&mut self, ledger: &Ledger, version: u64, versions: &[u64]) -> Option<Arc<Index>> {
        let last = self.last.as_ref().filter(|last| !last.is_worn())?;
        let mut changes = Changes::since(last, ledger, versions)?;
        sort(&mut changes.entries);
        let found: HashMap<HolderId, u32> = changes.entries.iter().zip(0..).map(|(entry, i)| (entry.id, i)).collect();
        let new = self.group(&changes.entries, &|id| found.get(&id).copied());
        let mut last = self.last.take()?;
        // A copy of it, if a question on another thread has not yet been answered.
        let index = Arc::make_mut(&mut last);
        index.replace(&changes, new);
        (index.version, index.versions) = (version, versions.to_vec());
        Some(last)
    }

    fn build_all(&mut self, ledger: &Ledger, version: u64, versions: Vec<u64>) -> Index {
        let mut entries = Vec::new();
        ledger.each_record(&mut |record| {
            let known = self.last.as_ref().and_then(|last| last.group_of(record.id)).map(|g| (g.id, g.generation));
            entries.push(Entry::new(&record, known));
            true
        });
        sort(&mut entries);
        let mut of: Vec<Vec<(u32, u32)>> = vec![Vec::new(); SHARDS];
        entries.iter().zip(0..).for_each(|(entry, i)| place(&mut of, entry.id, i));
        let Grouped { groups, members, spans, of_entry } = self.group(&entries, &|id| position_in(&of, id));
        entries.iter().zip(&of_entry).for_each(|(entry, group)| place(&mut of, entry.id, *group));
        let heads = spans.iter().step_by(STRIDE).map(|span| (span.space, span.lo)).collect();
        let empty = empty_among(&entries).collect();
        Index { version, versions, groups, records: members.len(), members, empty, spans, heads, of }
    }

    /// Groups entries in order; `find` tells where among them a record is.
    fn group(&mut self, entries: &[Entry], find: &dyn Fn(HolderId) -> Option<u32>) -> Grouped {
        let mut sets = Sets::new(entries.len());
        let mut spans: Vec<Span> = Vec::new();
        let mut known: HashMap<u64, u32> = HashMap::new();
        for (i, entry) in entries.iter().enumerate() {
            let i = i as u32;
            match spans.last_mut() {
                Some(span) if span.space == entry.space && entry.lo < span.hi => {
                    span.hi = span.hi.max(entry.hi);
                    sets.join(span.group, i);
                }
                _ if entry.lo < entry.hi => {
                    spans.push(Span { space: entry.space, lo: entry.lo, hi: entry.hi, group: i });
                }
                // Reaches no byte: a buffer of its own, unless it was shared from another.
                _ => {}
            }
            if let Some((id, _)) = entry.known {
                sets.join(*known.entry(id).or_insert(i), i);
            }
        }
        for (i, entry) in entries.iter().enumerate() {
            if let Some(parent) = find(entry.parent) {
                // A share into another address space (mapped host memory) is an edge, not one buffer.
                if entries[parent as usize].space == entry.space {
                    sets.join(parent, i as u32);
                }
            }
        }

        // Members in the order they were opened, and groups in the order of their first member, so that ids follow
        // the program's own order.
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_unstable_by_key(|&i| (entries[i as usize].opened, entries[i as usize].id));
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of_root: Vec<u32> = vec![u32::MAX; entries.len()];
        for &i in &order {
            let entry = &entries[i as usize];
            let root = sets.find(i) as usize;
            if group_of_root[root] == u32::MAX {
                group_of_root[root] = groups.len() as u32;
                let Entry { space, lo, hi, .. } = *entry;
                groups.push(Group { id: 0, generation: 0, space, lo, hi, first: 0, len: 0 });
            }
            let group = &mut groups[group_of_root[root] as usize];
            if entry.lo < entry.hi {
                if group.lo == group.hi {
                    (group.lo, group.hi) = (entry.lo, entry.hi);
                }
                (group.lo, group.hi) = (group.lo.min(entry.lo), group.hi.max(entry.hi));
            }
            // Two buffers that turn out to be one keep the older id.
            if let Some((id, generation)) = entry.known
                && (group.id == 0 || id < group.id)
            {
                (group.id, group.generation) = (id, generation);
            }
            group.len += 1;
        }
        for group in groups.iter_mut().filter(|group| group.id == 0) {
            group.id = self.next;
            self.next += 1;
            group.generation = self.count_generation(group);
        }
        // Old ids may come after new ones here, because a record of an old buffer may be its youngest.
        let mut by_id: Vec<u32> = (0..groups.len() as u32).collect();
        by_id.sort_unstable_by_key(|&g| groups[g as usize].id);
        let mut position = vec![0u32; groups.len()];
        for (new, &old) in by_id.iter().enumerate() {
            position[old as usize] = new as u32;
        }
        groups.sort_unstable_by_key(|group| group.id);
        let mut first = 0;
        for group in &mut groups {
            group.first = first;
            first += std::mem::take(&mut group.len);
        }

        let mut group_of = |i: u32| position[group_of_root[sets.find(i) as usize] as usize];
        for span in &mut spans {
            span.group = group_of(span.group);
        }
        let mut members = vec![HolderId::NONE; entries.len()];
        let mut of_entry = vec![0; entries.len()];
        for &i in &order {
            let g = group_of(i);
            of_entry[i as usize] = g;
            let group = &mut groups[g as usize];
            members[(group.first + group.len) as usize] = entries[i as usize].id;
            group.len += 1;
        }
        Grouped { groups, members, spans, of_entry }
    }

    fn count_generation(&mut self, group: &Group) -> u32 {
        let generations = self.generations.get_or_insert_default();
        let key = (group.space, group.lo);
        if group.lo == group.hi || (generations.len() >= GENERATIONS_KEPT && !generations.contains_key(&key)) {
            return 1;
        }
        let count = generations.entry(key).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }
}

/// The longest first where several begin at one address, so that an empty one among them falls inside.
fn sort(entries: &mut [Entry]) {
    entries.sort_unstable_by_key(|entry| (entry.space, entry.lo, Reverse(entry.hi), entry.id));
}

fn position_in(of: &[Vec<(u32, u32)>], id: HolderId) -> Option<u32> {
    let (generation, value) = *of.get(id.shard())?.get(slab::number(id.slot()) as usize)?;
    (generation != 0 && generation == id.generation()).then_some(value)
}

/// The entries that reach no byte.
fn empty_among(entries: &[Entry]) -> impl Iterator<Item = (Space, u64, HolderId)> {
    entries.iter().filter(|entry| entry.lo >= entry.hi).map(|entry| (entry.space, entry.lo, entry.id))
}

fn place(of: &mut [Vec<(u32, u32)>], id: HolderId, value: u32) {
    let (places, slot) = (&mut of[id.shard()], slab::number(id.slot()) as usize);
    if places.len() <= slot {
        places.resize(slot + 1, (0, 0));
    }
    places[slot] = (id.generation(), value);
}

/// Disjoint sets of entries.
struct Sets {
    parent: Vec<u32>,
}

impl Sets {
    fn new(len: usize) -> Sets {
        Sets { parent: (0..len as u32).collect() }
    }

    fn find(&mut self, mut i: u32) -> u32 {
        while self.parent[i as usize] != i {
            self.parent[i as usize] = self.parent[self.parent[i as usize] as usize];
            i = self.parent[i as usize];
        }
        i
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }
}

impl Ledger {
    /// The buffers as they are now.
    pub(crate) fn index(&self) -> Arc<Index> {
        self.index.lock().build(self)
    }
}
