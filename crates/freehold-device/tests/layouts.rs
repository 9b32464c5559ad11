//! What host memory asks of the program's allocator: seen from an allocator that keeps a record.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_device::{Buffer, HOST_ALIGNMENT, HOST_LARGE, HostMemory, MemoryResource, Stream};

/// The system's allocator, with a record of every block aligned as host memory is. Nothing else in this program is.
struct Recording;

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static LIVE: Mutex<Vec<(usize, Layout)>> = Mutex::new(Vec::new());

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Recording {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises, passed on.
        let ptr = unsafe { System.alloc(layout) };
        if layout.align() >= HOST_ALIGNMENT {
            REQUESTS.fetch_add(1, Ordering::SeqCst);
            // The list's own memory is aligned to less, so it does not come back here.
            LIVE.lock().expect("not poisoned").push((ptr.addr(), layout));
        }
        ptr
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if layout.align() >= HOST_ALIGNMENT {
            let mut live = LIVE.lock().expect("not poisoned");
            let index = live.iter().position(|block| *block == (ptr.addr(), layout));
            // A panic in an allocator is not allowed; an abort with a message is what a test needs.
            let Some(index) = index else {
                eprintln!("freed with another layout, or twice: {layout:?}");
                std::process::abort();
            };
            live.swap_remove(index);
        }
        // SAFETY: the caller's promises, passed on.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Recording = Recording;

// One test, because the record is of the whole program.
#[test]
fn blocks_are_freed_as_they_were_allocated_and_zero_bytes_are_never_asked_for() {
    let memory: std::sync::Arc<dyn MemoryResource> = std::sync::Arc::new(HostMemory);
    for align in [1, 64, 256, 4096, 65536] {
        drop(Buffer::new(&memory, 0, align, Stream::NONE).expect("zero bytes"));
    }
    assert_eq!(REQUESTS.load(Ordering::SeqCst), 0);

    let sizes = [1, 100, HOST_LARGE - 1, HOST_LARGE, HOST_LARGE + 1];
    let mut held = Vec::new();
    for bytes in sizes {
        for align in [1, 64, 256, 4096, 65536] {
            held.push(Buffer::new(&memory, bytes, align, Stream::NONE).expect("a few MiB"));
            let least = if bytes >= HOST_LARGE { 4096 } else { 256 };
            let (_, layout) = *LIVE.lock().expect("not poisoned").last().expect("one block more");
            assert_eq!((layout.size(), layout.align()), (bytes, align.max(least)));
        }
    }
    assert_eq!(REQUESTS.load(Ordering::SeqCst), 25);
    drop(held);
    assert_eq!(*LIVE.lock().expect("not poisoned"), []);
}
