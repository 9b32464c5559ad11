//! Questions to the ledger.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_char, c_void};
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use freehold::dlpack::{self, DLDataType, DLDevice};
use freehold::{Dialect, Error, HolderId, Ledger, Tensor, Verdict};
use freehold_ledger::{Counter, Format, HolderReport, Mark, Role};

use crate::args::{invalid, text};
use crate::error::{FH_IO, c_string, fh_error, fh_status};
use crate::guard::{Failure, Outcome, calm, guard};
use crate::options::{self, Sized32, check_reserved};
use crate::runtime::{fh_runtime, level_of, runtime_of};
use crate::tensor::{fh_tensor, tensor_of};

/// Frees the memory.
pub const FH_ROLE_OWNER: i32 = 0;
/// Has a view.
pub const FH_ROLE_HOLDER: i32 = 1;

/// The format that the path's name ends with.
pub const FH_FORMAT_OF_PATH: i32 = -1;
/// A snapshot as JSON.
pub const FH_FORMAT_JSON: i32 = 0;
/// One JSON object a line.
pub const FH_FORMAT_JSON_LINES: i32 = 1;
/// PyTorch's memory viewer.
pub const FH_FORMAT_MEMORY_VIZ: i32 = 2;
/// Perfetto.
pub const FH_FORMAT_TRACE: i32 = 3;
/// Prometheus.
pub const FH_FORMAT_OPENMETRICS: i32 = 4;
/// Graphviz.
pub const FH_FORMAT_DOT: i32 = 5;
/// Mermaid.
pub const FH_FORMAT_MERMAID: i32 = 6;
/// The page.
pub const FH_FORMAT_HTML: i32 = 7;

/// Totals.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_stats {
    pub struct_size: u32,
    pub level: i32,
    pub opened: u64,
    pub closed: u64,
    pub live_holders: u64,
    pub live_buffers: u64,
    pub live_bytes: u64,
    pub shares: u64,
    pub copies: u64,
    pub rejects: u64,
    pub bytes_copied: u64,
    pub hazards: u64,
    pub double_closed: u64,
    pub records_dropped: u64,
}

/// A live holder.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_holder {
    pub struct_size: u32,
    pub role: i32,
    pub id: u64,
    pub buffer: u64,
    pub parent: u64,
    pub framework: *const c_char,
    pub site: *const c_char,
    pub device: DLDevice,
    pub address: u64,
    pub start: u64,
    pub bytes: u64,
    pub dtype: DLDataType,
    pub ndim: i32,
    pub shape: *const i64,
    pub strides: *const i64,
    pub flags: u32,
    pub verdict: i32,
    pub reason: i32,
    pub steps: u32,
    pub bytes_copied: u64,
    pub opened_ns: u64,
}

/// Which holders are visited.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_query {
    pub struct_size: u32,
    pub reserved0: u32,
    pub since: u64,
    pub holders_of: *const fh_tensor,
    pub aliases_of: *const fh_tensor,
    pub reserved: [u64; 2],
}

/// Visits a holder.
pub type fh_holder_fn = Option<unsafe extern "C" fn(user: *mut c_void, holder: *const fh_holder) -> i32>;

/// Takes bytes.
pub type fh_write_fn = Option<unsafe extern "C" fn(user: *mut c_void, bytes: *const c_char, len: usize) -> i32>;

// SAFETY: `repr(C)`, the size is first, the alignment is 8, integers only.
unsafe impl Sized32 for fh_stats {
    const NAME: &'static str = "fh_stats";
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8; integers and pointers.
unsafe impl Sized32 for fh_holder {
    const NAME: &'static str = "fh_holder";
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8; integers and pointers.
unsafe impl Sized32 for fh_query {
    const NAME: &'static str = "fh_query";
}

/// A static name as C text that lasts as long. There are as many as there are labels and codes, which is bounded.
pub(crate) fn lasting(name: &'static str) -> *const c_char {
    static NAMES: OnceLock<Mutex<HashMap<&'static str, CString>>> = OnceLock::new();
    let mut names = NAMES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    names.entry(name).or_insert_with(|| c_string(name.to_owned())).as_ptr()
}

impl fh_holder {
    /// Shape and strides point into the report.
    fn of(report: &HolderReport) -> Self {
        Self {
            struct_size: size_of::<fh_holder>() as u32,
            role: match report.role {
                Role::Owner => FH_ROLE_OWNER,
                Role::Holder => FH_ROLE_HOLDER,
            },
            id: report.id.get(),
            buffer: report.buffer,
            parent: report.parent.get(),
            framework: lasting(report.framework),
            site: lasting(report.site),
            device: dlpack::device_to(report.device),
            address: report.address,
            start: report.extent_start,
            bytes: report.extent_bytes,
            dtype: dlpack::dtype_to(report.dtype),
            ndim: report.shape.len() as i32,
            shape: report.shape.as_ptr(),
            strides: report.strides.as_ptr(),
            flags: report.flags.bits(),
            verdict: report.verdict.map_or(-1, |verdict| verdict as i32),
            reason: report.reasons.first().map_or(0, |code| *code as i32),
            steps: u32::from(report.steps.bits()),
            bytes_copied: report.bytes,
            opened_ns: report.opened_ns,
        }
    }

    /// No such holder.
    fn none() -> Self {
        // SAFETY: integers and pointers, for which all bits 0 are a value.
        let zero: fh_holder = unsafe { std::mem::zeroed() };
        Self { framework: c"".as_ptr(), site: c"".as_ptr(), verdict: -1, ..zero }
    }
}

/// Changes the level.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_ledger_set_level(
    runtime: *mut fh_runtime,
    level: i32,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for NULL or a runtime that lives.
        let runtime = unsafe { runtime_of(runtime) }?;
        let level = level_of(level)?;
        runtime.ledger().set_level(level);
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Totals.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_ledger_stats(
    runtime: *mut fh_runtime,
    out: *mut fh_stats,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for NULL or a runtime that lives, and for a struct as large as it says.
        let (runtime, size) = unsafe { (runtime_of(runtime)?, options::writable(out)?) };
        let ledger = runtime.ledger();
        let stats = ledger.stats();
        let handed = |verdict| stats.handovers.iter().filter(|h| h.verdict == verdict).map(|h| h.count).sum();
        let totals = fh_stats {
            struct_size: 0,
            level: stats.level as i32,
            opened: stats.opened,
            closed: stats.closed,
            live_holders: stats.live.holders,
            live_buffers: stats.live.buffers,
            live_bytes: stats.live.bytes,
            shares: handed(Verdict::Share),
            copies: handed(Verdict::Copy),
            rejects: stats.refused.iter().map(|r| r.count).sum(),
            bytes_copied: stats.copied.iter().map(|c| c.bytes).sum(),
            hazards: stats.hazards.iter().map(|h| h.count).sum(),
            double_closed: ledger.counted(Counter::DoubleClosed),
            records_dropped: ledger.counted(Counter::RecordsDropped),
        };
        // SAFETY: checked above.
        unsafe { options::write(out, size, totals) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// The owner of an address.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_ledger_owner(
    runtime: *mut fh_runtime,
    device: DLDevice,
    address: *const c_void,
    out: *mut fh_holder,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for NULL or a runtime that lives, and for a struct as large as it says.
        let (runtime, size) = unsafe { (runtime_of(runtime)?, options::writable(out)?) };
        let found = runtime.ledger().owner(dlpack::device_from(device), address.addr() as u64);
        let holder = found.and_then(|buffer| buffer.owner).map_or_else(fh_holder::none, |owner| fh_holder {
            // They would point into a report that ends here.
            shape: std::ptr::null(),
            strides: std::ptr::null(),
            ..fh_holder::of(&owner)
        });
        // SAFETY: checked above.
        unsafe { options::write(out, size, holder) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Visits live holders.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_ledger_foreach(
    runtime: *mut fh_runtime,
    query: *const fh_query,
    visit: fh_holder_fn,
    user: *mut c_void,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for NULL or a runtime that lives, and for NULL or a struct as large as it says.
        let (runtime, query) = unsafe { (runtime_of(runtime)?, options::read(query)?) };
        let visit = visit.ok_or_else(|| invalid("visit", "NULL", "be a function"))?;
        let call = |report: &HolderReport| {
            let holder = fh_holder::of(report);
            // SAFETY: the header asks for a function that can be called with `user`; the holder lives for the call.
            unsafe { visit(user, &raw const holder) == 0 }
        };
        match query {
            None => runtime.ledger().foreach(&mut |report| call(report)),
            Some(query) => {
                // SAFETY: the header asks for NULL or tensors that live.
                let found = unsafe { find(runtime.ledger(), &query) }?;
                let _ = found.iter().all(call);
            }
        }
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// # Safety
///
/// * The tensors of the query are NULL, misaligned, or live.
unsafe fn find(ledger: &Ledger, query: &fh_query) -> Outcome<Vec<HolderReport>> {
    check_reserved("fh_query", &query.reserved)?;
    check_reserved("fh_query", &[u64::from(query.reserved0)])?;
    let since = u32::try_from(query.since).map_err(|_| invalid("query.since", query.since, "be a mark"))?;
    let since = Mark::from_raw(since);
    let mut found = if query.aliases_of.is_null() {
        ledger.leaks(since)
    } else {
        // SAFETY: forwarded from the caller.
        let of = unsafe { tensor_of(query.aliases_of, "query.aliases_of") }?;
        let mut holders: Vec<HolderReport> =
            ledger.aliases_of(&of.strided(), of.device()).into_iter().map(|alias| alias.holder).collect();
        holders.retain(|holder| holder.id != of.id());
        if query.since != 0 {
            let opened: HashSet<HolderId> = ledger.leaks(since).into_iter().map(|holder| holder.id).collect();
            holders.retain(|holder| opened.contains(&holder.id));
        }
        holders
    };
    if !query.holders_of.is_null() {
        // SAFETY: forwarded from the caller.
        let of = unsafe { tensor_of(query.holders_of, "query.holders_of") }?;
        let buffer = buffer_of(ledger, &of);
        found.retain(|holder| Some(holder.buffer) == buffer);
    }
    Ok(found)
}

/// The buffer that a tensor is in: by its record, or by its address where it has none.
fn buffer_of(ledger: &Ledger, tensor: &Tensor) -> Option<u64> {
    let recorded = ledger.holder(tensor.id()).map(|holder| holder.buffer);
    recorded.or_else(|| ledger.owner(tensor.device(), tensor.data_ptr().addr() as u64).map(|buffer| buffer.id))
}

/// A mark.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_ledger_mark(runtime: *mut fh_runtime) -> u64 {
    calm(0, || {
        // SAFETY: the header asks for NULL or a runtime that lives.
        unsafe { runtime_of(runtime) }.map_or(0, |runtime| u64::from(runtime.ledger().mark().get()))
    })
}

/// A function of the caller that takes bytes.
struct Sink {
    write: unsafe extern "C" fn(user: *mut c_void, bytes: *const c_char, len: usize) -> i32,
    user: *mut c_void,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the header asks for a function that can be called with `user`; the bytes live for the call.
        match unsafe { (self.write)(self.user, bytes.as_ptr().cast(), bytes.len()) } {
            0 => Ok(bytes.len()),
            other => Err(io::Error::other(format!("write returned {other}"))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the ledger out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_ledger_write(
    runtime: *mut fh_runtime,
    format: i32,
    path: *const c_char,
    write: fh_write_fn,
    user: *mut c_void,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for NULL or a runtime that lives, and for NULL or text.
        let (runtime, path) = unsafe { (runtime_of(runtime)?, text(path, |path| path.map(str::to_owned))) };
        let format = match (format, &path) {
            (FH_FORMAT_OF_PATH, Some(path)) => Format::of_path(path.as_ref()).ok_or_else(|| {
                let ends: Vec<&str> = Format::ALL.iter().map(|format| format.extension()).collect();
                invalid("path", path, &format!("end in one of {}", ends.join(" ")))
            })?,
            (FH_FORMAT_OF_PATH, None) => return Err(invalid("format", format, "be named where there is no path")),
            _ => format_of(format).ok_or_else(|| invalid("format", format, "be one of FH_FORMAT_*"))?,
        };
        let (name, written) = match (path, write) {
            (Some(path), None) => {
                let written = std::fs::File::create(&path).and_then(|file| emit(runtime.ledger(), format, file));
                (path, written)
            }
            (None, Some(write)) => ("write".to_owned(), emit(runtime.ledger(), format, Sink { write, user })),
            (None, None) => return Err(invalid("path and write", "NULL", "be given, one of them")),
            (Some(_), Some(_)) => return Err(invalid("path and write", "both given", "be given, one of them")),
        };
        written.map_err(|e| {
            let error = Error::argument("the place to write to", &name, &format!("take the bytes ({e})"));
            Failure { status: FH_IO, error }
        })
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

fn format_of(number: i32) -> Option<Format> {
    Some(match number {
        FH_FORMAT_JSON => Format::Json,
        FH_FORMAT_JSON_LINES => Format::JsonLines,
        FH_FORMAT_MEMORY_VIZ => Format::MemoryViz,
        FH_FORMAT_TRACE => Format::Trace,
        FH_FORMAT_OPENMETRICS => Format::OpenMetrics,
        FH_FORMAT_DOT => Format::Dot,
        FH_FORMAT_MERMAID => Format::Mermaid,
        FH_FORMAT_HTML => Format::Html,
        _ => return None,
    })
}

fn emit(ledger: &Ledger, format: Format, to: impl Write) -> io::Result<()> {
    let mut to = io::BufWriter::new(to);
    let snapshot = ledger.snapshot().in_dialect(Dialect::C);
    match format {
        Format::Json => snapshot.write_json(&mut to, false)?,
        _ => snapshot.write(format, &mut to)?,
    }
    to.flush()
}
