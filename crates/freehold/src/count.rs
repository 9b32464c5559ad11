//! How many handles there are on a tensor.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// A reference count with the orderings of [`std::sync::Arc`], without weak references: so the only holder can let go
/// without an atomic read-modify-write, which is a third of what a short import costs.
pub(crate) struct Count(AtomicU32);

/// Half of the range is left for threads that pass the check at the same time.
const MAX: u32 = u32::MAX / 2;

impl Count {
    /// One holder.
    #[inline]
    pub(crate) fn one() -> Count {
        Count(AtomicU32::new(1))
    }

    /// One more. Ends the process when there are too many, as `Arc` does: only handles that were forgotten on purpose
    /// can become so many, and a count that wraps would free memory in use.
    #[inline]
    pub(crate) fn add(&self) {
        // Relaxed: who makes a new handle has one, so nothing can be freed meanwhile.
        if self.0.fetch_add(1, Ordering::Relaxed) > MAX {
            std::process::abort();
        }
    }

    /// One less; `true` for the last, who must free what is counted.
    #[inline]
    #[must_use = "the last one frees"]
    pub(crate) fn sub(&self) -> bool {
        // Acquire: see what the others did before they let go. Who is alone stays alone: a new handle needs an old one.
        if self.0.load(Ordering::Acquire) == 1 {
            return true;
        }
        // Release: what this holder did comes before the free.
        if self.0.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // A load rather than a fence, which the thread sanitizer does not understand.
        self.0.load(Ordering::Acquire);
        true
    }

    /// Whether there is one holder.
    #[inline]
    pub(crate) fn is_one(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Counted {
        count: Count,
        value: UnsafeCell<u32>,
    }

    /// Lets go; whoever is last reads and overwrites the value, which loom reports if another access may run beside it.
    fn let_go(counted: &Counted) -> u32 {
        counted.value.with(|value| {
            // SAFETY: loom gives a pointer into the cell, and fails the model if a write runs beside this read.
            let value = unsafe { *value };
            assert!(value < 100);
        });
        if !counted.count.sub() {
            return 0;
        }
        counted.value.with_mut(|value| {
            // SAFETY: as above, for whatever runs beside this write.
            unsafe { *value = 100 }
        });
        1
    }

    #[test]
    fn loom_the_last_of_three_handles_frees_once_and_alone() {
        loom::model(|| {
            let counted = Arc::new(Counted { count: Count::one(), value: UnsafeCell::new(1) });
            counted.count.add();
            let there = {
                let counted = Arc::clone(&counted);
                loom::thread::spawn(move || {
                    counted.count.add();
                    let_go(&counted) + let_go(&counted)
                })
            };
            let here = let_go(&counted);
            assert_eq!(here + there.join().unwrap(), 1);
        });
    }

    #[test]
    fn loom_a_sole_handle_is_sole() {
        loom::model(|| {
            let counted = Arc::new(Counted { count: Count::one(), value: UnsafeCell::new(1) });
            counted.count.add();
            let there = {
                let counted = Arc::clone(&counted);
                loom::thread::spawn(move || let_go(&counted))
            };
            if counted.count.is_one() {
                counted.value.with_mut(|value| {
                    // SAFETY: loom gives a pointer into the cell, and fails the model if anything runs beside this write.
                    unsafe { *value = 2 }
                });
            }
            assert_eq!(let_go(&counted) + there.join().unwrap(), 1);
        });
    }
}
