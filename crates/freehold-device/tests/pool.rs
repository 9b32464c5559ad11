//! The pool of host memory: blocks come back warm, counters are exact, limits and trims give memory back.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use freehold_device::{
    AllocReason, Buffer, HOST_ALIGNMENT, HOST_LARGE_ALIGNMENT, HostStatistics, MemoryResource, Stream, host, host_pool,
};
use freehold_tensor::Device;

const MIB: usize = 1 << 20;

/// The pool is the process's, so the tests of one program take turns (nextest gives each a process anyway).
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    host_pool().set_limit(1 << 30);
    host_pool().trim(0);
    turn
}

fn now() -> HostStatistics {
    host_pool().statistics()
}

fn fill(buffer: &Buffer, byte: u8) {
    // SAFETY: the whole of a buffer that nobody else has.
    unsafe { buffer.as_ptr().write_bytes(byte, buffer.len()) };
}

#[test]
fn a_freed_block_is_the_next_of_its_size() {
    let _turn = turn();
    let huge = if cfg!(miri) { 4 * MIB } else { 64 * MIB };
    for (bytes, next) in [
        (1, 256),
        (256, 1),
        (300, 512),
        (4096, 3585),
        (65_536, 57_345),
        (65_537, 73_728),
        (MIB, MIB - 1000),
        (3 * MIB, 3 * MIB - 4096),
        (huge, huge - 1),
    ] {
        host_pool().trim(0);
        let before = now();
        let first = Buffer::host(bytes).expect("memory");
        let address = first.as_ptr().addr();
        assert_eq!(address % HOST_ALIGNMENT, 0);
        if bytes >= 2 * MIB {
            assert_eq!(address % HOST_LARGE_ALIGNMENT, 0);
        }
        fill(&first, 7);
        drop(first);
        let again = Buffer::host(next).expect("memory");
        assert_eq!(again.as_ptr().addr(), address, "{bytes}");
        let after = now();
        assert_eq!(after.reused_count, before.reused_count + 1, "{bytes}");
        assert_eq!(after.total_count, before.total_count + 2);
        assert_eq!(after.current_bytes, before.current_bytes + again.len() as u64);
    }
}

#[test]
fn counters_are_exact_across_threads() {
    let _turn = turn();
    let before = now();
    let (send, receive) = mpsc::channel::<Buffer>();
    let threads: Vec<_> = (0..3usize)
        .map(|t| {
            let send = send.clone();
            std::thread::spawn(move || {
                for i in 0..if cfg!(miri) { 20 } else { 2000 } {
                    let buffer = Buffer::host(1 + (i * 37 + t * 1009) % 100_000).expect("memory");
                    fill(&buffer, t as u8);
                    if i % 3 == 0 { send.send(buffer).expect("somebody listens") } else { drop(buffer) }
                }
            })
        })
        .collect();
    drop(send);
    // Freed on another thread than the one that allocated.
    let received = receive.into_iter().map(drop).count() as u64;
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let after = now();
    let each = if cfg!(miri) { 20 } else { 2000 };
    assert_eq!(after.total_count - before.total_count, 3 * each);
    assert!(received > 0 && after.reused_count > before.reused_count);
    assert_eq!((after.current_count, after.current_bytes), (before.current_count, before.current_bytes));
    // What the threads kept went back when they ended.
    host_pool().trim(0);
    assert_eq!(now().kept_bytes, 0);
    assert_eq!(now().system_bytes, 0);
}

#[test]
fn no_two_live_blocks_overlap_and_none_loses_its_bytes() {
    let _turn = turn();
    let mut live: Vec<(Buffer, u8)> = Vec::new();
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sizes = HashSet::new();
    for round in 0..if cfg!(miri) { 60 } else { 6000 } {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if live.len() > 40 || (!live.is_empty() && state.is_multiple_of(3)) {
            let (buffer, byte) = live.swap_remove(state as usize % live.len());
            // SAFETY: filled when it was made.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr(), buffer.len()) };
            assert!(bytes.iter().all(|b| *b == byte), "round {round}: {} bytes", bytes.len());
        } else {
            let bytes = 1 + (state >> 20) as usize % (1 << (state % if cfg!(miri) { 12 } else { 21 }));
            let buffer = Buffer::host(bytes).expect("memory");
            sizes.insert(bytes);
            fill(&buffer, round as u8);
            live.push((buffer, round as u8));
        }
    }
    assert!(sizes.len() > 20);
}

#[test]
fn a_limit_of_nothing_keeps_nothing() {
    let _turn = turn();
    host_pool().set_limit(0);
    assert_eq!(host_pool().limit(), 0);
    for bytes in [256, 5 * MIB] {
        drop(Buffer::host(bytes).expect("memory"));
        assert_eq!((now().kept_bytes, now().system_bytes), (0, 0), "{bytes}");
    }
    host_pool().set_limit(4 * MIB as u64);
    let blocks: Vec<_> = (0..6).map(|_| Buffer::host(MIB).expect("memory")).collect();
    let oldest: Vec<_> = blocks[..2].iter().map(|block| block.as_ptr().addr()).collect();
    blocks.into_iter().for_each(drop);
    assert_eq!(now().kept_bytes, 4 * MIB as u64, "the oldest two went");
    let reused = now().reused_count;
    let again: Vec<_> = (0..4).map(|_| Buffer::host(MIB).expect("memory")).collect();
    assert_eq!(now().reused_count, reused + 4, "the four that stayed are enough for four");
    // The blocks that stayed were alive together with the two that went: none of them has the address of one.
    assert!(again.iter().all(|block| !oldest.contains(&block.as_ptr().addr())));
    drop(again);
    drop(Buffer::host(5 * MIB).expect("memory"));
    assert_eq!(now().kept_bytes, 4 * MIB as u64, "a block above the limit is not kept at all");
    host_pool().trim(2 * MIB as u64);
    assert_eq!(now().kept_bytes, 2 * MIB as u64);
    host_pool().trim(0);
    assert_eq!((now().kept_bytes, now().system_bytes), (0, 0));
    assert!(now().system_peak_bytes >= 6 * MIB as u64);
}

#[test]
fn the_pool_is_the_host_and_refuses_what_the_host_refuses() {
    let _turn = turn();
    assert_eq!((host().name(), host().device()), ("host", Device::CPU));
    let buffer = Buffer::host(100).expect("memory");
    assert!(std::ptr::eq(buffer.resource(), host()));
    for (bytes, align, reason) in [
        (16, 3, AllocReason::Alignment),
        (16, 0, AllocReason::Alignment),
        (isize::MAX as usize, 1, AllocReason::TooLarge),
        (usize::MAX, 256, AllocReason::TooLarge),
    ] {
        let before = now().failed_count;
        let error = host().allocate(bytes, align, Stream::NONE).expect_err("cannot be");
        assert_eq!((error.reason, error.bytes, error.align), (reason, bytes, align));
        assert_eq!(now().failed_count, before + 1);
    }
    // More alignment than a block has: from the system, and given back to it.
    let aligned = Buffer::host_aligned(1000, 1 << 16).expect("memory");
    assert_eq!(aligned.as_ptr().addr() % (1 << 16), 0);
    let empty = Buffer::host(0).expect("nothing");
    assert!(empty.is_empty() && !empty.as_ptr().is_null());
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn large_blocks_stay_warm() {
    let _turn = turn();
    // Minor page faults of this thread: field 10 of its stat.
    let faults = || -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("this is Linux");
        let fields = stat.rsplit(')').next().expect("a name in parentheses");
        fields.split_whitespace().nth(7).expect("ten fields").parse().expect("a number")
    };
    let bytes = 64 * MIB;
    let cold = faults();
    let first = Buffer::host(bytes).expect("memory");
    fill(&first, 1);
    drop(first);
    let warm = faults();
    let second = Buffer::host(bytes).expect("memory");
    fill(&second, 2);
    let end = faults();
    assert!(end - warm <= (warm - cold) / 4 + 8, "{} faults when cold, {} when warm", warm - cold, end - warm);
}
