//! Small blocks, kept by the thread that freed them last.

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::class::{Class, SMALL_CLASSES};
use super::{patiently, system};

/// The most bytes that a thread keeps of one size; one block of the largest.
const KEPT_BYTES: usize = 64 << 10;
/// The most blocks that a thread keeps of one size.
const KEPT_BLOCKS: usize = 64;

/// What one thread counts. Only that thread writes, so that no addition has to be atomic; anyone reads.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Counters {
    pub allocated: AtomicU64,
    pub allocated_bytes: AtomicU64,
    pub freed: AtomicU64,
    pub freed_bytes: AtomicU64,
    /// Allocations that a kept block served.
    pub reused: AtomicU64,
    pub failed: AtomicU64,
    /// Bytes of small blocks that the thread keeps.
    pub kept_bytes: AtomicU64,
}

/// Adds to a counter of this thread's own.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// The counters of all threads that ever were. A thread that ends leaves its counters, with what they say, to the next
/// that begins.
struct Registry {
    all: Vec<&'static Counters>,
    idle: Vec<&'static Counters>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { all: Vec::new(), idle: Vec::new() });

/// For threads that have no counters of their own: because they are ending, or the registry is not to be had.
static LATE: Counters = Counters {
    allocated: AtomicU64::new(0),
    allocated_bytes: AtomicU64::new(0),
    freed: AtomicU64::new(0),
    freed_bytes: AtomicU64::new(0),
    reused: AtomicU64::new(0),
    failed: AtomicU64::new(0),
    kept_bytes: AtomicU64::new(0),
};

/// Calls `visit` with the counters of every thread.
pub(super) fn each_counters(mut visit: impl FnMut(&Counters)) {
    visit(&LATE);
    if let Some(registry) = patiently(&REGISTRY) {
        registry.all.iter().copied().for_each(visit);
    }
}

/// What a thread keeps: a list a size, linked through the blocks themselves.
struct Cache {
    heads: [Cell<*mut u8>; SMALL_CLASSES],
    lengths: [Cell<u8>; SMALL_CLASSES],
    counters: Cell<Option<&'static Counters>>,
}

thread_local! {
    static CACHE: Cache = const {
        Cache {
            heads: [const { Cell::new(ptr::null_mut()) }; SMALL_CLASSES],
            lengths: [const { Cell::new(0) }; SMALL_CLASSES],
            counters: Cell::new(None),
        }
    };
}

impl Cache {
    #[inline]
    fn counters(&self) -> &'static Counters {
        self.counters.get().unwrap_or_else(|| self.register())
    }

    #[cold]
    fn register(&self) -> &'static Counters {
        let Some(mut registry) = patiently(&REGISTRY) else { return &LATE };
        let counters = registry.idle.pop().unwrap_or_else(|| {
            let counters: &'static Counters = Box::leak(Box::default());
            registry.all.push(counters);
            counters
        });
        self.counters.set(Some(counters));
        counters
    }

    #[inline]
    fn take(&self, index: usize) -> Option<NonNull<u8>> {
        let block = NonNull::new(self.heads[index].get())?;
        // SAFETY: a block on the list holds the address of the next in its first bytes, which `put` wrote there; its
        // alignment is that of a class.
        self.heads[index].set(unsafe { block.cast::<*mut u8>().read() });
        self.lengths[index].set(self.lengths[index].get() - 1);
        Some(block)
    }

    /// Keeps a block; `false` where the list is full.
    ///
    /// # Safety
    ///
    /// The block is of the class, at least a pointer in size and alignment, and nothing uses it.
    #[inline]
    unsafe fn put(&self, index: usize, size: usize, block: NonNull<u8>) -> bool {
        let length = self.lengths[index].get();
        if usize::from(length) >= (KEPT_BYTES / size).min(KEPT_BLOCKS) {
            return false;
        }
        // SAFETY: the caller's guarantee.
        unsafe { block.cast::<*mut u8>().write(self.heads[index].get()) };
        self.heads[index].set(block.as_ptr());
        self.lengths[index].set(length + 1);
        true
    }

    fn clear(&self) {
        for index in 0..SMALL_CLASSES {
            while let Some(block) = self.take(index) {
                // SAFETY: the block was kept under this class, whose size is that of the class's index.
                unsafe { system::release(block, size_of_class(index)) };
            }
        }
        if let Some(counters) = self.counters.get() {
            counters.kept_bytes.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.clear();
        if let Some(counters) = self.counters.take()
            && let Some(mut registry) = patiently(&REGISTRY)
        {
            registry.idle.push(counters);
        }
    }
}

/// The size of small class `index`.
fn size_of_class(index: usize) -> usize {
    const SIZES: [usize; SMALL_CLASSES] = {
        let mut sizes = [0; SMALL_CLASSES];
        let (mut bytes, mut i) = (1, 0);
        while i < SMALL_CLASSES {
            if let Some(Class::Small(_, size)) = Class::of(bytes) {
                sizes[i] = size;
                bytes = size + 1;
            }
            i += 1;
        }
        sizes
    };
    SIZES[index]
}

/// A small block that this thread kept.
#[inline]
pub(super) fn take(index: usize, size: usize, bytes: usize) -> Option<NonNull<u8>> {
    CACHE
        .try_with(|cache| {
            let block = cache.take(index)?;
            let counters = cache.counters();
            add(&counters.allocated, 1);
            add(&counters.allocated_bytes, bytes as u64);
            add(&counters.reused, 1);
            add(&counters.kept_bytes, (size as u64).wrapping_neg());
            Some(block)
        })
        .ok()
        .flatten()
}

/// Keeps a small block that was freed, or says `false`: the list is full, or the thread is ending.
///
/// # Safety
///
/// The block came from [`system::acquire`] for the class's size, and nothing uses it any more.
#[inline]
pub(super) unsafe fn put(index: usize, size: usize, block: NonNull<u8>, bytes: usize) -> bool {
    CACHE
        .try_with(|cache| {
            // SAFETY: blocks of the system are aligned to 256 bytes and as large.
            let kept = unsafe { cache.put(index, size, block) };
            if kept {
                let counters = cache.counters();
                add(&counters.freed, 1);
                add(&counters.freed_bytes, bytes as u64);
                add(&counters.kept_bytes, size as u64);
            }
            kept
        })
        .unwrap_or(false)
}

/// Gives back what this thread keeps.
pub(super) fn clear() {
    // A thread that is ending has given it back.
    let _ = CACHE.try_with(Cache::clear);
}

/// Counts something that happened outside the lists.
pub(super) fn count(what: impl Fn(&Counters) -> &AtomicU64, n: u64) {
    let own = CACHE.try_with(|cache| add(what(cache.counters()), n));
    if own.is_err() {
        what(&LATE).fetch_add(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_classes() {
        for index in 0..SMALL_CLASSES {
            assert_eq!(Class::of(size_of_class(index)), Some(Class::Small(index, size_of_class(index))));
        }
    }
}
