//! A forked child starts with an empty ledger and can use it at once (X24).
#![cfg(all(unix, not(miri)))]

mod common;

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{array, copy};
use freehold_ledger::{Counter, HolderId, Label, Ledger, Level, Mark};
use freehold_tensor::{Code, Device, Steps};

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn alarm(seconds: u32) -> u32;
}

static LEDGER: Ledger = Ledger::new(Level::Records);

/// What the child finds, as its exit status: 0 if all is well, else the number of what is not.
fn child(inherited: HolderId) -> c_int {
    LEDGER.after_fork_in_child();
    let a = array(Label::NUMPY, 0x9000, &[3]);
    let mut checks: Vec<bool> = vec![
        LEDGER.live().is_empty() && LEDGER.owner(Device::CPU, 0x1000).is_none(),
        LEDGER.leaks(Mark::from_raw(0)).is_empty() && LEDGER.copies().is_empty() && LEDGER.hazards().is_empty(),
        LEDGER.stats().opened == 0 && LEDGER.counted(Counter::DeferredDrops) == 0,
        LEDGER.holder(inherited).is_none(),
    ];
    // A deleter of the parent's memory that runs here closes quietly.
    checks.push(LEDGER.close(inherited));
    checks.push(!LEDGER.close(inherited) && LEDGER.counted(Counter::DoubleClosed) == 1);
    let own = LEDGER.open(&a, Some(&copy(inherited, Label::TORCH, Steps::DEVICE, &[Code::DV01], 24)));
    let live = LEDGER.live();
    checks.push(live.len() == 1 && live[0].owner.as_ref().is_some_and(|owner| owner.id == own));
    checks.push(LEDGER.copies().len() == 1 && LEDGER.text_report().contains("torch -> numpy"));
    checks.push(LEDGER.close(own) && LEDGER.live().is_empty());
    checks.iter().position(|good| !good).map_or(0, |i| i as c_int + 1)
}

#[test]
fn x24_a_child_starts_empty_and_waits_for_no_lock() {
    let done = AtomicBool::new(false);
    let kept = LEDGER.open(&array(Label::NUMPY, 0x1000, &[3]), None);
    LEDGER.hazard(Code::AL01, &[kept], "of the parent".to_owned());
    LEDGER.count(Counter::DeferredDrops);
    std::thread::scope(|scope| {
        // Threads that hold the ledger's locks as much as they can.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                LEDGER.snapshot();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let edge = copy(HolderId::NONE, Label::TORCH, Steps::CAST, &[Code::CA01; 6], 8);
                LEDGER.close(LEDGER.open(&array(Label::JAX, 0x5000, &[1]), Some(&edge)));
            }
        });
        for _ in 0..50 {
            LEDGER.before_fork();
            // SAFETY: the child uses the ledger and the allocator, which glibc and musl keep usable after a fork, and
            // leaves by `_exit` without running anything of the parent's.
            let pid = unsafe { fork() };
            if pid == 0 {
                // SAFETY: as above. The alarm ends a child that waits for a lock.
                unsafe {
                    alarm(20);
                    _exit(child(kept));
                }
            }
            LEDGER.after_fork_in_parent();
            assert!(pid > 0, "fork failed");
            let mut status = 0;
            // SAFETY: `status` may be written.
            assert_eq!(unsafe { waitpid(pid, &mut status, 0) }, pid);
            if status != 0 {
                done.store(true, Ordering::Relaxed);
            }
            assert_eq!(status, 0, "signal {} or check {}", status & 0x7F, status >> 8);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(LEDGER.live().len(), 1, "the parent's ledger is as it was");
    assert_eq!(LEDGER.hazards().len(), 1);
    assert!(LEDGER.close(kept));
}
