//! Totals of one shard, and the copies it has seen.

use std::collections::{HashMap, VecDeque};

use freehold_tensor::{Code, Steps, Verdict};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::history::History;
use crate::sync::{AtomicU64, Ordering, bump, replace};
use crate::{Edge, HolderDesc, HolderId, Label};

/// The most recent copies that each shard keeps.
pub(crate) const COPIES_KEPT: usize = 4096;
/// The most kinds of copies that each shard counts apart.
const KINDS_KEPT: usize = 4096;

/// From, to, verdict.
pub(crate) type Pair = (Label, Label, Verdict);

/// From, to, and the call site.
pub(crate) type Way = (Label, Label, Label);

/// How often each pair of frameworks shared or copied, without a lock for the pairs that are seen first.
///
/// Only the shard's writer counts here, so a count is a load and a store. A program has few pairs of frameworks; the
/// ones that find no place are counted in [`Cold::handovers`].
pub(crate) struct Pairs {
    entries: [(AtomicU64, AtomicU64); Pairs::LEN],
}

impl Pairs {
    const LEN: usize = 32;
    const PROBES: usize = 4;

    pub(crate) fn new() -> Pairs {
        Pairs { entries: std::array::from_fn(|_| (AtomicU64::new(0), AtomicU64::new(0))) }
    }

    /// Counts one handover; `false` if there is no place for the pair.
    pub(crate) fn count(&self, from: Label, to: Label, verdict: Verdict) -> bool {
        if self.count_known(from, to, verdict) {
            return true;
        }
        let key = Self::key(from, to, verdict);
        let empty = self.probe(key).find(|(place, _)| place.load(Ordering::Relaxed) == 0);
        empty.is_some_and(|(place, count)| {
            bump(count, Ordering::Relaxed);
            replace(place, key, Ordering::Release);
            true
        })
    }

    /// As [`Pairs::count`], of a pair that has its place; `false` also if it has none yet.
    #[inline(always)]
    pub(crate) fn count_known(&self, from: Label, to: Label, verdict: Verdict) -> bool {
        let key = Self::key(from, to, verdict);
        for (place, count) in self.probe(key) {
            if place.load(Ordering::Relaxed) == key {
                bump(count, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn key(from: Label, to: Label, verdict: Verdict) -> u64 {
        // The top bit keeps a key from being 0, which means an empty place.
        1 << 63 | u64::from(from.number()) << 32 | u64::from(to.number()) << 8 | verdict as u64
    }

    /// The places in which a key may be: the first of them that was empty when it came.
    #[inline(always)]
    fn probe(&self, key: u64) -> impl Iterator<Item = &(AtomicU64, AtomicU64)> {
        let start = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59) as usize;
        (0..Self::PROBES).map(move |probe| &self.entries[(start + probe) % Self::LEN])
    }

    /// Calls `f` with every pair and its count.
    pub(crate) fn each(&self, f: &mut dyn FnMut(Pair, u64)) {
        for (place, count) in &self.entries {
            let key = place.load(Ordering::Acquire);
            let verdict = match key as u8 {
                0 => Verdict::Share,
                1 => Verdict::Copy,
                _ => Verdict::Reject,
            };
            if key != 0 {
                let from = Label::from_number((key >> 32) as u32 & (u32::MAX >> 1));
                let to = Label::from_number((key >> 8) as u32 & 0xFF_FFFF);
                f((from, to, verdict), count.load(Ordering::Relaxed));
            }
        }
    }

    /// Forgets every pair. For the child of a fork, where no other thread is left.
    pub(crate) fn clear(&self) {
        for (place, count) in &self.entries {
            place.store(0, Ordering::Relaxed);
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// A copy that was made.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) holder: HolderId,
    pub(crate) from: Label,
    pub(crate) to: Label,
    pub(crate) site: Label,
    pub(crate) steps: Steps,
    pub(crate) reasons: SmallVec<[Code; 4]>,
    pub(crate) bytes: u64,
    pub(crate) at: u64,
    pub(crate) thread: u16,
}

/// What copies have in common that are counted together: frameworks, steps, the first reasons, and the call site.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Kind {
    pub(crate) from: Label,
    pub(crate) to: Label,
    pub(crate) site: Label,
    pub(crate) steps: u8,
    /// Numbers of codes; 0 for none.
    reasons: [u16; Kind::REASONS],
}

impl Kind {
    const REASONS: usize = 4;

    fn of(copy: &Copy) -> Kind {
        let mut reasons = [0; Self::REASONS];
        copy.reasons.iter().zip(&mut reasons).for_each(|(code, place)| *place = *code as u16);
        Kind { from: copy.from, to: copy.to, site: copy.site, steps: copy.steps.bits(), reasons }
    }

    /// The same, without what a program could have without end.
    fn merged(self) -> Kind {
        Kind { from: Label::OTHER, to: Label::OTHER, site: Label::OTHER, ..self }
    }

    pub(crate) fn reasons(&self) -> impl Iterator<Item = Code> {
        self.reasons.into_iter().filter_map(Code::from_number)
    }
}

/// Copies and their bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Volume {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl Volume {
    pub(crate) fn add(&mut self, other: Volume) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The totals that are kept under the shard's lock: a copy or a refusal costs far more than the lock.
#[derive(Default)]
pub(crate) struct Cold {
    pub(crate) copies: VecDeque<Copy>,
    pub(crate) copies_dropped: u64,
    /// All copies, also those that are no longer listed. Their keys, as the pairs', are numbers that this process gave out, which
    /// nobody can choose to collide; a stranger's hasher took 15 % of a small copy.
    pub(crate) copied: FxHashMap<Kind, Volume>,
    pub(crate) refused: HashMap<(Label, Label, Code), u64>,
    pub(crate) handovers: FxHashMap<Pair, u64>,
    /// How often the host waited for a device.
    pub(crate) waited: HashMap<Way, u64>,
    pub(crate) history: History,
}

impl Cold {
    pub(crate) fn copied(&mut self, copy: Copy) {
        let volume = Volume { count: 1, bytes: copy.bytes };
        let kind = Kind::of(&copy);
        let kind = match self.copied.len() < KINDS_KEPT || self.copied.contains_key(&kind) {
            true => kind,
            false => kind.merged(),
        };
        self.copied.entry(kind).or_default().add(volume);
        if self.copies.len() >= COPIES_KEPT {
            self.copies.pop_front();
            self.copies_dropped += 1;
        }
        self.copies.push_back(copy);
    }

    /// Counts one wait of the host for a device.
    pub(crate) fn waited(&mut self, way: Way) {
        let way = match self.waited.len() < KINDS_KEPT || self.waited.contains_key(&way) {
            true => way,
            false => (Label::OTHER, Label::OTHER, Label::OTHER),
        };
        *self.waited.entry(way).or_default() += 1;
    }
}

impl Copy {
    pub(crate) fn new(holder: &HolderDesc<'_>, edge: &Edge<'_>, id: HolderId, at: u64, thread: u16) -> Copy {
        Copy {
            holder: id,
            from: edge.from_framework,
            to: edge.target(holder),
            site: holder.site,
            steps: edge.steps,
            reasons: SmallVec::from_slice(edge.reasons),
            bytes: edge.bytes,
            at,
            thread,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pairs_count_and_say_when_they_are_full() {
        let pairs = Pairs::new();
        let labels: Vec<Label> = (0..200).map(|i| Label::intern(&format!("pair-{i}"))).collect();
        let mut counted = HashMap::new();
        let mut refused = 0;
        for round in 0..3 {
            for (i, &to) in labels.iter().enumerate() {
                let verdict = if i % 2 == 0 { Verdict::Share } else { Verdict::Copy };
                if pairs.count(Label::NUMPY, to, verdict) {
                    *counted.entry((Label::NUMPY, to, verdict)).or_insert(0u64) += 1;
                } else {
                    refused += 1;
                }
            }
            assert!(round == 0 || counted.values().all(|n| *n == round + 1), "a place moved");
        }
        assert!(refused > 0 && counted.len() <= Pairs::LEN);
        let mut found = HashMap::new();
        pairs.each(&mut |pair, n| assert!(found.insert(pair, n).is_none()));
        assert_eq!(found, counted);
        pairs.clear();
        pairs.each(&mut |_, _| panic!("cleared"));
    }

    #[test]
    fn labels_keep_their_numbers_in_a_key() {
        let pairs = Pairs::new();
        assert!(pairs.count(Label::NONE, Label::NONE, Verdict::Share));
        assert!(pairs.count(Label::from_number(131_135), Label::from_number(131_135), Verdict::Copy));
        let mut found = Vec::new();
        pairs.each(&mut |(from, to, verdict), n| found.push((from.number(), to.number(), verdict, n)));
        found.sort_unstable_by_key(|entry| entry.0);
        assert_eq!(found, [(0, 0, Verdict::Share, 1), (131_135, 131_135, Verdict::Copy, 1)]);
    }
}

#[cfg(all(test, loom))]
mod model {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn loom_a_pair_that_is_seen_was_counted() {
        loom::model(|| {
            let pairs = Arc::new(Pairs::new());
            let writer = {
                let pairs = Arc::clone(&pairs);
                loom::thread::spawn(move || {
                    assert!(pairs.count(Label::NUMPY, Label::TORCH, Verdict::Share));
                    assert!(pairs.count(Label::NUMPY, Label::TORCH, Verdict::Share));
                    assert!(pairs.count(Label::NUMPY, Label::JAX, Verdict::Copy));
                })
            };
            let found = |pairs: &Pairs| {
                let mut found = Vec::new();
                pairs.each(&mut |(_, to, verdict), n| found.push((to, verdict, n)));
                found.sort_unstable_by_key(|(to, _, _)| *to);
                found
            };
            for (to, verdict, n) in found(&pairs) {
                assert!(n >= 1 && n <= 1 + u64::from(to == Label::TORCH));
                assert_eq!(verdict, if to == Label::TORCH { Verdict::Share } else { Verdict::Copy });
            }
            writer.join().unwrap();
            let all = [(Label::TORCH, Verdict::Share, 2), (Label::JAX, Verdict::Copy, 1)];
            assert_eq!(found(&pairs), all);
        });
    }
}
