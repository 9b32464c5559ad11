//! `fh.ledger`: who owns which buffer, who holds it, what was copied and why.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use freehold::ledger::{BufferReport, Format, HolderFlags, Level, Mark, Party, Role, Snapshot, TextOptions};
use freehold::{Code, Dialect, Error, HolderId, Ledger, Runtime, Tensor};
use pyo3::prelude::*;
use serde_json::Value;

use crate::error::{raise, warn};
use crate::source::{Adapter, Kind};
use crate::{call, gil, json, names};

fn ledger() -> &'static Ledger {
    static GLOBAL: Runtime = Runtime::global();
    GLOBAL.ledger()
}

/// Everything the ledger knows, with advice for Python.
fn snapshot() -> Snapshot {
    ledger().snapshot().in_dialect(Dialect::Python)
}

/// A serialisable report as Python's own types.
fn report<'py>(py: Python<'py>, value: serde_json::Result<Value>) -> PyResult<Bound<'py, PyAny>> {
    let value = value.map_err(|error| raise(py, Error::internal(&error.to_string())))?;
    json::object(py, &value)
}

/// The ledger of the process: who owns which buffer, who holds it, what was copied and why, what was never given back.
///
/// >>> import numpy as np
/// >>> mark = fh.ledger.mark()
/// >>> a = np.zeros(4)
/// >>> t = fh.share(a, "torch")
/// >>> [holder["framework"] for holder in fh.ledger.owner(a)["holders"]]
/// ['torch']
/// >>> len(fh.ledger.leaks(since=mark))
/// 2
/// >>> del t
/// >>> fh.ledger.leaks(since=mark)
/// []
#[pyclass(frozen, name = "Ledger", module = "freehold")]
pub(crate) struct PyLedger;

/// A moment, for `leaks(since=)`.
#[pyclass(frozen, name = "Mark", module = "freehold")]
pub(crate) struct PyMark(Mark);

#[pymethods]
impl PyMark {
    fn __repr__(&self) -> String {
        format!("fh.Mark({})", self.0.get())
    }
}

#[pymethods]
impl PyLedger {
    /// 0 off, 1 counters, 2 records (the default), 3 records with the line of code behind each, 4 canaries: what is lent
    /// read-only or frozen, deleters, freed memory and owners that move theirs are watched, to look for a bug.
    #[getter]
    fn level(&self) -> u8 {
        ledger().level() as u8
    }

    #[setter]
    fn set_level(&self, py: Python<'_>, level: &Bound<'_, PyAny>) -> PyResult<()> {
        let must = "be 0 (off), 1 (counters), 2 (records), 3 (records with call sites) or 4 (canaries)";
        let unknown = || raise(py, Error::argument("level", level, must));
        let level = match level.extract::<u8>() {
            Ok(number) => Level::from_number(number),
            Err(_) => level.extract::<String>().ok().and_then(|name| Level::from_name(&name)),
        };
        let level = level.ok_or_else(unknown)?;
        ledger().set_level(level);
        if level >= Level::Canaries {
            watch();
        }
        Ok(())
    }

    /// Every live buffer with its owner and holders.
    fn live<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        report(py, serde_json::to_value(ledger().live()))
    }

    /// The buffer that x (an object or an address) is in, with its owner and holders; None if nobody holds it.
    fn owner<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (device, address) = place(x)?;
        report(py, serde_json::to_value(ledger().owner(device, address)))
    }

    /// Everyone whose view may reach the first element of x (an object or an address).
    fn holders<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (device, address) = place(x)?;
        report(py, serde_json::to_value(ledger().holders(device, address)))
    }

    /// The live holders that share a byte with x: by exact overlap, strides included.
    fn aliases<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let tensor = call::look(x)?;
        let mut found = ledger().aliases_of(&tensor.strided(), tensor.device());
        found.retain(|alias| alias.holder.id != tensor.id() || tensor.id().is_none());
        report(py, serde_json::to_value(found))
    }

    /// The hands through which the memory of x (an object or an address) came to its newest holder, the first owner first.
    fn chain<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (device, address) = place(x)?;
        let holders = ledger().holders(device, address);
        let links = holders.last().map_or_else(Vec::new, |newest| ledger().chain(newest.id));
        report(py, serde_json::to_value(links))
    }

    /// Pairs of live holders of which one can write what the other can write too, or was promised would not change.
    fn conflicts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        report(py, serde_json::to_value(ledger().conflicts()))
    }

    /// This moment.
    fn mark(&self, py: Python<'_>) -> PyMark {
        gil::drain(py);
        PyMark(ledger().mark())
    }

    /// What was opened after a mark and is still open: owners of what came in, holders of what went out. Whoever holds
    /// what should be back broke the rule that `code` names (CP03); an owner is only waiting for them.
    #[pyo3(signature = (since))]
    fn leaks<'py>(&self, py: Python<'py>, since: &PyMark) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        let leaks = ledger().leaks(since.0);
        let mut values = serde_json::to_value(&leaks);
        if let Ok(Value::Array(values)) = &mut values {
            for (leak, value) in leaks.iter().zip(values) {
                let code = if leak.role == Role::Holder { Value::from(Code::CP03.name()) } else { Value::Null };
                value["code"] = code;
            }
        }
        report(py, values)
    }

    /// Totals: handovers, copied bytes by reason, refusals, hazards, counters.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        crate::moved::look(py);
        report(py, serde_json::to_value(ledger().stats()))
    }

    /// The most recent copies, the oldest first.
    fn copies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        report(py, serde_json::to_value(ledger().copies()))
    }

    /// The most recent hazards, the oldest first.
    fn hazards<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        crate::moved::look(py);
        report(py, serde_json::to_value(ledger().hazards()))
    }

    /// Everything the ledger knows, as `save` writes it.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        crate::moved::look(py);
        report(py, serde_json::to_value(snapshot()))
    }

    /// Writes everything the ledger knows to a file, in the format that its name ends with: .json, .jsonl, .html (a
    /// page to look at), .pickle (PyTorch's memory viewer), .trace.json (Perfetto), .prom (OpenMetrics), .dot, .mmd.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        gil::drain(py);
        check(py, &path)?;
        crate::moved::look(py);
        py.detach(|| snapshot().save(&path)).map_err(|error| unwritten(error, path))
    }

    /// What is live, who owns and holds it, what was copied and why, what went wrong; without addresses and times if
    /// `stable`.
    #[pyo3(signature = (*, stable=false))]
    fn report<'py>(&self, py: Python<'py>, stable: bool) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        crate::moved::look(py);
        let options = if stable { TextOptions::STABLE } else { TextOptions::default() };
        json::text(py, &snapshot().text(options))
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        json::html(slf.as_any(), "ledger")
    }

    fn __repr__(&self) -> String {
        let live = ledger().stats().live;
        format!(
            "fh.ledger(level={}, {} buffers, {} holders, {} B live)",
            ledger().level() as u8,
            live.buffers,
            live.holders,
            live.bytes
        )
    }
}

/// A path whose name says a format.
fn check(py: Python<'_>, path: &Path) -> PyResult<()> {
    if Format::of_path(path).is_some() {
        return Ok(());
    }
    let ends: Vec<&str> = Format::ALL.iter().map(|format| format.extension()).collect();
    let must = format!("end in one of {}", ends.join(" "));
    Err(raise(py, Error::argument("path", path.display(), &must)))
}

/// What the system said, with the path, as Python's own `open` has it.
fn unwritten(error: std::io::Error, path: PathBuf) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
            pyo3::exceptions::PyOSError::new_err((number, text, path.into_os_string()))
        }
        None => error.into(),
    }
}

/// A saved ledger; what is wrong with it is a `ValueError` in words.
fn saved(text: &str) -> PyResult<Snapshot> {
    Snapshot::from_json(text).map_err(pyo3::exceptions::PyValueError::new_err)
}

/// A saved ledger in plain text.
#[pyfunction]
pub(crate) fn _view(text: &str) -> PyResult<String> {
    Ok(saved(text)?.text(TextOptions::default()))
}

/// A saved ledger in the format of another path.
#[pyfunction]
pub(crate) fn _save_again(py: Python<'_>, text: &str, path: PathBuf) -> PyResult<()> {
    check(py, &path)?;
    let snapshot = saved(text)?;
    py.detach(|| snapshot.save(&path)).map_err(|error| unwritten(error, path))
}

/// Device and address of an object, or a bare address of the host.
fn place(x: &Bound<'_, PyAny>) -> PyResult<(freehold::Device, u64)> {
    if let Ok(address) = x.cast::<pyo3::types::PyInt>() {
        gil::drain(x.py());
        return Ok((freehold::Device::CPU, address.extract()?));
    }
    let tensor = call::look(x)?;
    Ok((tensor.device(), tensor.data_ptr().addr() as u64))
}

/// The buffer that a tensor's first element is in, if anybody on the ledger holds it.
pub(crate) fn find(tensor: &Tensor) -> Option<BufferReport> {
    ledger().owner(tensor.device(), tensor.data_ptr().addr() as u64)
}

/// The buffer that a recorded tensor is in.
pub(crate) fn buffer_of(tensor: &Tensor) -> Option<u64> {
    ledger().holder(tensor.id()).map(|holder| holder.buffer)
}

/// The owner of a source in words, for a refusal:
/// `numpy.ndarray (flags.writeable=False), buffer #4, also held by: torch`.
#[cold]
pub(crate) fn owner_text(x: &Bound<'_, PyAny>, kind: Kind, tensor: &Tensor) -> String {
    let mut text = names::type_name(x);
    if matches!(kind.adapter, Adapter::Numpy | Adapter::Masked) && !tensor.is_writable() {
        text.push_str(" (flags.writeable=False)");
    }
    let Some(buffer) = find(tensor) else { return text };
    text.push_str(&format!(", buffer #{}", buffer.id));
    let mut others: Vec<&str> =
        buffer.members().filter(|member| member.id != tensor.id()).map(|member| member.framework).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        text.push_str(&format!(", also held by: {}", others.join(", ")));
    }
    text
}

/// Drops a tensor at the end of its `with` block, and says who still holds the memory.
pub(crate) fn given_back(py: Python<'_>, tensor: Tensor) -> PyResult<()> {
    let (id, what) = (tensor.id(), tensor.desc().to_string());
    drop(tensor);
    // A record is closed when the last handle on its tensor goes: one that can still be changed is still lent.
    if id.is_none() || !ledger().update_flags(id, HolderFlags::empty(), HolderFlags::empty()) {
        return Ok(());
    }
    let mut still: Vec<String> = Vec::new();
    ledger().foreach(&mut |holder| {
        if holder.parent == id {
            still.push(holder.framework.to_owned());
        }
        true
    });
    still.sort_unstable();
    still.dedup();
    let holders = if still.is_empty() { "a view".to_owned() } else { still.join(", ") };
    let about = format!("is still lent to {holders} at the end of its with block");
    warn(py, &format!("{what} {about}"), &about)
}

/// The most holders that are named when the interpreter shuts down.
const NAMED_AT_SHUTDOWN: usize = 16;

/// Names, from level 3 on, who still holds memory now that the interpreter goes: their deleters come too late to give
/// anything back to Python.
pub(crate) fn still_lent_at_shutdown() {
    static GLOBAL: Runtime = Runtime::global();
    if ledger().level() < Level::Sites {
        return;
    }
    let mut late: Vec<(HolderId, HolderId)> = Vec::new();
    ledger().foreach(&mut |holder| {
        if holder.role == Role::Holder {
            late.push((holder.id, holder.parent));
        }
        late.len() < NAMED_AT_SHUTDOWN
    });
    for (holder, lender) in late {
        let parties: [Party; 2] = [ledger().party(lender), ledger().party(holder)];
        let who = match parties[1].framework.as_str() {
            "" => "a holder",
            framework => framework,
        };
        let note = format!("{who} has not given its view back, and the interpreter is shutting down");
        freehold::report_hazard(&GLOBAL, Code::CP03, &parties, note);
    }
}

/// Whether anything was ever lent frozen and watched by checksum.
static WATCHED: AtomicBool = AtomicBool::new(false);
/// The hazards up to this time were warned about.
static WARNED_NS: AtomicU64 = AtomicU64::new(0);

/// Notes that something is watched.
pub(crate) fn watch() {
    WATCHED.store(true, Ordering::Relaxed);
}

/// How many hazards there were when they were last looked through.
static LOOKED_AT: AtomicU64 = AtomicU64::new(0);

/// Whether there is anything to warn of, perhaps: where nothing is watched, or nothing came up, that is known without a lock.
#[inline]
pub(crate) fn has_news() -> bool {
    let news = || ledger().hazard_count() != LOOKED_AT.load(Ordering::Relaxed) || ledger().level() >= Level::Canaries;
    WATCHED.load(Ordering::Relaxed) && news()
}

/// Warns about what was written to while it was lent frozen, once each.
#[inline]
pub(crate) fn warn_of_hazards(py: Python<'_>) -> PyResult<()> {
    if has_news() { warn_now(py) } else { Ok(()) }
}

#[cold]
fn warn_now(py: Python<'_>) -> PyResult<()> {
    let seen = WARNED_NS.load(Ordering::Relaxed);
    crate::moved::look(py);
    let count = ledger().hazard_count();
    for hazard in ledger().hazards() {
        if matches!(hazard.code, Code::AL01 | Code::CP03) && hazard.at_ns > seen {
            WARNED_NS.fetch_max(hazard.at_ns, Ordering::Relaxed);
            let text = format!("{}: {}", hazard.code, hazard.note);
            warn(py, &text, &text)?;
        }
    }
    LOOKED_AT.store(count, Ordering::Relaxed);
    Ok(())
}
