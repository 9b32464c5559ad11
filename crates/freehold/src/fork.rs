//! A forked child starts with an empty ledger: what its parent lent is not the child's to answer for.

use std::sync::Once;

/// Has the process tell its default ledger of forks, and of its end, from the first record on. Cheap to call again.
#[inline]
pub(crate) fn watch() {
    static WATCHED: Once = Once::new();
    if !WATCHED.is_completed() {
        WATCHED.call_once(|| {
            register();
            crate::exit::watch();
        });
    }
}

#[cfg(all(unix, not(miri)))]
fn register() {
    use freehold_ledger::Ledger;

    use crate::runtime::LEDGER;

    // A panic must not unwind into the C library, and a fork has nobody to tell of one.
    fn quietly(hook: fn(&Ledger)) {
        let _ = std::panic::catch_unwind(|| hook(&LEDGER));
    }
    extern "C" fn before() {
        quietly(Ledger::before_fork);
    }
    extern "C" fn parent() {
        quietly(Ledger::after_fork_in_parent);
    }
    extern "C" fn child() {
        crate::canary::leave();
        quietly(Ledger::after_fork_in_child);
    }
    // SAFETY: the three functions are static, unwind nowhere, and call nothing that forks. That the registration fails
    // (no memory) leaves what a process without it has: a child that sees its parent's records.
    unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
}

#[cfg(not(all(unix, not(miri))))]
fn register() {}
