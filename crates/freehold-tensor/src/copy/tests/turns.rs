//! The kernels that turn blocks, on every level, against a loop over elements.

use crate::copy::lanes::{Lanes, Plain};
use crate::copy::level::Level;
use crate::copy::stream;
use crate::copy::turn::{Block, Few, VECTOR, in_place, kernel};

/// Runs a kernel on a block of one shape and compares with a loop over elements.
fn check(level: Level, size: usize, lines: usize, rows: usize) {
    let found = kernel(level, size, lines, rows).expect("every such size has a kernel");
    let vector = VECTOR * 4;
    let line_step = rows * size + if found.few == Few::Rows(rows) { 0 } else { 5 };
    let row_step = match found.few {
        Few::Lines(_) => lines * size,
        _ => lines.next_multiple_of(found.width) * size + 3,
    };
    let whole_lines = lines.next_multiple_of(found.width);
    let src: Vec<u8> = (0..whole_lines * line_step + vector).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut dst = vec![0u8; rows.next_multiple_of(16) * row_step + vector];
    let block = Block { lines, rows, line_step: line_step as isize, row_step: row_step as isize };
    // SAFETY: both buffers hold the block with lines and rows counted up to whole vectors, and a vector more; the
    // level is available.
    unsafe { (found.turn)(dst.as_mut_ptr(), src.as_ptr(), block) };
    for line in 0..lines {
        for row in 0..rows {
            let (d, s) = (row * row_step + line * size, line * line_step + row * size);
            assert_eq!(dst[d..d + size], src[s..s + size], "{level:?} {size} {lines}x{rows} at {line}, {row}");
        }
    }
}

#[test]
fn every_level_turns_every_shape() {
    for level in Level::available() {
        for size in [1, 2, 4, 8, 16] {
            let shapes: &[usize] = if cfg!(miri) { &[1, 3, 17] } else { &[1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 70, 129] };
            for &lines in shapes {
                for &rows in shapes {
                    check(level, size, lines, rows);
                }
            }
        }
        assert!(kernel(level, 3, 8, 8).is_none());
    }
}

#[test]
fn every_level_turns_whole_lines_of_the_cache() {
    #[repr(align(64))]
    struct Aligned([u8; 64 * 257]);
    for (level, size) in Level::available().flat_map(|level| [1, 2, 4, 8, 16].map(|size| (level, size))) {
        let Some(turn) = in_place(level, size) else { continue };
        let lines = VECTOR / size;
        for (rows, stream) in [(16 / size, true), (48 / size, true), (64 / size, false), (256 / size, true)] {
            let line_step = rows * size + 5;
            let src: Vec<u8> = (0..lines * line_step).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut dst = Aligned([0; 64 * 257]);
            let block = Block { lines, rows, line_step: line_step as isize, row_step: VECTOR as isize };
            let at = if stream { 0 } else { 3 };
            // SAFETY: both buffers hold the block; rows are whole vectors apart, from an aligned place where they are streamed;
            // the level is available. The fence follows.
            unsafe { turn(dst.0.as_mut_ptr().add(at), src.as_ptr(), block, stream) };
            stream::fence();
            for (line, row) in (0..lines).flat_map(|line| (0..rows).map(move |row| (line, row))) {
                let (d, s) = (at + row * VECTOR + line * size, line * line_step + row * size);
                assert_eq!(dst.0[d..d + size], src[s..s + size], "{level:?} {size} {rows} at {line}, {row}");
            }
        }
    }
    assert!(in_place(Level::best(), 3).is_none());
}

#[test]
fn loops_pick_and_zip_like_instructions() {
    let src: Vec<u8> = (0..64).collect();
    // SAFETY: 16 readable bytes, 16 writable ones; loops run on every machine.
    unsafe {
        let mut out = [0; 16];
        let table = [15, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        Plain::gather(src.as_ptr(), 0).pick(&table).or(Plain::gather([0; 16].as_ptr(), 0)).store(out.as_mut_ptr());
        assert_eq!(out, [15, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        let (a, b) = (Plain::gather(src.as_ptr(), 0), Plain::gather(src.as_ptr().add(16), 0));
        Plain::zip::<4>(a, b).1.scatter(out.as_mut_ptr(), 16);
        assert_eq!(out, [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31]);
    }
}
