//! The threads that help a large copy.
//!
//! Work is lent: it lies on its caller's stack, and is offered to helpers that have nothing to do. Who wakes too late finds that
//! it was taken back, so nobody waits for a thread that has not begun. To wake a thread takes some 50 us on a virtual machine, in
//! which a core copies megabytes: both sides stay awake for as long, once, before they sleep.
//!
//! Why not rayon-core: its threads sleep between two copies, and each copy pays for waking them. Over the table of two threads in a
//! shared cache (docs/benchmarks.md) these threads copy 28 % more per second in the median, and rows behind the better framework
//! went from 22 of 55 to 8.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::without_provenance_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Thread, available_parallelism, current, park};
use std::time::{Duration, Instant};

/// How long a thread stays awake that has nothing to do.
pub(super) const AWAKE: Duration = Duration::from_micros(50);

/// What a helper's place holds when nothing is offered there.
const READY: *mut Work = without_provenance_mut(0);
const ASLEEP: *mut Work = without_provenance_mut(1);
const BUSY: *mut Work = without_provenance_mut(2);

/// Work that a caller lends to helpers.
struct Work {
    call: *const (dyn Fn() + Sync),
    caller: Thread,
    /// Helpers that have ended.
    ended: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Where a helper finds work, on lines of the cache of its own.
#[repr(align(128))]
struct Place(AtomicPtr<Work>);

/// Threads that wait for work. They never end.
pub(super) struct Crew {
    helpers: Vec<(&'static Place, Thread)>,
    awake: Duration,
}

impl Crew {
    /// As many helpers as can be had, `n` at most.
    pub(super) fn new(n: usize) -> Crew {
        // Where there is but one processor, who stays awake keeps it from the others.
        let awake = if available_parallelism().is_ok_and(|n| n.get() > 1) { AWAKE } else { Duration::ZERO };
        let helper = |i| {
            let place: &Place = Box::leak(Box::new(Place(AtomicPtr::new(READY))));
            let handle = Builder::new().name(format!("freehold-copy-{i}")).spawn(move || place.help(awake)).ok()?;
            Some((place, handle.thread().clone()))
        };
        Crew { helpers: (0..n).map_while(helper).collect(), awake }
    }

    /// Makes the call here and by up to `most` helpers, and returns when all have ended that began.
    ///
    /// # Panics
    ///
    /// When one does.
    pub(super) fn run(&self, most: usize, call: &(dyn Fn() + Sync)) {
        type Call<'a> = *const (dyn Fn() + Sync + 'a);
        let work = Work {
            // SAFETY: the lifetime alone changes: `Lent` waits for whoever took the work, also where the call panics here.
            call: unsafe { std::mem::transmute::<Call<'_>, Call<'static>>(call) },
            caller: current(),
            ended: AtomicUsize::new(0),
            panic: Mutex::new(None),
        };
        let lent = Lent { crew: self, work: &work, offers: self.offer(&work, most) };
        call();
        drop(lent);
        if let Some(panic) = work.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Offers work to helpers that have none; returns to how many.
    fn offer(&self, work: &Work, most: usize) -> usize {
        let mut offers = 0;
        for (place, thread) in &self.helpers {
            if offers == most {
                break;
            }
            let seen = place.0.load(Ordering::Relaxed);
            // Release: who takes the work sees all of it.
            if (seen == READY || seen == ASLEEP) && place.change(seen, at(work), Ordering::Release) {
                offers += 1;
                if seen == ASLEEP {
                    thread.unpark();
                }
            }
        }
        offers
    }
}

/// What a place holds that is offered this work.
fn at(work: &Work) -> *mut Work {
    std::ptr::from_ref(work).cast_mut()
}

/// Calls again and again, for a while; true as soon as it is told so.
fn wait(awake: Duration, mut done: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    loop {
        for _ in 0..32 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if since.elapsed() >= awake {
            return false;
        }
    }
}

/// Work that helpers have, or may take.
struct Lent<'a> {
    crew: &'a Crew,
    work: &'a Work,
    offers: usize,
}

impl Drop for Lent<'_> {
    /// Takes back what nobody has begun, and waits for what somebody has.
    fn drop(&mut self) {
        // No place holds this work once a helper has taken it: who is woken in vain finds nothing.
        let back = |(place, _): &&(&Place, Thread)| place.change(at(self.work), READY, Ordering::Relaxed);
        let taken = self.offers - self.crew.helpers.iter().filter(back).count();
        // Acquire: what helpers did is seen by who waited for them.
        let ended = || self.work.ended.load(Ordering::Acquire) == taken;
        if !wait(self.crew.awake, ended) {
            while !ended() {
                park();
            }
        }
    }
}

impl Place {
    fn change(&self, from: *mut Work, to: *mut Work, order: Ordering) -> bool {
        self.0.compare_exchange(from, to, order, Ordering::Relaxed).is_ok()
    }

    /// Takes what is offered.
    fn take(&self) -> Option<*mut Work> {
        let seen = self.0.load(Ordering::Relaxed);
        (seen != READY && seen != ASLEEP && self.change(seen, BUSY, Ordering::Acquire)).then_some(seen)
    }

    /// What a helper does.
    fn help(&self, awake: Duration) {
        loop {
            let mut taken = None;
            if !wait(awake, || {
                taken = self.take();
                taken.is_some()
            }) {
                if self.change(READY, ASLEEP, Ordering::Relaxed) {
                    while self.0.load(Ordering::Relaxed) == ASLEEP {
                        park();
                    }
                }
                continue;
            }
            let Some(work) = taken else { continue };
            // SAFETY: whoever lent the work keeps it until this thread is counted below, and touches nothing of it but atomics and
            // the lock.
            let work = unsafe { &*work };
            // SAFETY: as above, what the call refers to.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| unsafe { (*work.call)() })) {
                work.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            }
            let caller = work.caller.clone();
            // Before the caller goes on, whose next work then finds this thread.
            self.0.store(READY, Ordering::Relaxed);
            work.ended.fetch_add(1, Ordering::Release);
            caller.unpark();
        }
    }
}

#[cfg(test)]
#[cfg(not(miri))] // starts threads that never end
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn helpers_work_with_the_caller_whether_they_sleep_or_not() {
        let crew = Crew::new(2);
        for round in 0..40 {
            let all = Barrier::new(3);
            let calls = AtomicUsize::new(0);
            crew.run(2, &|| {
                all.wait();
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), 3);
            if round % 8 == 0 {
                std::thread::sleep(4 * AWAKE);
            }
        }
    }

    #[test]
    fn what_nobody_begins_is_taken_back_and_every_piece_is_done_once() {
        let crew = Crew::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n in 0..2000 {
                        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
                        crew.run(3, &|| {
                            while next.fetch_add(1, Ordering::Relaxed) < n % 7 {
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                        assert_eq!(done.into_inner(), n % 7);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_in_any_thread_reaches_the_caller_and_the_crew_lives_on() {
        let crew = Crew::new(1);
        for in_caller in [false, true] {
            let (all, caller) = (Barrier::new(2), current().id());
            let ended = AtomicBool::new(false);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                crew.run(1, &|| {
                    all.wait();
                    if (current().id() == caller) == in_caller {
                        panic!("as asked");
                    }
                    ended.store(true, Ordering::Relaxed);
                });
            }));
            assert!(caught.is_err() && ended.into_inner(), "{in_caller}");
        }
    }
}
