//! What every memory resource must do, run over each of them.

mod common;

use std::sync::{Arc, mpsc};
use std::thread;

use common::callback_memory;
use freehold_device::{AllocReason, Buffer, FailAfter, HostMemory, Limit, MemoryResource, Statistics, Stream, host};
use freehold_tensor::Device;

/// The resource under test, and counters around it that must return to zero.
struct Subject {
    memory: Arc<dyn MemoryResource>,
    counted: Arc<Statistics<Arc<dyn MemoryResource>>>,
}

impl Subject {
    fn new(resource: impl MemoryResource + 'static) -> Self {
        let inner: Arc<dyn MemoryResource> = Arc::new(resource);
        let counted = Arc::new(Statistics::new(inner));
        Self { memory: counted.clone(), counted }
    }

    fn buffer(&self, bytes: usize, align: usize) -> Buffer {
        Buffer::new(&self.memory, bytes, align, Stream::NONE).expect("the machine has this little memory")
    }

    fn assert_all_returned(&self) {
        let now = self.counted.statistics();
        assert_eq!((now.current_bytes, now.current_count), (0, 0), "{now:?}");
        assert!(now.total_count > 0, "the test allocated nothing");
    }
}

/// Writes every byte of a buffer.
fn fill(buffer: &Buffer, value: u8) {
    // SAFETY: the buffer owns this many bytes of host memory and nothing else has its address.
    unsafe { buffer.as_ptr().write_bytes(value, buffer.len()) };
}

/// Whether every byte of a filled buffer is `value`.
fn holds(buffer: &Buffer, value: u8) -> bool {
    // SAFETY: as in `fill`, which has initialised the bytes.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr(), buffer.len()) };
    bytes.iter().all(|byte| *byte == value)
}

fn sizes() -> &'static [usize] {
    if cfg!(miri) { &[1, 255, 4097] } else { &[1, 3, 255, 256, 257, 4097, 1 << 16, (2 << 20) - 1, 2 << 20, 5 << 20] }
}

fn addresses_are_aligned(subject: &Subject) {
    for &bytes in sizes() {
        for align in (0..=16).map(|power| 1_usize << power) {
            let buffer = subject.buffer(bytes, align);
            assert_eq!(buffer.as_ptr().addr() % align, 0, "{bytes} bytes at {align}");
            assert_eq!((buffer.len(), buffer.align(), buffer.is_empty()), (bytes, align, false));
        }
    }
    subject.assert_all_returned();
}

fn blocks_are_whole_and_apart(subject: &Subject) {
    let buffers: Vec<Buffer> = sizes().iter().map(|bytes| subject.buffer(*bytes, 64)).collect();
    for (value, buffer) in (1_u8..).zip(&buffers) {
        fill(buffer, value);
    }
    for (value, buffer) in (1_u8..).zip(&buffers) {
        assert!(holds(buffer, value), "another allocation wrote into {buffer:?}");
    }
    drop(buffers);
    subject.assert_all_returned();
}

fn zero_bytes_take_nothing(subject: &Subject) {
    for align in [1, 256, 65536] {
        let buffer = subject.buffer(0, align);
        assert!(buffer.is_empty() && !buffer.as_ptr().is_null());
        assert_eq!(buffer.as_ptr().addr() % align, 0);
    }
    let now = subject.counted.statistics();
    assert_eq!((now.current_count, now.total_count, now.peak_bytes), (0, 3, 0));
}

fn bad_requests_fail_and_leave_no_trace(subject: &Subject) {
    // Below `isize::MAX` the address space itself is too small; Miri takes such a request for an error of its own.
    let huge: &[usize] = if cfg!(miri) { &[] } else { &[1 << 60, isize::MAX as usize - 65536] };
    for &bytes in huge {
        let error = Buffer::new(&subject.memory, bytes, 256, Stream::NONE).expect_err("no machine has as much");
        assert!(error.is_out_of_memory(), "{error}");
        assert_eq!((error.bytes, error.align, error.device), (bytes, 256, Device::CPU));
    }
    let refused = |bytes, align| {
        let error = Buffer::new(&subject.memory, bytes, align, Stream::NONE).expect_err("not a valid request");
        assert_eq!((error.bytes, error.align, error.device), (bytes, align, Device::CPU));
        error.reason
    };
    for align in [0, 3, 255, usize::MAX] {
        assert_eq!(refused(64, align), AllocReason::Alignment);
        assert_eq!(refused(0, align), AllocReason::Alignment);
    }
    for bytes in [isize::MAX as usize, usize::MAX - 255, usize::MAX] {
        // A limit may refuse before the host can say that no such size exists.
        assert!(matches!(refused(bytes, 256), AllocReason::TooLarge | AllocReason::Limit { .. }));
    }
    assert_eq!(subject.counted.statistics().failed_count, huge.len() as u64 + 11);
    drop(subject.buffer(64, 64));
    subject.assert_all_returned();
}

fn any_thread_may_free(subject: &Subject) {
    let (sender, receiver) = mpsc::channel::<(u8, Buffer)>();
    thread::scope(|scope| {
        for value in 1..=4 {
            let sender = sender.clone();
            scope.spawn(move || {
                for bytes in sizes() {
                    let buffer = subject.buffer(*bytes, 256);
                    fill(&buffer, value);
                    sender.send((value, buffer)).expect("the receiver lives");
                }
            });
        }
        drop(sender);
        scope.spawn(move || {
            for (value, buffer) in receiver {
                assert!(holds(&buffer, value));
            }
        });
    });
    subject.assert_all_returned();
    assert_eq!(subject.counted.statistics().total_count, 4 * sizes().len() as u64);
}

fn buffers_outlive_their_handle(subject: Subject) {
    let Subject { memory, counted } = subject;
    let weak = Arc::downgrade(&counted);
    let buffer = Buffer::new(&memory, 100, 64, Stream::NONE).expect("100 bytes");
    drop((memory, counted));
    fill(&buffer, 7);
    assert!(holds(&buffer, 7));
    assert!(weak.upgrade().is_some(), "the buffer keeps its resource");
    drop(buffer);
    assert!(weak.upgrade().is_none(), "and the last buffer lets it go");
}

macro_rules! conformance {
    ($($name:ident => $resource:expr;)*) => {$(
        mod $name {
            use super::*;

            fn subject() -> Subject {
                Subject::new($resource)
            }

            #[test]
            fn addresses_are_aligned() {
                super::addresses_are_aligned(&subject());
            }

            #[test]
            fn blocks_are_whole_and_apart() {
                super::blocks_are_whole_and_apart(&subject());
            }

            #[test]
            fn zero_bytes_take_nothing() {
                super::zero_bytes_take_nothing(&subject());
            }

            #[test]
            fn bad_requests_fail_and_leave_no_trace() {
                super::bad_requests_fail_and_leave_no_trace(&subject());
            }

            #[test]
            fn any_thread_may_free() {
                super::any_thread_may_free(&subject());
            }

            #[test]
            fn buffers_outlive_their_handle() {
                super::buffers_outlive_their_handle(subject());
            }
        }
    )*};
}

conformance! {
    plain_host => HostMemory;
    process_host => Arc::clone(host());
    statistics => Statistics::new(HostMemory);
    limit => Limit::new(HostMemory, 1 << 40);
    no_limit => Limit::new(HostMemory, u64::MAX);
    fail_after => FailAfter::new(HostMemory, u64::MAX);
    callbacks => callback_memory(Device::CPU).0;
    nested => Limit::new(FailAfter::new(Statistics::new(callback_memory(Device::CPU).0), u64::MAX), 1 << 40);
}
