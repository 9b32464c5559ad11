//! Who took which capsule, from level 3 on: for the second consumer's error.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use freehold::ledger::{Counter, Level, Party};
use freehold::{Code, HolderId, Label, Runtime, Tensor};

/// The most capsules that are remembered.
const REMEMBERED: usize = 1024;

/// A capsule's address, what it holds, and who took it. Only touched with the GIL held.
static TAKEN: Mutex<VecDeque<(usize, usize, Party)>> = Mutex::new(VecDeque::new());

/// Notes that we took a capsule.
#[inline]
pub(super) fn note(capsule: usize, managed: usize, tensor: &Tensor) {
    if Runtime::global().ledger().level() >= Level::Sites {
        remember(capsule, managed, tensor);
    }
}

#[cold]
fn remember(capsule: usize, managed: usize, tensor: &Tensor) {
    let party = Runtime::global().ledger().party(tensor.id());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // The address of a capsule that is gone may be another's now.
    taken.retain(|(address, ..)| *address != capsule);
    if taken.len() >= REMEMBERED {
        taken.pop_front();
    }
    taken.push_back((capsule, managed, party));
}

/// A producer sent a capsule of a major version that cannot be read: a hazard from level 3 on, for consumers that do not
/// look at the version read past it.
#[cold]
pub(super) fn refused(framework: Label, site: Label) {
    static GLOBAL: Runtime = Runtime::global();
    if GLOBAL.ledger().level() >= Level::Sites {
        let note = "a capsule of an unknown major version was offered: nothing in it was read".to_owned();
        freehold::report_hazard(&GLOBAL, Code::VE01, &[Party { id: HolderId::NONE, framework, site }], note);
    }
}

/// Counts a capsule that is offered a second time; from level 3 on it is a hazard, with who took it first where that was
/// us. What to add to the error.
#[cold]
pub(super) fn again(capsule: usize, managed: usize, framework: Label, site: Label) -> String {
    static GLOBAL: Runtime = Runtime::global();
    let ledger = GLOBAL.ledger();
    ledger.count(Counter::DoubleConsumed);
    if ledger.level() < Level::Sites {
        return String::new();
    }
    let first = {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = taken.iter().find(|(address, held, _)| (*address, *held) == (capsule, managed));
        found.map_or(Party::NONE, |(.., party)| *party)
    };
    let second = Party { id: HolderId::NONE, framework, site };
    let note = match first.site.as_str() {
        "" => "a capsule was offered that had been consumed".to_owned(),
        line => format!("a capsule was offered that had been consumed at {line}"),
    };
    freehold::report_hazard(&GLOBAL, Code::CP01, &[first, second], note);
    match first.site.as_str() {
        "" => String::new(),
        line => format!("; it was consumed at {line}"),
    }
}
