//! Asks for memory before it is read.
//!
//! Memory answers a core the sooner the more lines it is asked for at once, and the more pages they are on: it has many
//! banks, and the processor's own prefetchers follow a run only to the end of a page. Measured on a Xeon of 2023 with
//! pages of 4 KiB, what is read and written together: from memory, f64 to f32 in order 15 GB/s, with lines of the next
//! four pages asked for in turn 20, where memcpy has 21; from the shared cache, f64 to f16 23 GB/s in order, with the
//! lines 2 KiB on asked for 27, where memcpy has 28.
//!
//! A Zen 4 of 2023 is another matter: its prefetchers cross pages, and what is asked for besides only takes their place.
//! From memory, written past the caches: bf16 to f64 in order 34 GB/s, with four pages asked for 31, f64 to bf16 24
//! and 22, f32 to i32 29 and 20 to 30. From its own cache a core reads 99 GB/s in order, and 81 if it asks for every line
//! as well; from the shared cache bf16 to i32 72 GB/s, and 67 if it asks for what lies 512 bytes on.
//!
//! A Zen 3 of 2021 is in between (medians of three, on a busy machine): from memory, f64 to f32 in order 18 GB/s, with what lies 2 KiB on asked for
//! 19, with four pages 22; f32 to u8 14, 16 and 18; from the shared cache f32 to bf16 51 in order, and 31 if it asks for what lies 2 KiB on.

use super::stream::{LINE, PAGE, PAGES, in_order};

/// How far ahead a kernel asks: more than the shared cache takes to answer, less than would push anything out of the L1
/// cache.
const NEAR: usize = 2048;

/// Asks for lines of a run before they are read: while one group of pages is read in order, for the next group's lines,
/// one of each page in turn.
pub(super) struct Ahead {
    /// Where the page starts that the run starts on.
    base: *const u8,
    /// From there to the run's start and end.
    start: usize,
    end: usize,
}

impl Ahead {
    pub(super) fn new(src: *const u8, bytes: usize) -> Ahead {
        let start = src.addr() % PAGE;
        Ahead { base: src.wrapping_sub(start), start, end: start + bytes }
    }

    /// Asks for as many lines as `bytes` bytes that are read from `at`, counted from the run's start.
    #[inline]
    pub(super) fn ask(&self, at: usize, bytes: usize) {
        let at = self.start + at;
        for line in at / LINE..(at + bytes) / LINE {
            let to = target(line);
            if to < self.end {
                fetch(self.base.wrapping_add(to));
            }
        }
    }
}

/// The place of the line that is asked for when the given line is read; both counted from the start of a page.
#[inline]
fn target(line: usize) -> usize {
    const GROUP: usize = PAGES * PAGE / LINE;
    let (group, turn) = (line / GROUP, line % GROUP);
    (group + 1) * PAGES * PAGE + turn % PAGES * PAGE + turn / PAGES * LINE
}

/// Bytes of a run, read and written together, from which on its kernel asks ahead. A shorter one is as a rule in the core's own cache,
/// where asking costs more than it finds: of 1 MiB there a Xeon of 2023 casts f32 to i32 at 55 GB/s if it asks and 72 if it does
/// not, f64 to f16 at 43 and 61. Of 16 MiB, in the shared cache, f32 to bf16 is at 26 if it asks, and 24.
const FAR: usize = 3 << 19;

/// How far ahead the kernel of a run of so many bytes, read and written together, asks; 0 if it had better not.
#[inline]
pub(super) fn distance(bytes: usize) -> usize {
    #[cfg(test)]
    if super::way::tuning::get().ask_ahead {
        return NEAR;
    }
    if bytes < FAR || in_order() { 0 } else { NEAR }
}

/// Asks for what lies so far after a run's part of `bytes` bytes.
#[inline(always)]
pub(super) fn near(part: *const u8, bytes: usize, distance: usize) {
    for at in (0..bytes).step_by(LINE) {
        fetch(part.wrapping_add(distance + at));
    }
}

#[inline(always)]
fn fetch(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is always there on x86-64, and asking for memory touches none of it, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_after_the_first_group_is_asked_for_once_and_before_its_group() {
        let lines = PAGES * PAGE / LINE;
        let mut asked: Vec<usize> = (0..3 * lines).map(|line| target(line) / LINE).collect();
        for (line, target) in asked.iter().enumerate() {
            assert_eq!(target / lines, line / lines + 1, "in the next group");
        }
        assert!(asked[..lines].windows(2).all(|pair| pair[0] * LINE / PAGE != pair[1] * LINE / PAGE), "pages in turn");
        asked.sort_unstable();
        assert_eq!(asked, (lines..4 * lines).collect::<Vec<_>>());
    }
}
