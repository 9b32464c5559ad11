//! Matrices of four-byte elements, turned where they lie, in registers: sixteen lines at a time.
//!
//! Where lines are a power of two apart, all of them fall on the same few places of the L1 cache. Sixteen lines, of each
//! the 64 bytes of one line of the cache, become sixteen whole lines of the destination before any of them is needed
//! again, and nothing passes through a block. On a Zen 4, 4096 x 4096: 17 GB/s, and through blocks 7.6; where others used the
//! memory, too, 9.7, and as `whole` has it for other elements 8.1.
//!
//! A line of the destination is written at once. Where halves of eight were written, and then the others, a Xeon of 2023 wrote
//! each half by itself: 4096 x 4096 at 2.1 GB/s, and since then 14 to 17.

use std::arch::x86_64::*;

use super::super::turn::Block;

/// Lines of the source that fill a line of the cache in the destination.
const SIDE: usize = 16;

/// Turns a block of which lines are a multiple of [`SIDE`], and rows of 8.
///
/// # Safety
///
/// * The machine has AVX2.
/// * `src` is readable and initialised for the block, `dst` is writable for it and does not overlap it.
/// * Where `STREAM`, every row of `dst` starts at a multiple of 32 bytes, and a fence follows.
#[target_feature(enable = "avx2")]
pub(in crate::copy) unsafe fn turn<const STREAM: bool>(dst: *mut u8, src: *const u8, block: Block) {
    let Block { lines, rows, line_step, row_step } = block;
    for line in (0..lines).step_by(SIDE) {
        for row in (0..rows).step_by(8) {
            // SAFETY: sixteen lines and eight rows of the block, 32 bytes of each line and 64 of each row.
            unsafe {
                let src = src.offset(line as isize * line_step).add(row * 4);
                let (first, second) = (eight(src, line_step), eight(src.offset(8 * line_step), line_step));
                // Both halves of a line one after the other, so that it leaves as one write.
                for (i, (first, second)) in first.into_iter().zip(second).enumerate() {
                    let to = dst.offset((row + i) as isize * row_step).add(line * 4).cast::<f32>();
                    if STREAM {
                        _mm256_stream_ps(to, first);
                        _mm256_stream_ps(to.add(8), second);
                    } else {
                        _mm256_storeu_ps(to, first);
                        _mm256_storeu_ps(to.add(8), second);
                    }
                }
            }
        }
    }
}

/// The columns of eight lines' 32 bytes.
///
/// # Safety
///
/// The machine has AVX2; 32 bytes of each line are readable and initialised.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn eight(src: *const u8, line_step: isize) -> [__m256; 8] {
    let zero = _mm256_setzero_ps();
    let (mut a, mut b) = ([zero; 8], [zero; 8]);
    for (i, a) in a.iter_mut().enumerate() {
        // SAFETY: 32 bytes of a line, at any alignment.
        *a = unsafe { _mm256_loadu_ps(src.offset(i as isize * line_step).cast()) };
    }
    // Pairs of lines, then pairs of pairs within each half, then the halves.
    for i in (0..8).step_by(2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    for i in (0..8).step_by(4) {
        a[i] = _mm256_shuffle_ps::<0x44>(b[i], b[i + 2]);
        a[i + 1] = _mm256_shuffle_ps::<0xee>(b[i], b[i + 2]);
        a[i + 2] = _mm256_shuffle_ps::<0x44>(b[i + 1], b[i + 3]);
        a[i + 3] = _mm256_shuffle_ps::<0xee>(b[i + 1], b[i + 3]);
    }
    for i in 0..4 {
        b[i] = _mm256_permute2f128_ps::<0x20>(a[i], a[i + 4]);
        b[i + 4] = _mm256_permute2f128_ps::<0x31>(a[i], a[i + 4]);
    }
    b
}

/// [`turn`] of a block of which rows, too, are a multiple of [`SIDE`], by whole lines of the cache on both sides.
///
/// # Safety
///
/// As for [`turn`], with AVX-512 instead of AVX2, and rows of `dst` at multiples of 64 bytes where `STREAM`.
#[target_feature(enable = "avx512f")]
pub(in crate::copy) unsafe fn turn_wide<const STREAM: bool>(dst: *mut u8, src: *const u8, block: Block) {
    let Block { lines, rows, line_step, row_step } = block;
    for line in (0..lines).step_by(SIDE) {
        for row in (0..rows).step_by(SIDE) {
            // SAFETY: sixteen lines and sixteen rows of the block, 64 bytes of each.
            unsafe {
                let src = src.offset(line as isize * line_step).add(row * 4);
                let dst = dst.offset(row as isize * row_step).add(line * 4);
                sixteen::<STREAM>(dst, row_step, src, line_step);
            }
        }
    }
}

/// # Safety
///
/// As for [`turn_wide`], for sixteen lines and sixteen rows.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn sixteen<const STREAM: bool>(dst: *mut u8, row_step: isize, src: *const u8, line_step: isize) {
    let zero = _mm512_setzero_ps();
    let (mut a, mut b) = ([zero; SIDE], [zero; SIDE]);
    for (i, a) in a.iter_mut().enumerate() {
        // SAFETY: 64 bytes of a line, at any alignment.
        *a = unsafe { _mm512_loadu_ps(src.offset(i as isize * line_step).cast()) };
    }
    // Pairs of lines, then pairs of pairs, within each quarter; then the quarters.
    for i in (0..SIDE).step_by(2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for i in (0..SIDE).step_by(4) {
        a[i] = _mm512_shuffle_ps::<0x44>(b[i], b[i + 2]);
        a[i + 1] = _mm512_shuffle_ps::<0xee>(b[i], b[i + 2]);
        a[i + 2] = _mm512_shuffle_ps::<0x44>(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_shuffle_ps::<0xee>(b[i + 1], b[i + 3]);
    }
    // Column k of quarter q, of lines 4i to 4i + 3, is quarter q of a[4i + k].
    for k in 0..4 {
        let low = |x, y| _mm512_shuffle_f32x4::<0x88>(x, y);
        let high = |x, y| _mm512_shuffle_f32x4::<0xdd>(x, y);
        let (even, odd) = (low(a[k], a[4 + k]), high(a[k], a[4 + k]));
        let (even_on, odd_on) = (low(a[8 + k], a[12 + k]), high(a[8 + k], a[12 + k]));
        b[k] = low(even, even_on);
        b[8 + k] = high(even, even_on);
        b[4 + k] = low(odd, odd_on);
        b[12 + k] = high(odd, odd_on);
    }
    for (i, b) in b.into_iter().enumerate() {
        // SAFETY: 64 bytes of a row, aligned where they are streamed.
        unsafe {
            let to = dst.offset(i as isize * row_step).cast();
            if STREAM { _mm512_stream_ps(to, b) } else { _mm512_storeu_ps(to, b) }
        }
    }
}
