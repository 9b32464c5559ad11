//! What each adaptor adds to the resource inside.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use freehold_device::{
    AllocError, AllocReason, AllocStatistics, Buffer, FailAfter, HostMemory, Limit, Log, MemoryResource, Retry,
    Statistics, Stream,
};
use freehold_tensor::Device;
use proptest::prelude::*;

fn take(resource: &Arc<dyn MemoryResource>, bytes: usize) -> Result<Buffer, AllocError> {
    Buffer::new(resource, bytes, 64, Stream::NONE)
}

/// A resource as a trait object, with the typed handle for its own questions.
fn shared<R: MemoryResource + 'static>(resource: R) -> (Arc<R>, Arc<dyn MemoryResource>) {
    let typed = Arc::new(resource);
    (typed.clone(), typed)
}

#[test]
fn statistics_count_bytes_allocations_and_failures() {
    let (counted, memory) = shared(Statistics::new(Limit::new(HostMemory, 1000)));
    let first = take(&memory, 100).expect("under the limit");
    let second = take(&memory, 900).expect("up to the limit");
    assert!(take(&memory, 1).is_err());
    drop(first);
    let third = take(&memory, 50).expect("under the limit");
    assert_eq!(
        counted.statistics(),
        AllocStatistics {
            current_bytes: 950,
            peak_bytes: 1000,
            total_bytes: 1050,
            current_count: 2,
            peak_count: 2,
            total_count: 3,
            failed_count: 1,
        }
    );
    drop((second, third));
    let end = counted.statistics();
    assert_eq!((end.current_bytes, end.current_count, end.peak_bytes, end.peak_count), (0, 0, 1000, 2));
}

#[test]
fn a_limit_is_exact_and_says_itself() {
    let (limit, memory) = shared(Limit::new(HostMemory, 4096));
    let whole = take(&memory, 4096).expect("the limit itself is allowed");
    let error = take(&memory, 1).expect_err("one more is not");
    assert_eq!((error.limit, error.reason), (Some(4096), AllocReason::Limit { in_use: 4096 }));
    assert_eq!(
        error.to_string(),
        "1 byte could not be allocated on cpu: 4 KiB (4096 bytes) of the limit of 4 KiB (4096 bytes) are in use"
    );
    // Zero bytes take nothing, so a full limit still allows them.
    assert!(take(&memory, 0).is_ok());
    drop(whole);
    assert_eq!((limit.in_use(), limit.limit()), (0, 4096));
    assert!(take(&memory, 4096).is_ok());
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn a_limit_is_rolled_back_when_the_resource_inside_fails() {
    let (limit, memory) = shared(Limit::new(FailAfter::once(HostMemory, 1), 100));
    let first = take(&memory, 60).expect("under the limit");
    assert_eq!(take(&memory, 40).expect_err("injected").reason, AllocReason::Injected);
    assert_eq!(limit.in_use(), 60, "the failed request holds nothing");
    let second = take(&memory, 40).expect("the room is still there");
    assert_eq!(limit.in_use(), 100);
    drop(second);
    // 60 and this wrap around to less than the limit; the sum must not pass for that.
    assert_eq!(take(&memory, usize::MAX).expect_err("too much").reason, AllocReason::Limit { in_use: 60 });
    drop(first);
    assert_eq!(limit.in_use(), 0);
}

/// Remembers the most bytes that were allocated at once, by its own count.
struct Watch {
    now: AtomicU64,
    most: AtomicU64,
}

// SAFETY: the memory is that of `HostMemory`.
unsafe impl MemoryResource for Watch {
    fn device(&self) -> Device {
        Device::CPU
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let now = self.now.fetch_add(bytes as u64, Ordering::SeqCst) + bytes as u64;
        self.most.fetch_max(now, Ordering::SeqCst);
        HostMemory.allocate(bytes, align, stream)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller's promises, passed on.
        unsafe { HostMemory.deallocate(ptr, bytes, align, stream) };
        self.now.fetch_sub(bytes as u64, Ordering::SeqCst);
    }

    fn name(&self) -> &str {
        "watch"
    }
}

#[test]
fn threads_together_stay_under_a_limit_and_a_large_request_harms_no_small_one() {
    const LIMIT: u64 = 1000;
    let watch = Watch { now: AtomicU64::new(0), most: AtomicU64::new(0) };
    let (limit, memory) = shared(Limit::new(watch, LIMIT));
    let rounds = if cfg!(miri) { 20 } else { 5000 };
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        // Three threads of 300 fit beside each other; the fourth asks for what can never fit.
        for _ in 0..3 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..rounds {
                    take(&memory, 300).expect("three of 300 are under 1000");
                }
            });
        }
        scope.spawn(|| {
            barrier.wait();
            for _ in 0..rounds {
                assert!(take(&memory, 1001).is_err());
            }
        });
    });
    assert!((300..=LIMIT).contains(&limit.inner().most.load(Ordering::SeqCst)));
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn failures_are_injected_where_asked() {
    let outcomes = |failing: FailAfter<HostMemory>| {
        let (failing, memory) = shared(failing);
        let outcomes: Vec<bool> = (0..5).map(|_| take(&memory, 8).is_ok()).collect();
        assert_eq!(failing.requests(), 5);
        outcomes
    };
    assert_eq!(outcomes(FailAfter::new(HostMemory, 2)), [true, true, false, false, false]);
    assert_eq!(outcomes(FailAfter::once(HostMemory, 2)), [true, true, false, true, true]);
    assert_eq!(outcomes(FailAfter::new(HostMemory, 0)), [false; 5]);
}

#[test]
fn every_failure_of_an_operation_can_be_reached() {
    // The recipe of `FailAfter::once`, on an operation of three allocations that must leak nothing however it ends.
    let operation = |memory: &Arc<dyn MemoryResource>| -> Result<(), AllocError> {
        let _kept = [take(memory, 10)?, take(memory, 20)?];
        take(memory, 30)?;
        Ok(())
    };
    let mut failures = 0;
    for successes in 0.. {
        let (counted, memory) = shared(Statistics::new(FailAfter::once(HostMemory, successes)));
        let result = operation(&memory);
        assert_eq!(counted.statistics().current_bytes, 0);
        if counted.inner().requests() <= successes {
            assert_eq!(result, Ok(()));
            break;
        }
        assert_eq!(result.expect_err("one of the three failed").reason, AllocReason::Injected);
        failures += 1;
    }
    assert_eq!(failures, 3);
}

/// Panics in whatever it is told to.
struct Panics {
    in_deallocate: bool,
    in_drop: bool,
    reached: Arc<AtomicBool>,
}

// SAFETY: the memory is that of `HostMemory`.
unsafe impl MemoryResource for Panics {
    fn device(&self) -> Device {
        Device::CPU
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        HostMemory.allocate(bytes, align, stream)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller's promises, passed on.
        unsafe { HostMemory.deallocate(ptr, bytes, align, stream) };
        self.reached.store(true, Ordering::SeqCst);
        assert!(!self.in_deallocate, "deliberate");
    }

    fn name(&self) -> &str {
        "panics"
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(!self.in_drop, "deliberate");
    }
}

#[test]
fn dropping_a_buffer_never_panics() {
    for (in_deallocate, in_drop) in [(true, false), (false, true), (true, true)] {
        let reached = Arc::new(AtomicBool::new(false));
        let resource: Arc<dyn MemoryResource> = Arc::new(Panics { in_deallocate, in_drop, reached: reached.clone() });
        let buffer = take(&resource, 16).expect("16 bytes");
        // The buffer has the last reference, so its drop meets both panics.
        drop(resource);
        drop(buffer);
        assert!(reached.load(Ordering::SeqCst));
    }
}

#[test]
fn a_panic_inside_a_limit_gives_the_room_back() {
    struct Refuses;
    // SAFETY: it never returns memory.
    unsafe impl MemoryResource for Refuses {
        fn device(&self) -> Device {
            Device::CPU
        }
        fn allocate(&self, _: usize, _: usize, _: Stream) -> Result<NonNull<u8>, AllocError> {
            panic!("deliberate")
        }
        unsafe fn deallocate(&self, _: NonNull<u8>, _: usize, _: usize, _: Stream) {}
        fn name(&self) -> &str {
            "refuses"
        }
    }
    let limit = Limit::new(Refuses, 100);
    let call = std::panic::AssertUnwindSafe(|| limit.allocate(60, 1, Stream::NONE));
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(limit.in_use(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Take(usize),
    GiveBackOldest,
    GiveBackNewest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_usize..400).prop_map(Step::Take),
        1 => Just(Step::GiveBackOldest),
        1 => Just(Step::GiveBackNewest),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any history of allocations gives the numbers that a plain list of sizes gives.
    #[test]
    fn counters_agree_with_a_list(history in steps(), limit in 0_u64..1500) {
        let (counted, memory) = shared(Statistics::new(Limit::new(HostMemory, limit)));
        let mut held: VecDeque<Buffer> = VecDeque::new();
        let mut expected = AllocStatistics::default();
        for step in history {
            match step {
                Step::Take(bytes) => {
                    let fits = held.iter().map(Buffer::len).sum::<usize>() + bytes <= limit as usize;
                    let taken = take(&memory, bytes);
                    prop_assert_eq!(taken.is_ok(), fits);
                    match taken {
                        Ok(buffer) => {
                            held.push_back(buffer);
                            expected.total_bytes += bytes as u64;
                            expected.total_count += 1;
                        }
                        Err(_) => expected.failed_count += 1,
                    }
                }
                Step::GiveBackOldest => drop(held.pop_front()),
                Step::GiveBackNewest => drop(held.pop_back()),
            }
            expected.current_bytes = held.iter().map(|buffer| buffer.len() as u64).sum();
            expected.current_count = held.len() as u64;
            expected.peak_bytes = expected.peak_bytes.max(expected.current_bytes);
            expected.peak_count = expected.peak_count.max(expected.current_count);
            prop_assert_eq!(counted.statistics(), expected);
            prop_assert_eq!(counted.inner().in_use(), expected.current_bytes);
        }
    }
}

/// What RMM's replay reads of a log: action, pointer, size, stream.
fn replay(log: &str) -> Vec<(String, u64, usize, u64)> {
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("Thread,Time,Action,Pointer,Size,Stream"));
    let hex = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).expect("hexadecimal"),
        None => u64::from(!matches!(text, "(nil)" | "0")),
    };
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [thread, time, action, pointer, size, stream] = fields[..] else { panic!("six fields: {line}") };
        assert!(thread.parse::<u64>().expect("a number") > 0);
        let time: Vec<u32> = time.split([':', '.']).map(|part| part.parse().expect("a number")).collect();
        assert!(matches!(time[..], [0..24, 0..60, 0..60, 0..1_000_000]), "{line}");
        assert!(matches!(action, "allocate" | "allocate failure" | "free"), "{line}");
        (action.to_owned(), hex(pointer), size.parse().expect("a size"), hex(stream))
    };
    lines.map(parse).collect()
}

#[test]
fn a_log_reads_back_as_what_happened() {
    let (log, memory) = shared(Log::new(FailAfter::once(HostMemory, 2), Vec::new()));
    let first = take(&memory, 100).expect("memory");
    let mut second = take(&memory, 7).expect("memory");
    take(&memory, 5).expect_err("the third fails");
    let at = |buffer: &Buffer| buffer.as_ptr().addr() as u64;
    let (one, two) = (at(&first), at(&second));
    drop(first);
    second.set_stream(Stream(0x1234));
    drop(second);
    let text = String::from_utf8(log.out().clone()).expect("text");
    let line = |action: &str, pointer, size, stream| (action.to_owned(), pointer, size, stream);
    let expected = [
        line("allocate", one, 100, 0),
        line("allocate", two, 7, 0),
        line("allocate failure", 0, 5, 0),
        line("free", one, 100, 0),
        line("free", two, 7, 0x1234),
    ];
    assert_eq!(replay(&text), expected);
}

#[test]
fn a_log_that_cannot_be_written_fails_no_request() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (log, memory) = shared(Log::new(HostMemory, Full));
    drop(take(&memory, 10).expect("memory"));
    assert_eq!(log.lost(), 3, "the header and two lines");
}

#[test]
fn a_retry_makes_room_and_gives_up_in_time() {
    let kept: Arc<std::sync::Mutex<Vec<Buffer>>> = Arc::default();
    let spare = Arc::clone(&kept);
    let (_, limited) = shared(Limit::new(HostMemory, 100));
    let (retry, memory) = shared(Retry::new(Arc::clone(&limited), 3, move |error: &AllocError| {
        assert!(error.is_out_of_memory());
        spare.lock().expect("no panic").pop().is_some()
    }));
    kept.lock().expect("no panic").extend((0..2).map(|_| take(&limited, 40).expect("memory")));
    let big = take(&memory, 100).expect("two blocks make room, one after the other");
    assert_eq!(retry.retries(), 2);
    // Nothing is left to make room with: the function says so, and the error comes through.
    assert!(matches!(take(&memory, 1).expect_err("full").reason, AllocReason::Limit { in_use: 100 }));
    assert_eq!(retry.retries(), 2);
    drop(big);
    // What no room helps is not tried again.
    assert_eq!(memory.allocate(1, 3, Stream::NONE).expect_err("no alignment").reason, AllocReason::Alignment);
    assert_eq!(retry.retries(), 2);
    let (stubborn, memory) = shared(Retry::new(FailAfter::new(HostMemory, 0), 5, |_| true));
    assert_eq!(take(&memory, 1).expect_err("it always fails").reason, AllocReason::Injected);
    assert_eq!((stubborn.retries(), stubborn.inner().requests()), (5, 6));
}
