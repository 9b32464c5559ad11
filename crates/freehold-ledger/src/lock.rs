//! The lock of the paths that are not hot.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A mutual exclusion lock that never poisons and that a forked child can take over.
///
/// [`std::sync::Mutex`] fits neither need: a panic while it is held makes every later deleter choose what to do
/// about the poison, and the child of a `fork` cannot unlock what the parent locked for it. What is done under this
/// lock is short and calls nothing but the allocator, so it spins, then yields, then sleeps.
pub(crate) struct Lock<T, F = AtomicBool> {
    held: F,
    value: UnsafeCell<T>,
}

/// Whether a lock is held: the standard atomic, or loom's in the model of the lock. (Locks are in statics, where loom's
/// atomics cannot be.)
pub(crate) trait Flag {
    /// Sets it with `Acquire` and returns what it was.
    fn take(&self) -> bool;
    fn is_set(&self) -> bool;
    /// Clears it with `Release`.
    fn clear(&self);
    /// Waits before the next look.
    fn wait(tries: u32);
}

impl Flag for AtomicBool {
    #[inline]
    fn take(&self) -> bool {
        self.swap(true, Ordering::Acquire)
    }

    #[inline]
    fn is_set(&self) -> bool {
        self.load(Ordering::Relaxed)
    }

    #[inline]
    fn clear(&self) {
        self.store(false, Ordering::Release);
    }

    fn wait(tries: u32) {
        match tries {
            0..64 => std::hint::spin_loop(),
            64..256 => std::thread::yield_now(),
            // The holder may have a lower priority than this thread; yielding would then never let it run.
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

// SAFETY: the value is reached only through a `Guard`, of which there is one at a time, so sharing the lock between
// threads only ever moves the value's use from one thread to another.
unsafe impl<T: Send, F: Sync> Sync for Lock<T, F> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }
}

impl<T, F: Flag> Lock<T, F> {
    pub(crate) fn lock(&self) -> Guard<'_, T, F> {
        self.acquire();
        Guard { lock: self }
    }

    /// Takes the lock without a guard; [`Lock::release`] gives it back.
    pub(crate) fn acquire(&self) {
        let mut tries = 0u32;
        while self.held.take() {
            while self.held.is_set() {
                tries = tries.saturating_add(1);
                F::wait(tries);
            }
        }
    }

    /// Gives back a lock that [`Lock::acquire`] took.
    ///
    /// # Safety
    /// * The lock is held through `acquire`, not through a guard, and by nobody who still uses the value.
    pub(crate) unsafe fn release(&self) {
        self.held.clear();
    }
}

pub(crate) struct Guard<'a, T, F: Flag = AtomicBool> {
    lock: &'a Lock<T, F>,
}

impl<T, F: Flag> Deref for Guard<'_, T, F> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, F: Flag> DerefMut for Guard<'_, T, F> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists only while its thread holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, F: Flag> Drop for Guard<'_, T, F> {
    fn drop(&mut self) {
        self.lock.held.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_and_no_poison() {
        let lock = Lock::new(0u32);
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..rounds).for_each(|_| *lock.lock() += 1));
            }
        });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = lock.lock();
            std::panic::resume_unwind(Box::new("while it is held"));
        }));
        assert!(caught.is_err());
        assert_eq!(*lock.lock(), 3 * rounds);
    }
}

#[cfg(all(test, loom))]
mod model {
    use std::sync::Arc;

    use super::*;

    impl Flag for loom::sync::atomic::AtomicBool {
        fn take(&self) -> bool {
            let taken = self.swap(true, Ordering::Acquire);
            if taken {
                loom::thread::yield_now();
            }
            taken
        }

        fn is_set(&self) -> bool {
            // Only saves swaps, and loom would have it read what was there before for ever.
            false
        }

        fn clear(&self) {
            // A swap, because loom lets a plain store slip into another thread's, and the lock would never be free.
            self.swap(false, Ordering::Release);
        }

        fn wait(_: u32) {}
    }

    #[test]
    fn loom_one_thread_at_a_time_sees_what_the_last_one_wrote() {
        loom::model(|| {
            // loom's cell reports a use beside another, and one that is not ordered after it.
            let value = UnsafeCell::new(loom::cell::UnsafeCell::new(0u32));
            let lock = Arc::new(Lock { held: loom::sync::atomic::AtomicBool::new(false), value });
            let add = |lock: &Lock<loom::cell::UnsafeCell<u32>, _>| {
                // SAFETY: loom checks that nobody else uses the value meanwhile.
                lock.lock().with_mut(|value| unsafe { *value += 1 });
            };
            let other = {
                let lock = Arc::clone(&lock);
                loom::thread::spawn(move || add(&lock))
            };
            add(&lock);
            other.join().unwrap();
            // SAFETY: as above.
            lock.lock().with(|value| assert_eq!(unsafe { *value }, 2));
        });
    }
}
