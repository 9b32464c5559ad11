//! How many blocks of threads a kernel is given.

use super::THREADS;
use crate::cuda::walk::Walk;

/// Blocks beyond which a kernel's threads take several turns: many for each processor of the largest device.
const MAX_BLOCKS: u64 = 132 * 32;

/// Blocks for a walk whose threads take so many elements at once.
pub(super) fn blocks_of(walk: &Walk, each: u64) -> u32 {
    let last = walk.axes as usize - 1;
    let n = walk.shape[last].unsigned_abs();
    let needed = if n >= 64 {
        // Pieces of rows.
        (walk.count / n).saturating_mul(n.div_ceil(u64::from(THREADS) * each))
    } else {
        walk.count.div_ceil(u64::from(THREADS) * each.min(4))
    };
    needed.clamp(1, MAX_BLOCKS) as u32
}

/// Blocks for a cast of a compact run: enough that no thread takes a second turn. Blocks begin in the order of their numbers, so
/// that what is on the way at once lies together.
pub(super) fn blocks_of_run(count: u64, src: usize, dst: usize) -> u32 {
    // The elements of a thread: `run` in kernels/contiguous.cu.
    let each = if dst > src && dst < 8 { 16 } else { 8 };
    count.div_ceil(u64::from(THREADS) * each).clamp(1, i32::MAX as u64) as u32
}

/// Blocks for a transpose: one for each tile.
pub(super) fn tiles_of(walk: &Walk, dst: usize, src: usize) -> u32 {
    let (d, s) = (walk.axes as usize - 1, walk.axes as usize - 2);
    // Words of 8 bytes, of 4 for single bytes: `WordOf` in kernels/turn.cu.
    let side = |size: usize| 32 * if size == 1 { 4 } else { (8 / size.min(8)) as u64 };
    let tiles = walk.shape[d].unsigned_abs().div_ceil(side(dst)) * walk.shape[s].unsigned_abs().div_ceil(side(src));
    let batches: u64 = walk.shape[..s].iter().map(|n| n.unsigned_abs()).product();
    tiles.saturating_mul(batches).clamp(1, MAX_BLOCKS * 4) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_of_a_run_takes_a_second_turn() {
        for (src, dst) in [(4, 2), (4, 1), (8, 4), (2, 2), (4, 4), (2, 4), (1, 4), (1, 2), (8, 1), (1, 8)] {
            // As `run` in kernels/contiguous.cu counts.
            let n = 16 / src.max(dst) as u64;
            let turns = if dst > src {
                if n > 4 { 16 / n } else { 4 }
            } else if n < 8 {
                8 / n
            } else {
                1
            };
            for count in [1, 255, 2048, 2049, 1 << 20, (1 << 30) + 1] {
                let blocks = u64::from(blocks_of_run(count, src, dst));
                assert!(blocks * u64::from(THREADS) * n * turns >= count / n * n, "{src} {dst} {count}");
                assert!((blocks - 1) * u64::from(THREADS) * n * turns < count, "{src} {dst} {count}: idle blocks");
            }
        }
        assert_eq!(blocks_of_run(u64::MAX, 4, 2), i32::MAX as u32);
    }
}
