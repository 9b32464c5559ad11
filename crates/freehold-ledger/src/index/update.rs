//! Bringing an index up to date when little has changed since it was made.
//!
//! The hot path leaves no note of what it did, so the places of every shard that did anything are looked at, one word
//! each. What was opened is then grouped with the buffers it touches, what was closed leaves its own, and the result
//! takes their place. After much change, and when much of the index is no longer used, all is grouped anew.

use std::collections::{BTreeSet, HashMap};

use super::{Entry, Grouped, Index, STRIDE, Space, Span};
use crate::{HolderId, Ledger, slab};

/// What happened since an index was made.
pub(super) struct Changes {
    /// The groups that an opened record belongs to, or a closed one was in.
    pub(super) old: BTreeSet<u32>,
    /// What was opened, and what is live in those groups.
    pub(super) entries: Vec<Entry>,
}

impl Changes {
    /// `None` if there are many.
    pub(super) fn since(index: &Index, ledger: &Ledger, versions: &[u64]) -> Option<Changes> {
        // So many can be grouped again in less time than all.
        let limit = 16 + index.records / 8;
        let (mut old, mut entries, mut closed) = (BTreeSet::new(), Vec::new(), 0);
        for (number, shard) in ledger.each_shard().filter(|(number, _)| index.versions[*number] != versions[*number]) {
            let known = &index.of[number];
            for n in 0..shard.slab.used() {
                let (before, group) = known.get(n as usize).copied().unwrap_or((0, 0));
                if before == shard.slab.live_generation(slab::nth(n)) {
                    continue;
                }
                if before != 0 {
                    old.insert(group);
                    closed += 1;
                }
                entries.extend(ledger.record_in(number, slab::nth(n)).map(|record| Entry::new(&record, None)));
                if closed + entries.len() > limit {
                    return None;
                }
            }
        }
        for entry in &entries {
            // An empty view is told by its address.
            let hi = entry.hi.max(entry.lo.saturating_add(1));
            old.extend(index.spans_in(entry.space, entry.lo, hi).iter().map(|span| span.group));
            old.extend(index.position_of(entry.parent));
            let inside =
                |(space, at, _): &&(Space, u64, HolderId)| *space == entry.space && entry.lo <= *at && *at < hi;
            old.extend(index.empty.iter().filter(inside).filter_map(|(_, _, id)| index.position_of(*id)));
        }
        let mut members = 0;
        for &position in &old {
            let group = &index.groups[position as usize];
            members += group.len as usize;
            if members > limit {
                return None;
            }
            let live = index.members(group).iter().filter_map(|id| ledger.record(*id));
            entries.extend(live.map(|record| Entry::new(&record, Some((group.id, group.generation)))));
        }
        Some(Changes { old, entries })
    }
}

impl Index {
    /// Whether more than half of it is what no record uses any more.
    pub(super) fn is_worn(&self) -> bool {
        self.groups.len().max(self.members.len()) > 2 * self.records + 64
    }

    /// Puts groups in the place of those that their entries were in.
    pub(super) fn replace(&mut self, changes: &Changes, new: Grouped) {
        let mut free: HashMap<u64, u32> = HashMap::new();
        let mut touched: Option<(usize, usize)> = None;
        let mut touch = |from: usize, to: usize| {
            touched = Some(touched.map_or((from, to), |(lo, hi)| (lo.min(from), hi.max(to))));
        };
        for &position in &changes.old {
            let group = self.groups[position as usize].clone();
            for (i, span) in self.span_range(group.space, group.lo, group.hi).map(|i| (i, self.spans[i])) {
                if span.group == position {
                    touch(i, i + 1);
                }
            }
            let first = group.first as usize;
            for id in &self.members[first..first + group.len as usize] {
                self.of[id.shard()][slab::number(id.slot()) as usize] = (0, 0);
            }
            self.records -= group.len as usize;
            // Without members it is nobody's, until it gets some of them back.
            let emptied = &mut self.groups[position as usize];
            (emptied.len, emptied.lo, emptied.hi) = (0, 0, 0);
            free.insert(group.id, position);
        }
        for span in &new.spans {
            let at = self.spans.partition_point(|other| (other.space, other.lo) < (span.space, span.lo));
            touch(at, at);
        }

        let mut positions = Vec::with_capacity(new.groups.len());
        for group in &new.groups {
            let members = &new.members[group.first as usize..(group.first + group.len) as usize];
            let first = self.members.len() as u32;
            self.members.extend_from_slice(members);
            self.records += members.len();
            let moved = super::Group { first, ..group.clone() };
            // A new id is higher than every other, so the order of the groups stays that of their ids.
            let position = free.get(&group.id).copied().unwrap_or(self.groups.len() as u32);
            match self.groups.get_mut(position as usize) {
                Some(place) => *place = moved,
                None => self.groups.push(moved),
            }
            positions.push(position);
        }
        for (entry, &group) in changes.entries.iter().zip(&new.of_entry) {
            super::place(&mut self.of, entry.id, positions[group as usize]);
        }

        let kept = std::mem::take(&mut self.empty);
        self.empty = kept.into_iter().filter(|(_, _, id)| self.position_of(*id).is_some()).collect();
        let known: BTreeSet<HolderId> = self.empty.iter().map(|(_, _, id)| *id).collect();
        self.empty.extend(super::empty_among(&changes.entries).filter(|(_, _, id)| !known.contains(id)));

        if let Some((from, to)) = touched {
            let kept = self.spans[from..to].iter().filter(|span| !changes.old.contains(&span.group)).copied();
            let placed = new.spans.iter().map(|span| Span { group: positions[span.group as usize], ..*span });
            let mut between: Vec<Span> = kept.chain(placed).collect();
            between.sort_unstable_by_key(|span| (span.space, span.lo));
            self.spans.splice(from..to, between);
            self.heads.truncate(from / STRIDE);
            let from = self.heads.len() * STRIDE;
            self.heads.extend(self.spans[from..].iter().step_by(STRIDE).map(|span| (span.space, span.lo)));
        }
    }
}
