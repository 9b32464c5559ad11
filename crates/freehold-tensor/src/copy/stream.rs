//! Stores that go past the caches, for destinations that no cache would keep.

use super::level::Level;

/// Whether there are such stores.
pub(super) const STREAMS: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// Bytes of a line of the cache.
pub(super) const LINE: usize = 64;

/// Bytes of a page of memory.
pub(super) const PAGE: usize = 4096;

/// Pages that are read or written together, a little of each in turn: a third more comes from memory than from one page
/// after the other, unless memory is best read [`in_order`].
pub(super) const PAGES: usize = 4;

/// Bytes of a destination from which on runs are written past the caches. Until here an ordinary store wins by up to
/// 1.1 on a Xeon of 2023, and leaves what it wrote in the shared cache; beyond, streaming does by up to 1.9.
const PAST: u64 = 32 << 20;

/// The same where memory is read in order, of what is read and written together: the size of the shared cache of a Zen 4.
/// At 16 MiB an ordinary store wins by 1.2 where as much is written as read; at 32 MiB streaming wins by 1.8.
const PAST_IN_ORDER: u64 = 32 << 20;

/// Bytes of a destination from which on tiles are written past the caches: what does not fit the private cache of a
/// core (2 MiB on the machines this was measured on). Each row of a tile is a line or two on a page of its own, and
/// to read it first, as an ordinary store does, costs most: at 4 MiB streaming wins by 1.3, at 64 MiB by 3.
const PAST_IN_TILES: u64 = 3 << 20;

/// The same before Zen 4, of what is read and written together, for rows of what is widened, and for lines that are [`FAR`] apart. Of u8 as
/// f32, three channels of pixels apart, a Zen 3 makes 12 GB/s of 23 MiB with ordinary stores and 22 past the caches, of 15 MiB 20 to
/// 30 and 22; of 16 MiB of f64 with lines of 8 KiB 19 and 9, of i16 with lines of 4 KiB 12 and 7, but of f64 with lines of 8320 bytes 10 and 22.
const PAST_EARLIER: u64 = 20 << 20;

/// Lines that are a multiple of so many bytes apart fall on few places of the L1 cache.
pub(super) const FAR: isize = 2048;

/// Whether memory had better be written in order, one page after the other: so it is on processors of AMD, which alone have
/// SSE4a. (A Zen 4 reads and writes 31 GB/s in order, and 19 from four pages in turn; a Zen 3 26 and 13.)
#[inline]
pub(super) fn in_order() -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    return is_x86_feature_detected!("sse4a");
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    false
}

/// Whether the processor's own prefetchers follow a run from page to page, so that what is asked for besides takes their place:
/// those of AMD that have AVX-512 (Zen 4).
#[inline]
pub(super) fn follows_pages() -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    return in_order() && is_x86_feature_detected!("avx512f");
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    false
}

/// Whether a copy that reads and writes so many bytes is so large that its runs are written past the caches.
#[inline]
pub(super) fn is_past(read: u64, written: u64) -> bool {
    if in_order() { read.saturating_add(written) >= PAST_IN_ORDER } else { written >= PAST }
}

/// As [`is_past`], for tiles of lines so many bytes apart (0 where that is not known), of which rows may be as long as `runs`.
#[inline]
pub(super) fn is_past_in_tiles(read: u64, written: u64, lines: isize, runs: bool) -> bool {
    if in_order() && !follows_pages() && (lines != 0 && lines % FAR == 0 || runs && written > read) {
        return read.saturating_add(written) >= PAST_EARLIER;
    }
    written >= if runs { PAST } else { PAST_IN_TILES }
}

/// Copies `n` bytes; whole lines of the destination go past the caches. [`fence`] must follow, on the same thread,
/// before another thread is told of them.
///
/// # Safety
///
/// * `src` is readable and `dst` writable for `n` bytes, at any alignment, without overlap.
/// * The machine has the level.
#[inline]
pub(super) unsafe fn put(level: Level, dst: *mut u8, src: *const u8, n: usize) {
    let head = if STREAMS { dst.align_offset(LINE).min(n) } else { n };
    let lines = (n - head) / LINE;
    let tail = head + lines * LINE;
    // SAFETY: the three parts make up the caller's `n` bytes, and the lines are aligned.
    unsafe {
        if head != 0 {
            std::ptr::copy_nonoverlapping(src, dst, head);
        }
        if lines != 0 {
            put_lines(level, dst.add(head), src.add(head), lines);
        }
        if tail != n {
            std::ptr::copy_nonoverlapping(src.add(tail), dst.add(tail), n - tail);
        }
    }
}

/// # Safety
///
/// As for [`put`], for whole lines to an aligned destination.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn put_lines(level: Level, dst: *mut u8, src: *const u8, lines: usize) {
    // SAFETY: the caller's guarantees.
    unsafe {
        match level {
            Level::Avx512 | Level::Avx512Vbmi => x86::avx512(dst, src, lines),
            Level::Avx2 => x86::avx2(dst, src, lines),
            Level::Baseline => x86::sse2(dst, src, lines),
        }
    }
}

/// # Safety
///
/// As for [`put`].
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn put_lines(_: Level, dst: *mut u8, src: *const u8, lines: usize) {
    // SAFETY: the caller's guarantees.
    unsafe { std::ptr::copy_nonoverlapping(src, dst, lines * LINE) }
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

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LINE, PAGE, PAGES, in_order};

    /// Lines of one page before it is the next page's turn.
    const TURN: usize = 2;

    /// All parts of a line are stored one after the other, so that it leaves as one write.
    macro_rules! lines {
        ($name:ident, $vector:ty, $parts:literal, $load:ident, $store:ident $(, #[$feature:meta])?) => {
            /// # Safety
            ///
            /// As for [`super::put_lines`].
            $(#[$feature])?
            pub(super) unsafe fn $name(dst: *mut u8, src: *const u8, lines: usize) {
                let (to, from) = (dst.cast::<$vector>(), src.cast::<$vector>());
                let put = |line: usize| {
                    for part in line * $parts..(line + 1) * $parts {
                        // SAFETY: a line of the caller's on either side; the destination is aligned, loads need not be.
                        unsafe { $store(to.add(part), $load(from.add(part))) };
                    }
                };
                const PAGE_LINES: usize = PAGE / LINE;
                let together = if in_order() { 0 } else { lines / (PAGES * PAGE_LINES) * (PAGES * PAGE_LINES) };
                for group in (0..together).step_by(PAGES * PAGE_LINES) {
                    for turn in (0..PAGE_LINES).step_by(TURN) {
                        for page in 0..PAGES {
                            (0..TURN).for_each(|i| put(group + page * PAGE_LINES + turn + i));
                        }
                    }
                }
                (together..lines).for_each(put);
            }
        };
    }
    lines!(sse2, __m128i, 4, _mm_loadu_si128, _mm_stream_si128);
    lines!(avx2, __m256i, 2, _mm256_loadu_si256, _mm256_stream_si256, #[target_feature(enable = "avx2")]);
    lines!(avx512, __m512i, 1, _mm512_loadu_si512, _mm512_stream_si512, #[target_feature(enable = "avx512f")]);
}
