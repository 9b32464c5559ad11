//! Bringing an index up to date when little has changed since it was made.
//!
//! The hot path only steps the note of a block of places, so the notes of every shard that did anything are compared,
//! and the places of the blocks that changed are looked at, one word each. What was opened is then grouped with the
//! buffers it touches, what was closed leaves its own, and the result takes their place. After much change, and when
//! much of the index is no longer used, all is grouped anew.

use std::collections::{BTreeSet, HashMap};

use super::Index;
use super::group::{Entry, Grouped};
use super::spans::Span;
use crate::{Ledger, slab};

/// How far into the changes of a ledger an index goes.
pub(super) struct Seen {
    /// Of the ledger.
    pub(super) version: u64,
    shards: Vec<SeenShard>,
}

#[derive(Clone, Default)]
struct SeenShard {
    version: u64,
    /// Of each block.
    notes: Vec<u64>,
}

impl Seen {
    pub(super) const fn nothing() -> Seen {
        Seen { version: 0, shards: Vec::new() }
    }

    /// All changes up to this moment, but for the version of the ledger. Taken before the records are read.
    pub(super) fn now(ledger: &Ledger) -> Seen {
        let mut seen = Seen::nothing();
        for (number, shard) in ledger.each_shard() {
            *seen.shard(number) = SeenShard { version: shard.version(), notes: shard.slab.notes() };
        }
        seen
    }

    fn shard(&mut self, number: usize) -> &mut SeenShard {
        if self.shards.len() <= number {
            self.shards.resize(number + 1, SeenShard::default());
        }
        &mut self.shards[number]
    }

    pub(super) fn apply(&mut self, newer: Vec<Newer>) {
        for Newer { shard, version, blocks } in newer {
            let seen = self.shard(shard);
            seen.version = version;
            for (block, note) in blocks {
                if seen.notes.len() <= block {
                    seen.notes.resize(block + 1, 0);
                }
                seen.notes[block] = note;
            }
        }
    }
}

/// What an update saw of a shard that had changed.
pub(super) struct Newer {
    shard: usize,
    version: u64,
    /// The blocks whose note was another.
    blocks: Vec<(usize, u64)>,
}

/// What happened since an index was made.
pub(super) struct Changes {
    /// The groups that an opened record belongs to, or a closed one was in.
    old: BTreeSet<u32>,
    /// What was opened, and what is live in those groups.
    pub(super) entries: Vec<Entry>,
    pub(super) seen: Vec<Newer>,
}

impl Changes {
    /// `None` if there are many.
    pub(super) fn since(index: &Index, seen: &Seen, ledger: &Ledger) -> Option<Changes> {
        // So many can be grouped again in less time than all.
        let limit = 16 + index.records / 8;
        let (mut old, mut entries, mut newer) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut closed = 0;
        let nothing = SeenShard::default();
        for (number, shard) in ledger.each_shard() {
            let (seen, version) = (seen.shards.get(number).unwrap_or(&nothing), shard.version());
            if seen.version == version {
                continue;
            }
            let (known, mut blocks) = (&index.of[number], Vec::new());
            shard.slab.each_block(|block, note, places| {
                if seen.notes.get(block).copied().unwrap_or(0) == note {
                    return true;
                }
                blocks.push((block, note));
                for n in places {
                    let (before, group) = known.get(n as usize).copied().unwrap_or((0, 0));
                    if before == shard.slab.live_generation(slab::nth(n)) {
                        continue;
                    }
                    if before != 0 {
                        old.insert(group);
                        closed += 1;
                    }
                    entries.extend(ledger.record_in(number, slab::nth(n)).map(|record| Entry::new(&record, None)));
                }
                closed + entries.len() <= limit
            });
            if closed + entries.len() > limit {
                return None;
            }
            newer.push(Newer { shard: number, version, blocks });
        }
        for entry in &entries {
            // An empty view is told by its address.
            let hi = entry.hi.max(entry.lo.saturating_add(1));
            old.extend(index.spans.touched(entry.space, entry.lo, hi));
            old.extend(index.position_of(entry.parent));
            old.extend(index.empty.between(entry.space, entry.lo, hi).filter_map(|id| index.position_of(id)));
        }
        let mut members = 0;
        for &position in &old {
            let group = &index.groups[position as usize];
            members += group.members().len();
            if members > limit {
                return None;
            }
            let live = group.members().iter().filter_map(|id| ledger.record(*id));
            entries.extend(live.map(|record| Entry::new(&record, Some((group.id, group.generation)))));
        }
        Some(Changes { old, entries, seen: newer })
    }
}

impl Index {
    /// Whether most of it is groups that no record is in any more. All places are read to make it anew, so there are
    /// as many of those as makes that rare.
    pub(super) fn is_worn(&self) -> bool {
        let places: usize = self.of.iter().map(Vec::len).sum();
        self.groups.len() > 2 * self.records + 64 + places / 8
    }

    /// Puts groups in the place of those that their entries were in.
    pub(super) fn replace(&mut self, changes: &Changes, new: Grouped) {
        let mut free: HashMap<u64, u32> = HashMap::new();
        for &position in &changes.old {
            let group = &mut self.groups[position as usize];
            // Without members it is nobody's, until it gets some of them back.
            let (id, space) = (group.id, group.space);
            let emptied = group.empty();
            emptied.starts().for_each(|lo| self.spans.remove(space, lo));
            for id in emptied.members() {
                self.of[id.shard()][slab::number(id.slot()) as usize] = (0, 0);
                self.empty.remove(*id);
            }
            self.records -= emptied.members().len();
            free.insert(id, position);
        }
        let mut positions = Vec::with_capacity(new.groups.len());
        for group in new.groups {
            self.records += group.members().len();
            // A new id is higher than every other, so the order of the groups stays that of their ids.
            let position = free.get(&group.id).copied().unwrap_or(self.groups.len() as u32);
            match self.groups.get_mut(position as usize) {
                Some(place) => *place = group,
                None => self.groups.push(group),
            }
            positions.push(position);
        }
        for span in new.spans {
            self.spans.insert(Span { group: positions[span.group as usize], ..span });
        }
        for (entry, &group) in changes.entries.iter().zip(&new.of_entry) {
            super::place(&mut self.of, entry.id, positions[group as usize]);
        }
        self.empty.add(&changes.entries);
    }
}
