//! `decide` allocates nothing on the share path (design.md, "The walk of a capsule").

use std::alloc::{GlobalAlloc, Layout as AllocLayout, System};
use std::cell::Cell;

use freehold::{Caps, DType, Device, Label, Layout, Policy, Request, TensorDesc, Traits, Verdict, decide};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: AllocLayout) -> *mut u8 {
        // `try_with`: the allocator also runs while a thread's locals are being torn down.
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        // SAFETY: forwarded from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: AllocLayout) {
        // SAFETY: forwarded from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decide_does_not_allocate_on_the_share_path() {
    let shape = [2i64, 3, 4, 5, 6, 7, 8, 9];
    let mut strides = [1i64; 8];
    for i in (0..7).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    let framework = Label::intern("numpy");
    let mut desc = TensorDesc {
        address: 4096,
        device: Device::CPU,
        dtype: DType::F64,
        layout: Layout::new(&shape, &strides),
        traits: Traits::empty(),
        framework,
    };
    for caps in [&Caps::NUMPY, &Caps::TORCH, &Caps::FREEHOLD] {
        for traits in [Traits::empty(), Traits::READ_ONLY] {
            if traits.contains(Traits::READ_ONLY) && !caps.read_only {
                continue;
            }
            desc.traits = traits;
            let before = COUNT.get();
            let decision = decide(&desc, &Request::share(), caps, &Policy::DEFAULT);
            let after = COUNT.get();
            assert_eq!(decision.verdict, Verdict::Share);
            assert_eq!(after - before, 0, "{} {traits:?}", caps.name);
        }
    }
    let before = COUNT.get();
    drop(std::hint::black_box(vec![1u8; 64]));
    assert_eq!(COUNT.get() - before, 1, "the counter counts");
}
