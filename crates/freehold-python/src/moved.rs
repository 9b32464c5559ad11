//! Level 4: owners that move or free memory that is still lent.
//!
//! What an object lent is looked up again where the object is: PyTorch's `storage.resize_(0)`, NumPy's
//! `resize(refcheck=False)` and JAX's `delete()` free memory under a live view, and none of them says so.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use freehold::ledger::{HolderFlags, Level, Party};
use freehold::{Code, HolderId, Runtime, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::call;
use crate::source::{Adapter, Kind};

/// The most objects that are looked at again.
const REMEMBERED: usize = 4096;

struct Lender {
    object: Py<PyWeakrefReference>,
    address: usize,
    holder: HolderId,
}

/// Only touched with the GIL held; the lock is never held across Python.
static LENDERS: Mutex<VecDeque<Lender>> = Mutex::new(VecDeque::new());

fn with<R>(f: impl FnOnce(&mut VecDeque<Lender>) -> R) -> R {
    f(&mut LENDERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Notes where an object's memory is, at level 4.
#[inline]
pub(crate) fn remember(x: &Bound<'_, PyAny>, kind: Kind, tensor: &Tensor) {
    if Runtime::global().ledger().level() >= Level::Canaries {
        note(x, kind, tensor);
    }
}

#[cold]
fn note(x: &Bound<'_, PyAny>, kind: Kind, tensor: &Tensor) {
    let address = tensor.data_ptr().addr();
    // A capsule cannot be asked twice, and what has no elements has no memory to move.
    if tensor.id().is_none() || tensor.numel() == 0 || matches!(kind.adapter, Adapter::Capsule | Adapter::Freehold) {
        return;
    }
    let Ok(object) = PyWeakrefReference::new(x) else { return };
    // Only what gives the same answer twice can be asked later.
    if call::look(x).is_ok_and(|again| again.data_ptr().addr() == address) {
        let lender = Lender { object: object.unbind(), address, holder: tensor.id() };
        let forgotten = with(|lenders| {
            lenders.push_back(lender);
            if lenders.len() > REMEMBERED { lenders.pop_front() } else { None }
        });
        drop(forgotten);
    }
}

/// Looks at what is remembered: an owner whose memory is elsewhere now is a hazard, with everyone who still has a view.
pub(crate) fn look(py: Python<'_>) {
    if with(|lenders| !lenders.is_empty()) {
        look_now(py);
    }
}

#[cold]
fn look_now(py: Python<'_>) {
    static GLOBAL: Runtime = Runtime::global();
    let ledger = GLOBAL.ledger();
    let lenders = with(std::mem::take);
    let mut kept = VecDeque::with_capacity(lenders.len());
    for lender in lenders {
        // A record that cannot be changed is closed: the loan is over.
        if !ledger.update_flags(lender.holder, HolderFlags::empty(), HolderFlags::empty()) {
            continue;
        }
        let Some(object) = lender.object.bind(py).upgrade() else { continue };
        let now = call::look(&object);
        if now.as_ref().is_ok_and(|tensor| tensor.data_ptr().addr() == lender.address) {
            kept.push_back(lender);
            continue;
        }
        let owner = ledger.party(lender.holder);
        let mut parties: Vec<Party> = vec![owner];
        let aliases = ledger.aliases(lender.holder);
        parties.extend(aliases.iter().map(|alias| ledger.party(alias.holder.id)));
        let buffer = ledger.holder(lender.holder).map_or(0, |holder| holder.buffer);
        let note = format!(
            "{} moved or freed the memory of buffer #{buffer} while it was lent: what still has a view of it reads and writes \
             freed memory",
            owner.framework.as_str()
        );
        freehold::report_hazard(&GLOBAL, Code::CP03, &parties, note);
    }
    with(|lenders| {
        kept.append(lenders);
        *lenders = kept;
    });
}
