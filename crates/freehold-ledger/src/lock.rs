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
pub(crate) struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a `Guard`, of which there is one at a time, so sharing the lock between
// threads only ever moves the value's use from one thread to another.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.acquire();
        Guard { lock: self }
    }

    /// Takes the lock without a guard; [`Lock::release`] gives it back.
    pub(crate) fn acquire(&self) {
        let mut tries = 0u32;
        while self.held.swap(true, Ordering::Acquire) {
            while self.held.load(Ordering::Relaxed) {
                tries = tries.saturating_add(1);
                match tries {
                    0..64 => std::hint::spin_loop(),
                    64..256 => std::thread::yield_now(),
                    // The holder may have a lower priority than this thread; yielding would then never let it run.
                    _ => std::thread::sleep(Duration::from_micros(50)),
                }
            }
        }
    }

    /// Gives back a lock that [`Lock::acquire`] took.
    ///
    /// # Safety
    /// * The lock is held through `acquire`, not through a guard, and by nobody who still uses the value.
    pub(crate) unsafe fn release(&self) {
        self.held.store(false, Ordering::Release);
    }
}

pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists only while its thread holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}

#[cfg(test)]
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
