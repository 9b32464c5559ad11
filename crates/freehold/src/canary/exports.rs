//! The exports that were made at level 4, by their address: what a deleter is called with is looked up before it is read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use freehold_ledger::Party;

use crate::{Code, Runtime, trace};

/// The most released exports whose holders are remembered.
const REMEMBERED: usize = 4096;

struct Known {
    /// Everyone who let it go: the lender, then the holder.
    parties: [Party; 2],
    runtime: Runtime,
}

struct Exports {
    live: Option<HashMap<usize, Known>>,
    /// Released: a second release finds them here.
    gone: VecDeque<(usize, Known)>,
}

static EXPORTS: Mutex<Exports> = Mutex::new(Exports { live: None, gone: VecDeque::new() });

/// Notes an export at an address.
pub(crate) fn add(address: usize, parties: [Party; 2], runtime: Runtime) {
    if super::in_child() {
        return;
    }
    let mut exports = EXPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    exports.gone.retain(|(gone, _)| *gone != address);
    exports.live.get_or_insert_default().insert(address, Known { parties, runtime });
}

/// Whether a deleter may release what is at an address: once, and only what was exported. Anything else is a hazard.
pub(crate) fn may_release(address: usize) -> bool {
    if super::in_child() {
        return true;
    }
    let mut exports = EXPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let live = exports.live.as_mut().and_then(|live| live.remove(&address));
    let forgotten = if exports.gone.len() >= REMEMBERED { exports.gone.pop_front() } else { None };
    if let Some(known) = live {
        exports.gone.push_back((address, known));
        drop(exports);
        drop(forgotten);
        return true;
    }
    let found = exports.gone.iter().find(|(gone, _)| *gone == address);
    let (parties, runtime) = match found {
        Some((_, known)) => (known.parties.to_vec(), known.runtime.clone()),
        None => (Vec::new(), Runtime::global()),
    };
    drop(exports);
    let note = match parties.last().map(|holder| holder.framework.as_str()) {
        Some("") => "a deleter was called twice".to_owned(),
        Some(holder) => format!("{holder} called a deleter twice"),
        None => format!("a deleter of ours was called with {address:#x}, which is no export of ours"),
    };
    trace::hazard(&runtime, Code::CP03, &parties, note);
    false
}
