//! A copy of up to eight dimensions uses no heap, however it casts or turns.

use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::cell::Cell;

use freehold_tensor::copy::{CopyOptions, Lazy, OnLoss, Operand, copy};
use freehold_tensor::{DType, KNOWN_DTYPES, Layout, Order, StrideUnit, compact_strides};

struct Counting;

thread_local! {
    /// A thread's own, because the test harness allocates on its own threads meanwhile.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's guarantees.
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        // SAFETY: the caller's guarantees.
        unsafe { System.dealloc(at, block) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
#[cfg_attr(miri, ignore = "counts allocations; the unit tests cover the memory")]
fn no_dtype_pair_or_layout_of_eight_dimensions_allocates() {
    let shape = [2i64, 3, 1, 4, 2, 3, 2, 2];
    let n: i64 = shape.iter().product();
    let c = compact_strides(&shape, Order::C).expect("small");
    // No two axes of this one join.
    let mixed = [4, 24, 0, 1, 144, 8, 288, 72];
    let mixed = freehold_tensor::Dims::from_slice(&mixed);
    let f = compact_strides(&shape, Order::F).expect("small");
    let (mut source, mut target) = (vec![0u8; n as usize * 16], vec![0u8; n as usize * 16]);
    let operand = |bytes: &mut Vec<u8>, dtype: DType, strides| Operand {
        data: bytes.as_mut_ptr(),
        dtype,
        layout: Layout { shape: &shape, strides },
        unit: StrideUnit::Elements,
        traits: Lazy::empty(),
    };
    assert_ne!(ALLOCATIONS.get(), 0, "the buffers above were counted");
    let before = ALLOCATIONS.get();
    let mut casts = 0;
    for &from in KNOWN_DTYPES {
        for &to in KNOWN_DTYPES {
            for strides in [&c, &f, &mixed] {
                let (dst, src) = (operand(&mut target, to, &c), operand(&mut source, from, strides));
                let options = CopyOptions::new(OnLoss::Allow);
                // SAFETY: both buffers hold 16 bytes for each element, zeroed, and are apart.
                casts += usize::from(unsafe { copy(&dst, &src, &options) }.is_ok());
            }
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(casts, 3 * KNOWN_DTYPES.len() * KNOWN_DTYPES.len());
}
