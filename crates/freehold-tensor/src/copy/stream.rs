//! Stores that go past the caches, for destinations that no cache would keep.

/// Whether there are such stores.
pub(super) const STREAMS: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// Bytes of a line of the cache.
pub(super) const LINE: usize = 64;

/// Copies `n` bytes; whole lines of the destination go past the caches. [`fence`] must follow, on the same thread,
/// before another thread is told of them.
///
/// # Safety
///
/// `src` is readable and `dst` writable for `n` bytes, at any alignment, without overlap.
#[inline]
pub(super) unsafe fn put(dst: *mut u8, src: *const u8, n: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};

        let head = dst.align_offset(LINE).min(n);
        let lines = (n - head) / LINE;
        let tail = n - head - lines * LINE;
        // SAFETY: the three parts make up the caller's `n` bytes; the lines are aligned. SSE2 is always there.
        unsafe {
            if head != 0 {
                std::ptr::copy_nonoverlapping(src, dst, head);
            }
            let (mut to, mut from) = (dst.add(head).cast::<__m128i>(), src.add(head).cast::<__m128i>());
            for _ in 0..lines {
                // All four parts of a line one after the other, so that it leaves as one write.
                let line: [__m128i; 4] = std::array::from_fn(|i| _mm_loadu_si128(from.add(i)));
                for (i, part) in line.into_iter().enumerate() {
                    _mm_stream_si128(to.add(i), part);
                }
                (to, from) = (to.add(4), from.add(4));
            }
            if tail != 0 {
                std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), tail);
            }
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    // SAFETY: the caller's guarantees.
    unsafe {
        std::ptr::copy_nonoverlapping(src, dst, n);
    }
}

/// Orders what [`put`] wrote before whatever this thread writes next.
#[inline]
pub(super) fn fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is always there on x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}
