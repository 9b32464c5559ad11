//! What went wrong, or may: recorded, counted, and looked for before anybody asks.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use freehold_tensor::Code;
use smallvec::SmallVec;

use crate::{HolderId, Ledger, Level, Party, clock};

/// The most recent hazards that are kept.
///
/// ```
/// use freehold_ledger::{HAZARDS_KEPT, Ledger, Level};
/// use freehold_tensor::Code;
///
/// let ledger = Ledger::new(Level::Counters);
/// (0..=HAZARDS_KEPT).for_each(|n| ledger.hazard(Code::AL01, &[], n.to_string()));
/// assert_eq!((ledger.hazards().len(), ledger.hazards()[0].note.as_str()), (HAZARDS_KEPT, "1"));
/// assert_eq!(ledger.hazard_count(), HAZARDS_KEPT as u64 + 1);
/// ```
pub const HAZARDS_KEPT: usize = 1024;
/// The most bytes of a hazard's note that are kept.
const NOTE_BYTES: usize = 1024;

/// The hazards that are kept.
pub(crate) struct Hazards {
    pub(crate) recent: VecDeque<Hazard>,
    pub(crate) dropped: u64,
    pub(crate) by_code: Option<HashMap<Code, u64>>,
}

impl Hazards {
    pub(crate) const fn none() -> Hazards {
        Hazards { recent: VecDeque::new(), dropped: 0, by_code: None }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Hazard {
    pub(crate) code: Code,
    /// The holders as they were when it happened.
    pub(crate) holders: SmallVec<[Party; 2]>,
    pub(crate) note: String,
    pub(crate) at: u64,
}

impl Ledger {
    /// Records that something went wrong, or may: the most recent [`HAZARDS_KEPT`] stay, the others are counted.
    ///
    /// Below [`Level::Counters`] nothing is recorded.
    pub fn hazard(&self, code: Code, holders: &[HolderId], note: String) {
        let holders: SmallVec<[Party; 2]> = holders.iter().map(|id| self.party(*id)).collect();
        self.hazard_among(code, &holders, note);
    }

    /// As [`Ledger::hazard`], for holders some of which may be gone: their frameworks and places are the caller's word.
    pub fn hazard_among(&self, code: Code, holders: &[Party], mut note: String) {
        if self.level() == Level::Off {
            return;
        }
        if let Some(end) = (0..=NOTE_BYTES).rev().find(|&i| note.is_char_boundary(i)) {
            note.truncate(end);
        }
        let holders = holders.iter().filter(|party| **party != Party::NONE).copied().collect();
        let hazard = Hazard { code, holders, note, at: clock::exact() };
        self.started(hazard.at);
        let mut hazards = self.hazards.lock();
        *hazards.by_code.get_or_insert_default().entry(code).or_default() += 1;
        let oldest = if hazards.recent.len() >= HAZARDS_KEPT { hazards.recent.pop_front() } else { None };
        hazards.dropped += u64::from(oldest.is_some());
        hazards.recent.push_back(hazard);
        // Once it can be listed.
        self.hazard_count.fetch_add(1, Ordering::Release);
        drop(hazards);
        // Its memory is given back after the lock.
        drop(oldest);
    }

    /// How many hazards there were, those that are no longer kept included: one load and no lock, for who asks after every call.
    #[inline]
    pub fn hazard_count(&self) -> u64 {
        self.hazard_count.load(Ordering::Acquire)
    }

    /// A holder with its framework and place, which are [`Label::NONE`](crate::Label::NONE) if it is not open.
    pub fn party(&self, id: HolderId) -> Party {
        match self.record(id) {
            Some(record) => Party { id, framework: record.framework, site: record.site },
            None => Party { id, ..Party::NONE },
        }
    }

    /// Has `look` called before hazards are listed or counted at [`Level::Canaries`]: to look now at what is watched. Set
    /// once; called under no lock.
    ///
    /// ```
    /// use freehold_ledger::{Ledger, Level};
    /// use freehold_tensor::Code;
    ///
    /// static LEDGER: Ledger = Ledger::new(Level::Canaries);
    ///
    /// LEDGER.before_answers(|| LEDGER.hazard(Code::AL01, &[], "it was changed".to_owned()));
    /// assert_eq!(LEDGER.hazards()[0].note, "it was changed");
    /// ```
    pub fn before_answers(&self, look: fn()) {
        self.look.get_or_init(|| look);
    }

    pub(crate) fn look(&self) {
        if self.level() >= Level::Canaries
            && let Some(look) = self.look.get()
        {
            look();
        }
    }
}
