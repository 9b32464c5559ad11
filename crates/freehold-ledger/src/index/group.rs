//! Records in their groups: which of them hold one buffer.

use std::cmp::Reverse;
use std::collections::HashMap;

use freehold_tensor::Verdict;

use super::spans::Span;
use super::{IndexCache, Space, pinned_range};
use crate::HolderId;
use crate::record::Record;

/// The most addresses whose generations are counted.
const GENERATIONS_KEPT: usize = 65_536;

/// A buffer.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    parts: Parts,
    pub(crate) generation: u32,
    pub(super) space: Space,
}

/// What a buffer is made of. Most have one holder, which costs no allocation.
#[derive(Clone, Debug)]
enum Parts {
    Nobody,
    One(HolderId),
    Several(Box<Several>),
}

#[derive(Clone, Debug)]
struct Several {
    /// In the order they were opened.
    members: Box<[HolderId]>,
    /// Where its spans begin, but for the first, which begins where the buffer does.
    further: Vec<u64>,
}

impl Group {
    /// The records that are in it, in the order they were opened.
    pub(crate) fn members(&self) -> &[HolderId] {
        match &self.parts {
            Parts::Nobody => &[],
            Parts::One(only) => std::slice::from_ref(only),
            Parts::Several(several) => &several.members,
        }
    }

    /// Where its spans begin.
    pub(super) fn starts(&self) -> impl Iterator<Item = u64> {
        let further = if let Parts::Several(several) = &self.parts { &several.further[..] } else { &[] };
        (self.lo < self.hi).then_some(self.lo).into_iter().chain(further.iter().copied())
    }

    /// Takes its members and its bytes away and returns it as it was.
    pub(super) fn empty(&mut self) -> Group {
        let nobody = Group { lo: 0, hi: 0, parts: Parts::Nobody, ..*self };
        std::mem::replace(self, nobody)
    }
}

/// Records in their groups.
pub(super) struct Grouped {
    pub(super) groups: Vec<Group>,
    pub(super) spans: Vec<Span>,
    /// The group of each entry.
    pub(super) of_entry: Vec<u32>,
}

/// One record on its way into a group.
pub(super) struct Entry {
    pub(super) space: Space,
    pub(super) lo: u64,
    pub(super) hi: u64,
    pub(super) id: HolderId,
    opened: u64,
    /// The record it was shared from.
    pub(super) parent: HolderId,
    /// The buffer it was in before, and that buffer's generation.
    known: Option<(u64, u32)>,
}

impl Entry {
    pub(super) fn new(record: &Record, known: Option<(u64, u32)>) -> Entry {
        let (lo, hi) = pinned_range(record);
        let parent = match &record.source {
            Some(source) if source.verdict == Verdict::Share => source.from,
            _ => HolderId::NONE,
        };
        Entry { space: Space::of(record.device), lo, hi, id: record.id, opened: record.opened, parent, known }
    }
}

impl IndexCache {
    /// Groups entries in order; `find` tells where among them a record is.
    pub(super) fn group(&mut self, entries: &[Entry], find: &dyn Fn(HolderId) -> Option<u32>) -> Grouped {
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
        let mut sizes: Vec<u32> = Vec::new();
        let mut group_of_root: Vec<u32> = vec![u32::MAX; entries.len()];
        for &i in &order {
            let entry = &entries[i as usize];
            let root = sets.find(i) as usize;
            if group_of_root[root] == u32::MAX {
                group_of_root[root] = groups.len() as u32;
                let Entry { space, lo, hi, .. } = *entry;
                groups.push(Group { id: 0, generation: 0, space, lo, hi, parts: Parts::Nobody });
                sizes.push(0);
            }
            sizes[group_of_root[root] as usize] += 1;
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
        crate::order::arrange(&mut groups, &mut by_id.clone());

        let mut group_of = |i: u32| position[group_of_root[sets.find(i) as usize] as usize];
        let of_entry: Vec<u32> = (0..entries.len() as u32).map(&mut group_of).collect();
        spans.iter_mut().for_each(|span| span.group = group_of(span.group));
        // Which of `several` a group is.
        let mut which = vec![0u32; groups.len()];
        let mut several: Vec<(u32, Vec<HolderId>, Vec<u64>)> = Vec::new();
        for (group, &old) in by_id.iter().enumerate().filter(|(_, old)| sizes[**old as usize] > 1) {
            which[group] = several.len() as u32;
            several.push((group as u32, Vec::with_capacity(sizes[old as usize] as usize), Vec::new()));
        }
        for &i in &order {
            let (group, id) = (of_entry[i as usize] as usize, entries[i as usize].id);
            match sizes[by_id[group] as usize] {
                1 => groups[group].parts = Parts::One(id),
                _ => several[which[group] as usize].1.push(id),
            }
        }
        // Only records that are several have further spans.
        for span in spans.iter().filter(|span| span.lo != groups[span.group as usize].lo) {
            several[which[span.group as usize] as usize].2.push(span.lo);
        }
        for (group, members, further) in several {
            let members = members.into_boxed_slice();
            groups[group as usize].parts = Parts::Several(Box::new(Several { members, further }));
        }
        Grouped { groups, spans, of_entry }
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
pub(super) fn sort(entries: &mut [Entry]) {
    entries.sort_unstable_by_key(|entry| (entry.space, entry.lo, Reverse(entry.hi), entry.id));
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
