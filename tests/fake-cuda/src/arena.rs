//! Address space for memory: one file in memory, mapped twice.
//!
//! The program gets addresses of the first mapping, which it cannot touch unless it is told that it may: a host access to
//! device memory faults, as with a GPU. The driver reads and writes through the second mapping. Neither is ever unmapped,
//! so that work which was queued before memory was freed finds poison, not a hole.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::RwLock;

/// What allocations are rounded up to in device memory, in bytes; the driver aligns to no less.
pub const GRANULE: u64 = 512;
/// The size of a page of the host, in bytes.
pub const PAGE: u64 = 4096;

/// One file in memory and its free ranges.
pub struct Arena {
    file: OwnedFd,
    span: Span,
    /// Start to length, never adjacent.
    free: BTreeMap<u64, u64>,
}

/// The two places of an arena.
#[derive(Clone, Copy)]
struct Span {
    program: u64,
    alias: u64,
    size: u64,
}

/// Every arena there ever was, for translation without the driver's lock.
static SPANS: RwLock<Vec<Span>> = RwLock::new(Vec::new());

/// Where the driver itself reads and writes what the program knows by this address; nothing for memory that is not in an
/// arena, or does not lie in one whole.
pub fn alias(address: u64, len: u64) -> Option<*mut u8> {
    let spans = SPANS.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let inside = |span: &&Span| address >= span.program && address - span.program <= span.size.saturating_sub(len);
    let span = spans.iter().find(inside)?;
    Some(ptr::with_exposed_provenance_mut((span.alias + (address - span.program)) as usize))
}

/// Whether an address is in an arena, allocated or not.
pub fn is_ours(address: u64) -> bool {
    alias(address, 1).is_some()
}

impl Arena {
    /// Takes that much address space. Memory is taken from the system page by page as it is touched.
    pub fn new(size: u64) -> Option<Arena> {
        // SAFETY: the name is a C string.
        let file = unsafe { libc::memfd_create(c"freehold-fake-cuda".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return None;
        }
        // SAFETY: just opened, and nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        // SAFETY: a file of ours.
        if unsafe { libc::ftruncate(file.as_raw_fd(), size as libc::off_t) } != 0 {
            return None;
        }
        Arena::of(file)
    }

    /// Maps a file that another arena, perhaps of another process, was made from.
    pub fn of(file: OwnedFd) -> Option<Arena> {
        // SAFETY: zeroes are a valid `stat`.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: an open file, and a place of ours.
        if unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) } != 0 || stat.st_size <= 0 {
            return None;
        }
        let size = stat.st_size as u64;
        let map = |protection| {
            let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
            // SAFETY: a new mapping at a place that the system chooses touches nothing that exists.
            let at = unsafe { libc::mmap(ptr::null_mut(), size as usize, protection, flags, file.as_raw_fd(), 0) };
            (at != libc::MAP_FAILED).then(|| at.expose_provenance() as u64)
        };
        let span = Span { program: map(libc::PROT_NONE)?, alias: map(libc::PROT_READ | libc::PROT_WRITE)?, size };
        SPANS.write().unwrap_or_else(|poisoned| poisoned.into_inner()).push(span);
        Some(Arena { file, span, free: BTreeMap::from([(span.program, size)]) })
    }

    /// The file, to give to another process.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Where the program sees the beginning.
    pub fn start(&self) -> u64 {
        self.span.program
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.span.size
    }

    /// Whether an address that the program knows is in here.
    pub fn contains(&self, address: u64) -> bool {
        address >= self.span.program && address - self.span.program < self.span.size
    }

    /// Takes a range: the lowest one that is free, so that addresses are used again at once. `len` is a multiple of the
    /// granule that is used throughout the arena.
    pub fn take(&mut self, len: u64) -> Option<u64> {
        let (&start, &room) = self.free.iter().find(|&(_, &room)| room >= len)?;
        self.free.remove(&start);
        if room > len {
            self.free.insert(start + len, room - len);
        }
        Some(start)
    }

    /// Gives a range back.
    pub fn give(&mut self, start: u64, len: u64) {
        let (mut start, mut len) = (start, len);
        if let Some((&before, &room)) = self.free.range(..start).next_back()
            && before + room == start
        {
            self.free.remove(&before);
            (start, len) = (before, room + len);
        }
        if let Some(room) = self.free.remove(&(start + len)) {
            len += room;
        }
        self.free.insert(start, len);
    }
}

/// Lets the program touch a range, or forbids it. Whole pages.
pub fn let_program_touch(start: u64, len: u64, may: bool) -> bool {
    let protection = if may { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
    let at = ptr::with_exposed_provenance_mut::<libc::c_void>(start as usize);
    // SAFETY: a range of an arena's first mapping, which only the program under test touches; a fault is what it is for.
    unsafe { libc::mprotect(at, len as usize, protection) == 0 }
}

/// The most bytes that are filled at either end of a range: filling all of a very large one would take its memory.
const FILLED: u64 = 32 << 20;

/// Fills a range with a byte: what is in memory that nobody wrote to, or that was freed.
pub fn fill(start: u64, len: u64, byte: u8) {
    let ends =
        if len <= 2 * FILLED { [(start, len), (start, 0)] } else { [(start, FILLED), (start + len - FILLED, FILLED)] };
    for (start, len) in ends {
        if let Some(at) = alias(start, len) {
            // SAFETY: in the second mapping, which is never unmapped, and no reference points into it. A program that
            // uses the memory at the same time has a race of its own, which is what the byte shall show.
            unsafe { ptr::write_bytes(at, byte, len as usize) };
        }
    }
}
