//! What each thread has for itself, found without a call.
//!
//! In a shared library every use of a `thread_local!` calls `__tls_get_addr`, which takes longer than what the ledger does with
//! what it finds there, and a handover would make four to eight such calls. The ELF TLS model "initial exec" needs none, but a
//! library that uses it may not load late ("cannot allocate memory in static TLS block"), as ours for Python did not. So a
//! thread takes a place in a table, by its thread pointer, for as long as it runs. Where another has that place, and on platforms
//! where nobody looked for the pointer, the value is a `thread_local!` as any other.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::LocalKey;

/// A type of which each thread has one value, from the first to the last of what the thread does.
pub trait ThreadSlot: Sized + 'static {
    /// What a thread begins with.
    const NEW: Self;

    fn table() -> &'static Table<Self>;

    /// For threads without a place. Whatever it holds needs no drop, so that it is there to the last.
    fn local() -> &'static LocalKey<Local<Self>>;

    /// Makes sure that [`leave`] is called when the thread ends; `false` where it is too late for that.
    fn will_leave() -> bool;

    /// Makes the value [`ThreadSlot::NEW`] again, once the thread's end has let go of what was in it.
    fn renew(&self);
}

/// Writes [`ThreadSlot::table`] and [`ThreadSlot::local`] of a type.
#[doc(hidden)]
#[macro_export]
macro_rules! thread_slot_statics {
    ($slot:ty) => {
        #[inline(always)]
        fn table() -> &'static $crate::slot::Table<$slot> {
            static TABLE: $crate::slot::Table<$slot> = $crate::slot::Table::new();
            &TABLE
        }

        fn local() -> &'static ::std::thread::LocalKey<$crate::slot::Local<$slot>> {
            ::std::thread_local!(static LOCAL: $crate::slot::Local<$slot> = const { $crate::slot::Local::new() });
            &LOCAL
        }
    };
}

/// A thread's own value, where it has no place in the table.
pub struct Local<T> {
    /// Whether the thread has asked for a place: it is in the table or here for good.
    asked: Cell<bool>,
    value: T,
}

impl<T: ThreadSlot> Local<T> {
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Local<T> {
        Local { asked: Cell::new(false), value: T::NEW }
    }
}

/// Threads whose stacks follow one another, as glibc makes them, have places of their own.
const PLACES: usize = 64;

pub struct Table<T> {
    places: [Place<T>; PLACES],
}

/// On lines of the cache of its own: its thread writes here all the time.
#[repr(align(128))]
struct Place<T> {
    /// The pointer of the thread whose place it is, or 0.
    owner: AtomicUsize,
    value: T,
}

// SAFETY: a value is only reached by the thread that its place names. In the child of a fork that may be one whose pointer a thread
// of the parent had, of which the child has none: then the value is that thread's, in whatever state, and no other thread's.
unsafe impl<T: Send> Sync for Table<T> {}

impl<T: ThreadSlot> Table<T> {
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Table<T> {
        Table { places: [const { Place { owner: AtomicUsize::new(0), value: T::NEW } }; PLACES] }
    }

    #[inline(always)]
    fn place(&self, pointer: usize) -> &Place<T> {
        // Stacks are apart by a power of two and a guard page.
        &self.places[(pointer >> 12) % PLACES]
    }
}

/// Whether the thread pointer is looked for.
const HAS_TABLE: bool = cfg!(all(target_arch = "x86_64", target_os = "linux", not(any(miri, loom))));

/// The thread pointer, which no other thread that runs has; `None` where it is not looked for.
#[inline(always)]
fn pointer() -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(any(miri, loom))))]
    {
        let pointer;
        // SAFETY: reads the word that the ABI keeps at `fs:0`, which is the same for as long as the thread runs.
        unsafe {
            std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(pure, nomem, nostack, preserves_flags));
        }
        Some(pointer)
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(any(miri, loom)))))]
    None
}

/// Where the calling thread has its value: valid until [`leave`], or until the thread is gone.
#[inline(always)]
pub fn here<T: ThreadSlot>() -> *const T {
    in_table().unwrap_or_else(elsewhere)
}

/// As [`here`], where that takes no call: who has another way for the rest keeps nothing across one. `None` says nothing.
#[inline(always)]
pub fn at_hand<T: ThreadSlot>() -> Option<*const T> {
    if HAS_TABLE { in_table() } else { Some(here()) }
}

#[inline(always)]
fn in_table<T: ThreadSlot>() -> Option<*const T> {
    let pointer = pointer()?;
    let place = T::table().place(pointer);
    // Relaxed: this thread wrote it, or the value is not touched.
    (place.owner.load(Ordering::Relaxed) == pointer).then_some(&raw const place.value)
}

#[cold]
#[inline(never)]
fn elsewhere<T: ThreadSlot>() -> *const T {
    const { assert!(!std::mem::needs_drop::<T>(), "what is dropped is not there to the last") };
    let local: *const Local<T> = T::local().with(std::ptr::from_ref);
    // SAFETY: it needs no drop, as was asserted, so it is there until the thread is gone.
    let local = unsafe { &*local };
    if let Some(pointer) = pointer()
        && !local.asked.replace(true)
        && T::will_leave()
    {
        let place = T::table().place(pointer);
        // Acquire: what the place's last thread wrote is seen here.
        if place.owner.compare_exchange(0, pointer, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return &raw const place.value;
        }
    }
    &raw const local.value
}

/// Gives the calling thread's place back, if it has one. From here on its value is a new one.
pub fn leave<T: ThreadSlot>() {
    let Some(pointer) = pointer() else { return };
    let place = T::table().place(pointer);
    if place.owner.load(Ordering::Relaxed) == pointer {
        place.value.renew();
        // Release: the next thread of this place sees the new value.
        place.owner.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Barrier, Mutex};

    use super::*;

    struct Count(Cell<u64>);

    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            leave::<Count>();
        }
    }

    impl ThreadSlot for Count {
        const NEW: Count = Count(Cell::new(0));

        crate::thread_slot_statics!(Count);

        fn will_leave() -> bool {
            thread_local!(static END: End = const { End });
            END.try_with(|_| ()).is_ok()
        }

        fn renew(&self) {
            self.0.set(0);
        }
    }

    fn count() -> u64 {
        // SAFETY: valid until the thread leaves, and no other thread's.
        let count = unsafe { &(*here::<Count>()).0 };
        count.set(count.get() + 1);
        count.get()
    }

    #[test]
    fn every_thread_has_its_own_from_new_to_the_last() {
        // More than there are places, so that some have none; then again, in places that were left.
        let threads = if cfg!(miri) { 4 } else { 2 * PLACES };
        for _ in 0..3 {
            let (all, with_place) = (Barrier::new(threads), AtomicUsize::new(0));
            // Whose places these are: how far apart stacks are differs (the thread sanitizer's share a few).
            let wanted = Mutex::new(HashSet::new());
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        let place = pointer().map(|pointer| (&raw const Count::table().place(pointer).value).addr());
                        wanted.lock().expect("no panic").extend(place);
                        for i in 1..100 {
                            assert_eq!(count(), i);
                            if i % 33 == 0 {
                                all.wait();
                            }
                        }
                        let before = here::<Count>();
                        leave::<Count>();
                        let had_place = !std::ptr::eq(before, here::<Count>());
                        assert_eq!(count(), if had_place { 1 } else { 100 }, "who left a place begins anew, elsewhere");
                        with_place.fetch_add(usize::from(had_place), Ordering::Relaxed);
                    });
                }
            });
            let wanted = wanted.into_inner().expect("no panic").len();
            assert_eq!(with_place.into_inner(), wanted, "each place has one of the threads that want it");
        }
        let taken = Count::table().places.iter().filter(|place| place.owner.load(Ordering::Relaxed) != 0).count();
        assert_eq!(taken, 0, "all were given back");
    }
}
