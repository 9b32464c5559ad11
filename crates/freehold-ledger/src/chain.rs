//! How a holder came to its view: from hand to hand, back to whoever owns the memory.

use freehold_tensor::{Steps, Verdict};
use serde::Serialize;

use crate::index::Index;
use crate::record::Record;
use crate::report::HolderReport;
use crate::{HolderId, Ledger, Role};

/// The longest chain that is followed: a record can name itself as its source only by a caller's mistake.
const LONGEST: usize = 256;

/// What a holder's memory is to the one that it was made from.
///
/// ```
/// use freehold_ledger::{Derivation, Edge, HolderDesc, Label, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::COPY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let copy = HolderDesc { framework: Label::FREEHOLD, address: 0x2000, alloc: None, ..ARRAY };
/// let copy = ledger.open(&copy, Some(&Edge { from: array, ..COPY })); // with a cast
/// assert_eq!(ledger.holder(copy).expect("it is open").derivation(), Some(Derivation::CastOf));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Derivation {
    /// The same memory.
    ViewOf,
    /// New memory with the same values.
    CopyOf,
    /// New memory with the values in another type.
    CastOf,
}

/// One hand that memory went through.
///
/// ```
/// use freehold_ledger::{Derivation, Edge, HolderDesc, Label, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::SHARE;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let view = HolderDesc { role: Role::Holder, framework: Label::TORCH, ..ARRAY };
/// let view = ledger.open(&view, Some(&Edge { from: array, ..SHARE }));
/// let chain = ledger.chain(view);
/// assert_eq!(chain.iter().map(|link| link.holder.framework).collect::<Vec<_>>(), ["numpy", "torch"]);
/// assert_eq!((chain[0].derivation, chain[1].derivation), (None, Some(Derivation::ViewOf)));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChainLink {
    /// Who.
    pub holder: HolderReport,
    /// What it is to the link before; `None` for the first.
    pub derivation: Option<Derivation>,
}

impl HolderReport {
    /// What its memory is to its source's; `None` if the record has no source.
    pub fn derivation(&self) -> Option<Derivation> {
        derivation(self.verdict?, self.steps)
    }
}

fn derivation(verdict: Verdict, steps: Steps) -> Option<Derivation> {
    match verdict {
        Verdict::Share => Some(Derivation::ViewOf),
        Verdict::Copy if steps.contains(Steps::CAST) => Some(Derivation::CastOf),
        Verdict::Copy => Some(Derivation::CopyOf),
        Verdict::Reject => None,
    }
}

impl Ledger {
    /// The hands through which a holder's memory came, the first owner first and the holder last; empty if it is not open.
    ///
    /// Where a framework gives memory back under a capsule of its own, the link to what it was lent is the youngest loan
    /// of that buffer to that framework. A chain begins later where an earlier holder has let go.
    pub fn chain(&self, id: HolderId) -> Vec<ChainLink> {
        let index = self.index();
        let mut links: Vec<ChainLink> = Vec::new();
        let mut next = self.record(id);
        while let Some(record) = next.take() {
            next = self.before(&index, &record);
            let derivation = match (&next, &record.source) {
                (None, _) => None,
                (Some(_), Some(source)) => derivation(source.verdict, source.steps),
                (Some(_), None) => Some(Derivation::ViewOf),
            };
            let Some(holder) = self.holder(record.id) else { break };
            links.push(ChainLink { holder, derivation });
            if links.len() >= LONGEST {
                break;
            }
        }
        links.reverse();
        links
    }

    fn before(&self, index: &Index, record: &Record) -> Option<Record> {
        if let Some(source) = &record.source {
            return self.record(source.from).filter(|from| from.id != record.id);
        }
        let members = index.group_of(record.id)?.members();
        let earlier = members.iter().take_while(|id| **id != record.id).filter_map(|id| self.record(*id));
        earlier.filter(|other| other.role == Role::Holder && other.framework == record.framework).last()
    }
}
