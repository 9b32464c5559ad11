//! A line for every request, in the format of RMM.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use freehold_tensor::Device;

use crate::{AllocError, MemoryResource, Stream};

/// A resource that writes what is asked of it: `Thread,Time,Action,Pointer,Size,Stream`, as the logging adaptor of
/// [RMM](https://github.com/rapidsai/rmm), so that its replay benchmark reads the file.
///
/// * Thread: the system's number of it. Time: `HH:MM:SS.microseconds`, UTC. Action: `allocate`, `allocate failure`, `free`.
/// * Pointer: hexadecimal, `(nil)` for a failure. Size: the bytes asked for.
/// * Stream: DLPack's number in hexadecimal, which is CUDA's handle; `0` for none.
///
/// A line is written after an allocation and before a free, so that an address is never in use twice in the file. A line
/// that cannot be written is counted, and fails no request.
///
/// ```
/// use std::sync::Arc;
///
/// use freehold_device::{Buffer, HostMemory, Log, MemoryResource, Stream};
///
/// let log = Arc::new(Log::new(HostMemory, Vec::new()));
/// let memory: Arc<dyn MemoryResource> = log.clone();
/// drop(Buffer::new(&memory, 64, 1, Stream::NONE)?);
///
/// let text = String::from_utf8(log.out().clone()).expect("ASCII");
/// let actions: Vec<_> = text.lines().filter_map(|line| line.split(',').nth(2)).collect();
/// assert_eq!(actions, ["Action", "allocate", "free"]);
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Log<R, W: Write> {
    inner: R,
    out: Mutex<W>,
    lost: AtomicU64,
}

impl<R: MemoryResource> Log<R, BufWriter<File>> {
    /// Writes into a new file, buffered; an old one is replaced.
    ///
    /// # Errors
    ///
    /// What the system says of the file.
    pub fn create(inner: R, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Log::new(inner, BufWriter::new(File::create(path)?)))
    }
}

impl<R: MemoryResource, W: Write + Send> Log<R, W> {
    /// Writes into `out`, beginning with the header.
    pub fn new(inner: R, out: W) -> Self {
        let log = Self { inner, out: Mutex::new(out), lost: AtomicU64::new(0) };
        log.write("Thread,Time,Action,Pointer,Size,Stream\n");
        log
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    ///
    /// What the system says of the file.
    pub fn flush(&self) -> io::Result<()> {
        self.out().flush()
    }

    /// How many lines could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Where it writes. Requests wait while the guard lives.
    pub fn out(&self) -> MutexGuard<'_, W> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resource inside.
    pub const fn inner(&self) -> &R {
        &self.inner
    }

    fn write(&self, line: &str) {
        if self.out().write_all(line.as_bytes()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note(&self, action: &str, ptr: Option<NonNull<u8>>, bytes: usize, stream: Stream) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (seconds, micros) = (now.as_secs(), now.subsec_micros());
        let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let pointer = ptr.map_or_else(|| "(nil)".to_owned(), |ptr| format!("{:#x}", ptr.addr()));
        let stream = if stream.0 <= 0 { "0".to_owned() } else { format!("{:#x}", stream.0) };
        let thread = thread();
        self.write(&format!(
            "{thread},{hours:02}:{minutes:02}:{seconds:02}.{micros:06},{action},{pointer},{bytes},{stream}\n"
        ));
    }
}

/// The system's number of this thread.
fn thread() -> u64 {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: it takes nothing and cannot fail.
    let number = unsafe { libc::gettid() } as u64;
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let number = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        NUMBER.with(|number| *number)
    };
    number
}

// SAFETY: memory and requests are those of the resource inside, which gives the guarantees.
unsafe impl<R: MemoryResource, W: Write + Send> MemoryResource for Log<R, W> {
    fn device(&self) -> Device {
        self.inner.device()
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let made = self.inner.allocate(bytes, align, stream);
        match &made {
            Ok(ptr) => self.note("allocate", Some(*ptr), bytes, stream),
            Err(_) => self.note("allocate failure", None, bytes, stream),
        }
        made
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        self.note("free", Some(ptr), bytes, stream);
        // SAFETY: the caller's promises, passed on to the resource that allocated.
        unsafe { self.inner.deallocate(ptr, bytes, align, stream) };
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}
