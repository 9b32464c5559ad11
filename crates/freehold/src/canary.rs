//! Level 4: watching for what nobody may do.
//!
//! Three things are watched, and only what was lent, copied or exported while the level was 4:
//!
//! * **Memory that is lent read-only or frozen** has a checksum, taken when it goes and compared when it comes back
//!   (frozen memory at every level).
//! * **Exports** are known by their address, so that a deleter that is called twice, or with a pointer that is not ours, is
//!   seen before the pointer is read ([`exports`]).
//! * **Memory of ours that was given back** is filled with a pattern and kept a while ([`quarantine`]).
//!
//! Below level 4 none of this is reached: a tensor without a [`Watch`] and an export with the plain deleter are what they
//! were.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_ledger::{HolderId, Level, Party};
use freehold_tensor::Extent;

use crate::tensor::{Inner, Owner, unit_of};
use crate::{Code, Label, Layout, Runtime, Tensor, Traits, trace};

pub(crate) mod exports;
mod quarantine;

/// A forked child watches nothing of its parent's: another thread may have held a lock. It believes every deleter.
static CHILD: AtomicBool = AtomicBool::new(false);

/// Called in a forked child.
#[cfg(all(unix, not(miri)))]
pub(crate) fn leave() {
    CHILD.store(true, Ordering::Relaxed);
}

fn in_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}

/// What is watched of a tensor.
pub(crate) struct Watch {
    /// Of the bytes as they were when the tensor was lent.
    checksum: Option<u64>,
    /// Whether its memory, which is ours, is kept a while after its end.
    keep: bool,
    /// Whom it was lent to last.
    lent: Mutex<Party>,
}

impl Watch {
    /// For memory of ours that was just allocated.
    pub(crate) fn ours(runtime: &Runtime) -> Option<Box<Watch>> {
        let watch = || Box::new(Watch { checksum: None, keep: true, lent: Mutex::new(Party::NONE) });
        (runtime.ledger().level() >= Level::Canaries).then(watch)
    }

    /// For a loan during which the bytes must not change; `None` where they cannot be read.
    pub(crate) fn lent(inner: &Inner, layout: Layout<'_>, to: Party) -> Option<Box<Watch>> {
        let checksum = checksum(inner, layout)?;
        Some(Box::new(Watch { checksum: Some(checksum), keep: false, lent: Mutex::new(to) }))
    }

    fn lend_to(&self, to: Party) {
        // A forked child may have inherited the lock from a thread that it has not: then this is not noted.
        if let Ok(mut lent) = self.lent.try_lock() {
            *lent = to;
        }
    }

    fn party(&self) -> Party {
        self.lent.try_lock().map_or_else(|_| Party::NONE, |party| *party)
    }

    /// The end of the tensor, before anything is given back: its record is still open.
    #[cold]
    pub(crate) fn end(&self, inner: &mut Inner, layout: Layout<'_>) {
        if let Some(before) = self.checksum
            && checksum(inner, layout).is_some_and(|now| now != before)
        {
            self.changed(inner, layout);
        }
        if self.keep && matches!(inner.owner, Owner::Buffer(_)) {
            let desc = inner.desc(layout).to_string();
            let last = match self.party() {
                // Nobody but us ever had it.
                none if none == Party::NONE => inner.runtime.ledger().party(inner.holder),
                last => last,
            };
            let owner = std::mem::replace(&mut inner.owner, Owner::Borrowed);
            quarantine::keep(owner, desc, last, inner.runtime.clone());
        }
    }

    fn changed(&self, inner: &Inner, layout: Layout<'_>) {
        let ledger = inner.runtime.ledger();
        let buffer =
            ledger.holder(inner.holder).map_or_else(|| "a buffer".into(), |held| format!("buffer #{}", held.buffer));
        let lent = self.party();
        let note = format!("{buffer} changed while lent to {}: {}", lent.framework.as_str(), inner.desc(layout));
        trace::hazard(&inner.runtime, Code::AL01, &[ledger.party(inner.holder), lent], note);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("checksum", &self.checksum).field("keep", &self.keep).finish_non_exhaustive()
    }
}

fn checksum(inner: &Inner, layout: Layout<'_>) -> Option<u64> {
    let unit = unit_of(inner.traits);
    let extent: Extent = layout.extent(inner.dtype, inner.traits.contains(Traits::PADDED), unit).ok()?;
    if !inner.device.kind.is_host() || extent.is_empty() {
        return None;
    }
    let len = usize::try_from(extent.len()).ok()?;
    // SAFETY: the extent was validated when the tensor was made, and the owner keeps the bytes readable.
    let bytes = unsafe { std::slice::from_raw_parts(inner.data.offset(extent.lo as isize), len) };
    Some(xxhash_rust::xxh3::xxh3_64(bytes))
}

impl Tensor {
    /// Takes a checksum now and checks it when the last holder lets go: a difference is the hazard `AL01`. Reads
    /// every byte of the extent twice in all; host memory only (elsewhere it watches nothing). `to`: whom it is lent to.
    ///
    /// ```
    /// use freehold::{Code, Label, Runtime, Tensor};
    ///
    /// let t = Tensor::from(vec![1u8, 2]);
    /// let lent = t.watch(Label::TORCH);
    /// // SAFETY: the memory is a vector of ours, and nobody else looks at it.
    /// unsafe { t.data_ptr().write(9) };
    /// drop(lent);
    /// assert_eq!(Runtime::global().ledger().hazards()[0].code, Code::AL01);
    /// ```
    pub fn watch(&self, to: Label) -> Tensor {
        self.watch_at(to, Label::NONE)
    }

    /// As [`Tensor::watch`], with the caller's label.
    pub(crate) fn watch_at(&self, to: Label, site: Label) -> Tensor {
        let party = Party { id: HolderId::NONE, framework: to, site };
        self.derive(|inner| {
            inner.watch = Watch::lent(inner, self.layout(), party);
            inner.traits |= Traits::FROZEN;
        })
    }

    /// The tensor that a new holder has: at level 4 one that is watched, if the holder's view is read-only or frozen.
    /// Frozen memory, watched at every level, learns whom it went to.
    #[must_use]
    pub fn lent_to(self, holder: HolderId, framework: Label, site: Label) -> Tensor {
        let to = Party { id: holder, framework, site };
        if let Some(watch) = &self.0.watch {
            watch.lend_to(to);
            if watch.checksum.is_some() {
                return self;
            }
        }
        let promised = !self.is_writable() || self.traits().contains(Traits::FROZEN);
        if !promised || self.runtime().ledger().level() < Level::Canaries {
            return self;
        }
        self.derive(|inner| inner.watch = Watch::lent(inner, self.layout(), to))
    }
}

/// A tensor came in, at level 4: one that can be written although its framework had been lent the memory read-only is a
/// hazard.
#[cold]
pub(crate) fn recorded(tensor: &Tensor) {
    let runtime = tensor.runtime();
    if !tensor.is_writable() {
        return;
    }
    for conflict in runtime.ledger().conflicts_of(tensor.id()) {
        if conflict.code == Code::RO01 && conflict.writer.id == tensor.id() {
            let (writer, owner) =
                (runtime.ledger().party(conflict.writer.id), runtime.ledger().party(conflict.other.id));
            let note = format!(
                "{} came back writable from {}, to which it was lent read-only: {} owns it",
                tensor.desc(),
                writer.framework.as_str(),
                owner.framework.as_str()
            );
            trace::hazard(runtime, Code::RO01, &[owner, writer], note);
        }
    }
}

/// A capsule that its owner frees although nobody took it: counted, and a hazard with its holder from level 3 on.
pub(crate) fn unconsumed(runtime: &Runtime, holder: HolderId) {
    let ledger = runtime.ledger();
    ledger.count(freehold_ledger::Counter::UnconsumedCapsules);
    if ledger.level() >= Level::Sites {
        let party = ledger.party(holder);
        let lender = ledger.holder(holder).map_or(HolderId::NONE, |report| report.parent);
        let note = "a capsule was freed that nobody had consumed".to_owned();
        trace::hazard(runtime, Code::CP01, &[ledger.party(lender), party], note);
    }
}

/// Looks now at freed memory that is kept: what was written to since is a hazard.
///
/// ```
/// use freehold::{DType, Runtime, Tensor, ledger::Level};
///
/// let runtime = Runtime::new(Level::Canaries);
/// let t = Tensor::zeros(DType::U8, &[4], &runtime)?;
/// let stale = t.data_ptr();
/// drop(t);
/// // SAFETY: at this level the memory is kept a while.
/// unsafe { stale.write(1) };
/// freehold::sweep();
/// assert!(runtime.ledger().hazards()[0].note.contains("u8[4]"));
/// # Ok::<(), freehold::Error>(())
/// ```
pub fn sweep() {
    quarantine::look();
}
