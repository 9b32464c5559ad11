//! The records of a tensor on the ledger: its own, and those of whoever it goes to.

use freehold_ledger::{Describe, Edge, HolderDesc, HolderFlags, HolderId, Level, Role};
use freehold_tensor::Steps;

use crate::export::{Returned, Taker};
use crate::{Code, Decision, Label, Tensor, Traits, Verdict, canary};

impl Tensor {
    /// Opens the ledger record of a new tensor, which has one handle.
    #[inline]
    pub(crate) fn record(&mut self, role: Role, site: Label, edge: Option<&Edge<'_>>) {
        let ledger = self.0.runtime.books();
        let level = ledger.level();
        if level != Level::Off {
            let id = ledger.open_under(level, New { tensor: self, role, site, edge });
            self.own(id);
        }
    }

    /// Opens the record of what came in; `returned` tells whether it is an export of ours that came back.
    // By value, as those below: a tensor whose address is taken is in memory, not in a register.
    #[inline(always)]
    pub(crate) fn record_import(self, site: Label, returned: impl FnOnce() -> Option<Returned>) -> Tensor {
        if self.0.runtime.ledger().is_off() { self } else { self.record_import_on(site, returned) }
    }

    // Not inlined, as `lend` is not.
    #[inline(never)]
    fn record_import_on(mut self, site: Label, returned: impl FnOnce() -> Option<Returned>) -> Tensor {
        if let Some(returned) = returned() {
            return self.record_return(returned, site);
        }
        let ledger = self.0.runtime.books();
        let new = New { tensor: &self, role: Role::Owner, site, edge: None };
        match ledger.open_usual(ledger.level(), new) {
            Some(id) => {
                self.own(id);
                self
            }
            None => self.record_unusual(site),
        }
    }

    /// Apart from the other, which must stay short.
    #[cold]
    #[inline(never)]
    fn record_unusual(mut self, site: Label) -> Tensor {
        self.record(Role::Owner, site, None);
        self.watched()
    }

    fn watched(self) -> Tensor {
        if self.0.runtime.ledger().watches() {
            canary::recorded(&self);
        }
        self
    }

    #[inline]
    fn own(&mut self, id: HolderId) {
        if let Some(inner) = self.0.get_mut() {
            inner.holder = id;
            inner.owns_record = true;
        }
    }

    /// Opens the record of an export of ours that came back: a view of what was exported.
    #[cold]
    #[inline(never)]
    fn record_return(mut self, returned: Returned, site: Label) -> Tensor {
        let edge = Edge {
            from: returned.holder,
            from_framework: returned.consumer,
            to: Label::NONE,
            verdict: Verdict::Share,
            steps: Steps::empty(),
            reasons: &[],
            bytes: 0,
            sync: freehold_ledger::Sync::None,
        };
        // One that was not recorded when it left is an owner's, as any other capsule.
        let known = !returned.holder.is_none();
        self.record(if known { Role::Holder } else { Role::Owner }, site, known.then_some(&edge));
        self.watched()
    }

    /// Notes a copy into this tensor's memory.
    pub(crate) fn copied(&self, edge: &Edge<'_>, site: Label) {
        let desc = self.0.holder_desc(self.layout(), Role::Holder, site);
        self.0.runtime.ledger().copied(self.0.holder, &desc, edge);
    }

    /// Notes a copy of this tensor into memory that has no record.
    pub(crate) fn copied_away(&self, edge: &Edge<'_>, site: Label) {
        let desc = self.0.holder_desc(self.layout(), Role::Holder, site);
        self.0.runtime.ledger().copied(HolderId::NONE, &desc, edge);
    }

    /// The record of somebody to whom the memory goes: a share of what is here.
    // Not inlined: what the caller has in registers stays there, and all others are this one's, with what it is told in some.
    #[inline(never)]
    pub(crate) fn lend(&self, level: Level, consumer: Label, site: Label, taken: bool) -> HolderId {
        self.lend_here(level, consumer, site, taken)
    }

    /// As [`Tensor::lend`], in the caller.
    #[inline(always)]
    pub(crate) fn lend_here(&self, level: Level, consumer: Label, site: Label, taken: bool) -> HolderId {
        let to = Taker { consumer, site, taken };
        let id = self.0.runtime.ledger().open_usual(level, Lent { tensor: self, to, reasons: &[] });
        id.unwrap_or_else(|| self.lend_unusual(consumer, site, taken))
    }

    /// Apart from the other, which must stay short.
    #[cold]
    #[inline(never)]
    fn lend_unusual(&self, consumer: Label, site: Label, taken: bool) -> HolderId {
        let (ledger, to) = (self.0.runtime.books(), Taker { consumer, site, taken });
        ledger.open_under(ledger.level(), Lent { tensor: self, to, reasons: &[] })
    }

    /// As [`Tensor::lend`], for the reasons of a decision. A copy's own edge was written when it was made: what leaves is a share
    /// of it.
    #[inline(never)]
    pub(crate) fn lend_decided(&self, level: Level, to: Taker, decision: &Decision) -> HolderId {
        let codes = if decision.verdict == Verdict::Share { decision.codes() } else { Default::default() };
        self.0.runtime.ledger().open_under(level, Lent { tensor: self, to, reasons: &codes })
    }
}

/// A tensor that came to be.
#[derive(Clone, Copy)]
struct New<'a> {
    tensor: &'a Tensor,
    role: Role,
    site: Label,
    edge: Option<&'a Edge<'a>>,
}

// SAFETY: only the tensor is read.
unsafe impl Describe for New<'_> {
    #[inline(always)]
    fn holder(&self) -> HolderDesc<'_> {
        self.tensor.0.holder_desc(self.tensor.layout(), self.role, self.site)
    }

    #[inline(always)]
    fn edge(&self) -> Option<Edge<'_>> {
        self.edge.copied()
    }
}

/// A share of a tensor that goes to somebody.
#[derive(Clone, Copy)]
struct Lent<'a> {
    tensor: &'a Tensor,
    to: Taker,
    reasons: &'a [Code],
}

// SAFETY: only the tensor is read.
unsafe impl Describe for Lent<'_> {
    #[inline(always)]
    fn holder(&self) -> HolderDesc<'_> {
        let inner = &*self.tensor.0;
        let mut flags = if self.to.taken { HolderFlags::CONSUMED } else { HolderFlags::EXPORTED };
        if !inner.traits.is_empty() {
            flags.set(HolderFlags::READ_ONLY, !self.tensor.is_writable());
            flags.set(HolderFlags::DETACHED, inner.traits.contains(Traits::DETACHED));
            flags.set(HolderFlags::FROZEN, inner.traits.contains(Traits::FROZEN));
        }
        let desc = inner.holder_desc(self.tensor.layout(), Role::Holder, self.to.site);
        HolderDesc { framework: self.to.consumer, flags, ..desc }
    }

    #[inline(always)]
    fn edge(&self) -> Option<Edge<'_>> {
        Some(Edge {
            from: self.tensor.0.holder,
            from_framework: self.tensor.0.framework,
            to: Label::NONE,
            verdict: Verdict::Share,
            steps: Steps::empty(),
            reasons: self.reasons,
            bytes: 0,
            sync: freehold_ledger::Sync::None,
        })
    }
}
