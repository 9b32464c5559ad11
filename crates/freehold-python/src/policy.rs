//! `fh.policy(...)`: house rules, by context.
//!
//! The rules live in a context variable, as NumPy's `errstate` does: a thread or an asyncio task that changes them
//! changes them for itself. Where no context has changed them, `FREEHOLD_POLICY` or the default is in force.

use std::sync::atomic::{AtomicBool, Ordering};

use freehold::{
    AliasPolicy, CopiesPolicy, Device, DeviceSet, Error, Policy, ReadonlyPolicy, Request, Runtime, SyncPolicy,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};

use crate::error::raise;

/// Whether any context has ever set rules: until then, reading the context variable is not worth its time.
static USED: AtomicBool = AtomicBool::new(false);
static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let variable = VARIABLE.get_or_try_init(py, || {
        py.import("contextvars")?.getattr("ContextVar")?.call1(("freehold.policy",)).map(Bound::unbind)
    })?;
    Ok(variable.bind(py))
}

/// The rules that a context has set, or `None`.
fn set_here<'py>(py: Python<'py>) -> PyResult<Option<Bound<'py, PyRules>>> {
    let Some(variable) = VARIABLE.get(py) else { return Ok(None) };
    let mut value = std::ptr::null_mut();
    // SAFETY: the object is a context variable; on success `value` is NULL or a new reference.
    unsafe {
        if ffi::PyContextVar_Get(variable.as_ptr(), std::ptr::null_mut(), &mut value) < 0 {
            return Err(PyErr::fetch(py));
        }
        match Bound::from_owned_ptr_or_opt(py, value) {
            Some(rules) => Ok(Some(rules.cast_into::<PyRules>()?)),
            None => Ok(None),
        }
    }
}

/// The policy in force here, for a request about memory on a device, where that is known.
pub(crate) fn current(py: Python<'_>, request: &Request, source: Option<Device>) -> PyResult<Policy> {
    let process = Runtime::global().policy_for(request, source);
    if !USED.load(Ordering::Relaxed) {
        return Ok(process);
    }
    Ok(match set_here(py)? {
        Some(rules) => {
            let Policy { available, managed_on_host, .. } = process;
            Policy { available, managed_on_host, ..rules.get().policy }
        }
        None => process,
    })
}

/// The kinds of device that the policy in force here allows.
#[inline]
pub(crate) fn devices(py: Python<'_>) -> PyResult<DeviceSet> {
    if USED.load(Ordering::Relaxed)
        && let Some(rules) = set_here(py)?
    {
        return Ok(rules.get().policy.devices);
    }
    Ok(Runtime::global().devices())
}

/// A rule's value as `FREEHOLD_POLICY` spells it.
fn spelled(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if value.is_none() {
        return Ok("none".to_owned());
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() || value.is_instance_of::<PySet>() {
        let items: PyResult<Vec<String>> = value.try_iter()?.map(|item| Ok(item?.to_string())).collect();
        return Ok(items?.join("+"));
    }
    Ok(value.to_string())
}

/// Rules in force. As a context manager, they go back to what they were at its end.
#[pyclass(frozen, name = "Policy", module = "freehold")]
pub(crate) struct PyRules {
    policy: Policy,
    previous: Option<Py<PyRules>>,
}

impl PyRules {
    fn new<'py>(py: Python<'py>, rules: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        let previous = set_here(py)?;
        let mut policy = previous.as_ref().map_or_else(|| Runtime::global().policy(), |rules| rules.get().policy);
        for (name, value) in rules.into_iter().flatten() {
            let (name, value) = (name.to_string(), spelled(&value)?);
            policy.set(&name, &value).map_err(|must| raise(py, Error::argument(&name, format!("{value:?}"), must)))?;
        }
        Ok(PyRules { policy, previous: previous.map(Bound::unbind) })
    }
}

#[pymethods]
impl PyRules {
    /// "copy", "reject" or "trust": read-only memory into a framework without read-only tensors.
    #[getter]
    fn readonly(&self) -> &'static str {
        match self.policy.readonly {
            ReadonlyPolicy::Copy => "copy",
            ReadonlyPolicy::Reject => "reject",
            ReadonlyPolicy::Trust => "trust",
        }
    }

    /// "one-writer" or "trust": memory that somebody can write into a framework that promises it never changes.
    #[getter]
    fn alias(&self) -> &'static str {
        match self.policy.alias {
            AliasPolicy::OneWriter => "one-writer",
            AliasPolicy::Trust => "trust",
        }
    }

    /// "allow", "warn" or "error": copies that nobody asked for by name.
    #[getter]
    fn copies(&self) -> &'static str {
        match self.policy.copies {
            CopiesPolicy::Allow => "allow",
            CopiesPolicy::Warn => "warn",
            CopiesPolicy::Error => "error",
        }
    }

    /// The most that one handover may copy, or None.
    #[getter]
    fn max_copy_bytes(&self) -> Option<u64> {
        self.policy.max_copy_bytes
    }

    /// The kinds of device that a handover may touch; None for any.
    #[getter]
    fn devices<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match self.policy.devices {
            DeviceSet::ALL => Ok(None),
            devices => PyTuple::new(py, devices.names().collect::<Vec<_>>()).map(Some),
        }
    }

    /// The most threads that one copy uses; None for as many as it repays.
    #[getter]
    fn threads(&self) -> Option<usize> {
        self.policy.threads.map(std::num::NonZeroUsize::get)
    }

    /// "allow" or "error": handovers that must wait for a device.
    #[getter]
    fn sync(&self) -> &'static str {
        match self.policy.sync {
            SyncPolicy::Allow => "allow",
            SyncPolicy::Error => "error",
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let previous = match &self.previous {
            Some(rules) => rules.clone_ref(py),
            // Nothing was set before: the process's rules, as a value, since a context variable cannot be cleared
            // in another context than it was set in.
            None => Py::new(py, PyRules { policy: Runtime::global().policy(), previous: None })?,
        };
        variable(py)?.call_method1("set", (previous,)).map(drop)
    }

    fn __repr__(&self) -> String {
        let max = self.policy.max_copy_bytes.map_or_else(|| "None".to_owned(), |n| n.to_string());
        let devices = match self.policy.devices {
            DeviceSet::ALL => "None".to_owned(),
            devices => format!("\"{devices}\""),
        };
        let threads = self.policy.threads.map_or_else(|| "None".to_owned(), |n| n.to_string());
        format!(
            "fh.policy(readonly={:?}, alias={:?}, copies={:?}, max_copy_bytes={max}, sync={:?}, devices={devices}, \
             threads={threads})",
            self.readonly(),
            self.alias(),
            self.copies(),
            self.sync()
        )
    }
}

/// Changes rules for this context (thread, task) from now on, or for a `with` block; without arguments, shows them.
///
/// readonly: "copy", "reject" or "trust": read-only memory into a framework without read-only tensors.
/// alias: "one-writer" or "trust": memory that somebody can write into a framework that promises it never changes.
/// copies: "allow", "warn" or "error": copies that nobody asked for by name.
/// max_copy_bytes: the most that one handover may copy, or None.
/// sync: "allow" or "error": handovers that must wait for a device.
/// devices: kinds of device that a handover may touch: "cpu", "cpu+cuda", ["cpu", "cuda"]; None for any.
/// threads: the most threads that one copy uses; None for as many as it repays.
///
/// >>> import numpy as np
/// >>> with fh.policy(copies="error"):
/// ...     try:
/// ...         fh.convert(np.arange(3.0), "torch", dtype="float32")
/// ...     except fh.BoundaryError as error:
/// ...         print(error.code)
/// PO01
/// >>> fh.policy().copies
/// 'allow'
#[pyfunction]
#[pyo3(signature = (**rules))]
pub(crate) fn policy<'py>(py: Python<'py>, rules: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyRules>> {
    let made = Bound::new(py, PyRules::new(py, rules)?)?;
    if rules.is_some_and(|rules| !rules.is_empty()) {
        variable(py)?.call_method1("set", (&made,))?;
        USED.store(true, Ordering::Relaxed);
    }
    Ok(made)
}
