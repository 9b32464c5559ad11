//! Many threads at once: nothing is lost, nothing is counted twice.

mod common;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{channel, sync_channel};

use common::{array, copy, held_by, ledger, share};
use freehold_ledger::{Counter, HolderDesc, HolderFlags, HolderId, Label, Ledger, Level};
use freehold_tensor::{Code, Device, Steps};

const ROUNDS: u64 = if cfg!(miri) { 40 } else { 20_000 };

fn totals(ledger: &Ledger) -> (u64, u64, u64) {
    let stats = ledger.stats();
    (stats.opened, stats.closed, stats.live.holders)
}

/// Opened on one thread, closed on another, while a third asks questions: deleters run anywhere.
#[test]
fn records_opened_on_one_thread_close_on_another() {
    let ledger = ledger();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel::<HolderId>(64);
        let ledger = &ledger;
        let closer = scope.spawn(move || receive.into_iter().for_each(|id| assert!(ledger.close(id))));
        let reader = scope.spawn(|| {
            let mut looks = 0u64;
            while !done.load(Ordering::Relaxed) || looks == 0 {
                for buffer in ledger.live() {
                    for holder in buffer.members() {
                        // What is reported is one record, not parts of two.
                        assert_eq!(holder.address, 0x1000 * holder.shape[0] as u64);
                        assert_eq!(holder.buffer, buffer.id);
                    }
                }
                assert!(ledger.stats().closed <= ROUNDS);
                ledger.leaks(freehold_ledger::Mark::from_raw(0));
                looks += 1;
            }
        });
        for i in 0..ROUNDS {
            let shape = [1 + (i % 7) as i64];
            let a = array(Label::NUMPY, 0x1000 * shape[0] as u64, &shape);
            // Now and then a record whose dimensions do not fit its place.
            let large = [shape[0], 1, 1, 1, 1];
            let a = if i % 5 == 0 { HolderDesc { shape: &large, strides: &large, ..a } } else { a };
            send.send(ledger.open(&a, None)).expect("the closer receives until the end");
        }
        drop(send);
        closer.join().expect("no panic");
        done.store(true, Ordering::Relaxed);
        reader.join().expect("no panic");
    });
    assert_eq!(totals(&ledger), (ROUNDS, ROUNDS, 0));
    assert!(ledger.hazards().is_empty());
}

/// Three threads close the same ids: each record closes once, every other attempt is counted (X12).
#[test]
fn x12_a_record_that_several_threads_close_closes_once() {
    let ledger = ledger();
    let n = ROUNDS / 4;
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let succeeded = AtomicU64::new(0);
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        let closers: Vec<_> = (0..2)
            .map(|_| {
                let (send, receive) = channel::<Vec<HolderId>>();
                let (ledger, start, succeeded) = (&ledger, &start, &succeeded);
                scope.spawn(move || {
                    let ids = receive.recv().expect("sent");
                    start.wait();
                    let closed = ids.iter().filter(|id| ledger.close(**id)).count();
                    succeeded.fetch_add(closed as u64, Ordering::Relaxed);
                });
                send
            })
            .collect();
        let ids: Vec<HolderId> = (0..n).map(|_| ledger.open(&a, None)).collect();
        closers.iter().for_each(|closer| closer.send(ids.clone()).expect("it waits"));
        start.wait();
        let closed = ids.iter().filter(|id| ledger.close(**id)).count();
        succeeded.fetch_add(closed as u64, Ordering::Relaxed);
    });
    // Two closes that raced both return true; the thread that opened finds out when it uses the places again.
    let again: HashSet<HolderId> = (0..2 * n).map(|_| ledger.open(&a, None)).collect();
    assert_eq!(again.len() as u64, 2 * n);
    let raced = succeeded.into_inner() - n;
    assert_eq!(ledger.counted(Counter::DoubleClosed), 2 * n, "{raced} of them raced");
    assert_eq!(ledger.stats().live.holders, 2 * n);
    assert!(again.into_iter().all(|id| ledger.close(id)));
}

/// A question that starts after a change sees it, whoever made the change, while other threads change and ask as well: each
/// thread asks for what it opened, for what another thread opened, and again when that is closed and its address used anew.
#[test]
fn a_question_sees_every_change_before_it() {
    const THREADS: usize = 3;
    let ledger = ledger();
    let rounds = if cfg!(miri) { 12 } else { ROUNDS / 10 };
    let (mut senders, mut receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel::<(HolderId, u64)>()).unzip();
    senders.rotate_left(1);
    std::thread::scope(|scope| {
        for (thread, (send, receive)) in senders.drain(..).zip(receivers.drain(..)).enumerate() {
            let ledger = &ledger;
            scope.spawn(move || {
                let owner = |address| ledger.owner(Device::CPU, address);
                let mut last = [0; 8];
                for round in 0..rounds {
                    let which = (round % 8) as usize;
                    let address = 0x10_0000 * (thread as u64 + 1) + 0x1000 * which as u64;
                    let id = ledger.open(&array(Label::NUMPY, address, &[3]), None);
                    let buffer = owner(address + 8).expect("it was opened before");
                    assert_eq!(buffer.members().map(|holder| holder.id).collect::<Vec<_>>(), [id]);
                    assert!(buffer.id > last[which], "another buffer at an address that is used again");
                    last[which] = buffer.id;
                    send.send((id, address)).expect("it receives as often");
                    let (id, address) = receive.recv().expect("it sends as often");
                    assert_eq!(owner(address).and_then(|buffer| buffer.owner).map(|owner| owner.id), Some(id));
                    assert!(ledger.close(id));
                    assert!(owner(address).is_none(), "it was closed before");
                    // A close by the thread that opened, too.
                    let mine = ledger.open(&array(Label::TORCH, address + 0x800, &[3]), None);
                    assert!(owner(address + 0x810).is_some() && ledger.close(mine) && owner(address + 0x810).is_none());
                }
            });
        }
    });
    let n = 2 * rounds * THREADS as u64;
    assert_eq!(totals(&ledger), (n, n, 0));
}

/// Flags that different threads set on one record are all there; none reaches a record that comes after it.
#[test]
fn flags_set_from_several_threads_are_all_kept() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[3]);
    for _ in 0..ROUNDS / 40 {
        let id = ledger.open(&a, None);
        std::thread::scope(|scope| {
            for flag in [HolderFlags::EXPORTED, HolderFlags::CONSUMED, HolderFlags::FROZEN] {
                let ledger = &ledger;
                scope.spawn(move || ledger.update_flags(id, flag, HolderFlags::empty()));
            }
        });
        let all = HolderFlags::EXPORTED | HolderFlags::CONSUMED | HolderFlags::FROZEN;
        assert_eq!(ledger.holder(id).expect("open").flags, all);
        let next = std::thread::scope(|scope| {
            let ledger = &ledger;
            scope.spawn(move || ledger.update_flags(id, HolderFlags::COPIED, HolderFlags::empty()));
            assert!(ledger.close(id));
            ledger.open(&a, None)
        });
        assert_eq!(ledger.holder(next).expect("open").flags, HolderFlags::empty());
        ledger.close(next);
    }
}

/// More threads than shards: those beyond the last share one.
#[test]
fn more_threads_than_shards_work() {
    let threads = if cfg!(miri) { 4 } else { 300 };
    let ledger = ledger();
    let (open, close) = (Barrier::new(threads), Barrier::new(threads));
    let ids: Vec<HolderId> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|i| {
                let (ledger, open, close) = (&ledger, &open, &close);
                scope.spawn(move || {
                    let a = array(Label::NUMPY, 0x1000 * (i as u64 + 1), &[3]);
                    let owner = ledger.open(&a, None);
                    open.wait();
                    let held = ledger.open(&held_by(Label::TORCH, &a), Some(&share(owner, Label::NUMPY, &[])));
                    let edge = copy(owner, Label::NUMPY, Steps::CAST, &[Code::CA01], 24);
                    let copied = ledger.open(&array(Label::JAX, 0x100_0000 + i as u64, &[0]), Some(&edge));
                    close.wait();
                    assert!(ledger.close(held) && ledger.close(copied));
                    owner
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let n = threads as u64;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), threads);
    assert_eq!(totals(&ledger), (3 * n, 2 * n, n));
    let stats = ledger.stats();
    assert_eq!(
        stats.handovers.iter().map(|h| (h.from, h.to, h.count)).collect::<Vec<_>>(),
        [("numpy", "jax", n), ("numpy", "torch", n)]
    );
    assert_eq!((stats.copied[0].count, stats.copied[0].bytes), (n, 24 * n));
    assert_eq!(ledger.live().len(), threads);
    assert!(ids.into_iter().all(|id| ledger.close(id)), "the threads that opened them are gone");
    assert!(ledger.live().is_empty());
}

/// A holder that is let go by the destructor of a thread-local, after the thread's own part of the ledger ended.
#[test]
fn holders_close_while_their_thread_ends() {
    static LEDGER: Ledger = Ledger::new(Level::Records);

    struct Held(HolderId);
    impl Drop for Held {
        fn drop(&mut self) {
            assert!(LEDGER.close(self.0));
            let again = LEDGER.open(&array(Label::NUMPY, 0x1000, &[3]), None);
            assert!(!again.is_none() && LEDGER.close(again));
        }
    }
    thread_local!(static HELD: std::cell::RefCell<Vec<Held>> = const { std::cell::RefCell::new(Vec::new()) });

    for early in [false, true] {
        let worker = std::thread::spawn(move || {
            if early {
                // Registers this destructor before the ledger's, so that they run in the other order.
                HELD.with(|held| held.borrow_mut().reserve(1));
            }
            let id = LEDGER.open(&array(Label::NUMPY, 0x1000, &[3]), None);
            HELD.with(|held| held.borrow_mut().push(Held(id)));
        });
        worker.join().expect("no panic");
    }
    assert_eq!(totals(&LEDGER), (4, 4, 0));
}

/// A panic in the caller's code leaves the ledger as usable as before.
#[test]
fn a_panic_in_a_callback_leaves_no_lock_behind() {
    let ledger = ledger();
    let id = ledger.open(&array(Label::NUMPY, 0x1000, &[3]), None);
    let caught = catch_unwind(AssertUnwindSafe(|| ledger.foreach(&mut |_| resume_unwind(Box::new("of the caller")))));
    assert!(caught.is_err());

    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            resume_unwind(Box::new("of the writer"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert!(catch_unwind(AssertUnwindSafe(|| ledger.write_json(Broken, false))).is_err());

    // From another thread, so that a lock left behind would be one that this thread cannot have.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(ledger.live().len(), 1);
            ledger.hazard(Code::IN01, &[id], "a panic was caught".to_owned());
            assert!(ledger.close(id));
            assert_eq!(ledger.stats().closed, 1);
        });
    });
}

/// Queries may run inside a query's callback: nothing is locked there.
#[test]
fn a_callback_may_ask_and_change_the_ledger() {
    let ledger = ledger();
    let first = ledger.open(&array(Label::NUMPY, 0x1000, &[3]), None);
    let mut seen = 0;
    ledger.foreach(&mut |holder| {
        seen += 1;
        assert!(ledger.owner(holder.device, holder.address).is_some());
        assert!(ledger.close(first));
        let other = ledger.open(&array(Label::TORCH, 0x9000, &[3]), None);
        ledger.snapshot();
        assert!(ledger.close(other));
        false
    });
    assert_eq!(seen, 1);
    assert_eq!(totals(&ledger), (2, 2, 0));
}

/// The lists are bounded, the totals are not.
#[test]
#[cfg_attr(miri, ignore = "one thread, no unsafe code, many rounds")]
fn what_is_dropped_from_a_list_is_counted() {
    let ledger = ledger();
    let (copies, hazards) = (10_000, 3000);
    let a = array(Label::TORCH, 0x1000, &[0]);
    for _ in 0..copies {
        let edge = copy(HolderId::NONE, Label::NUMPY, Steps::FRESH, &[], 8);
        ledger.close(ledger.open(&a, Some(&edge)));
    }
    for i in 0..hazards {
        ledger.hazard(Code::AL01, &[], format!("hazard {i}"));
    }
    let stats = ledger.stats();
    let (kept_copies, kept_hazards) = (ledger.copies(), ledger.hazards());
    assert_eq!(kept_copies.len() as u64 + stats.copies_dropped, copies);
    assert_eq!(kept_hazards.len() as u64 + stats.hazards_dropped, hazards);
    assert_eq!((kept_copies.len(), kept_hazards.len()), (4096, freehold_ledger::HAZARDS_KEPT));
    assert_eq!(kept_hazards.last().expect("kept").note, format!("hazard {}", hazards - 1));
    assert_eq!((stats.copied[0].count, stats.copied[0].bytes), (copies, 8 * copies));
    assert_eq!(stats.hazards[0].count, hazards);
}
