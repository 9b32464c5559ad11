//! `freehold._freehold`: the native half of the Python package.
//!
//! # Design
//!
//! * An object's type says once how it is reached (`source::kind`); every call after that is one comparison.
//! * Everything between is the boundary's: this crate only describes sources, makes target objects, and words.
//! * A deleter may run on any thread and never takes the GIL (`gil`).
//! * No framework is imported unless the caller did, or named it in `to=`.
//! * The module says that it uses the GIL, so that a free-threaded interpreter turns it on. Where that is forbidden the
//!   module does not load: what the GIL protects here has not been tested without one.

mod arguments;
mod call;
mod caps;
mod decision;
mod device;
mod doctor;
mod dtype;
mod entry;
mod error;
mod explain;
mod freeze;
mod gil;
mod json;
mod ledger;
mod moved;
mod names;
mod numpy_abi;
mod policy;
mod recycle;
mod site;
mod source;
mod target;
mod tensor;
mod verbs;

use pyo3::ffi;
use pyo3::prelude::*;

// The C interface is exported beside the module: C++ that links this library shares its runtime and its ledger.
use freehold_capi as _;

/// Refuses to run where a free-threaded interpreter was told to keep the GIL off (`PYTHON_GIL=0`).
#[cfg(Py_GIL_DISABLED)]
fn need_gil(py: Python<'_>) -> PyResult<()> {
    if py.import("sys")?.call_method0("_is_gil_enabled")?.is_truthy()? {
        return Ok(());
    }
    let text = "this version of freehold needs the GIL, which a free-threaded Python turns on when freehold is imported, \
                unless it is told not to: unset PYTHON_GIL, and drop -X gil=0";
    Err(pyo3::exceptions::PyImportError::new_err(text))
}

/// Refuses to run in a sub-interpreter: what is given back goes to the main one's queue, and statics hold its objects. PyO3
/// refuses a second interpreter, and does not know which is the main one.
fn need_main_interpreter() -> PyResult<()> {
    // SAFETY: the interpreter that imports this is attached; both functions only look a pointer up.
    let main = unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() };
    let text = "freehold does not support sub-interpreters: import it in the main interpreter";
    main.then_some(()).ok_or_else(|| pyo3::exceptions::PyImportError::new_err(text))
}

/// The native half of the package `freehold`.
#[pymodule(gil_used = true)]
mod _freehold {
    use super::*;

    #[pymodule_export]
    use super::caps::{_caps, _flowchart};
    #[pymodule_export]
    use super::decision::PyDecision;
    #[pymodule_export]
    use super::doctor::{_road, _road_to, _system};
    #[pymodule_export]
    use super::explain::explain;
    #[pymodule_export]
    use super::gil::_shutdown;
    #[pymodule_export]
    use super::ledger::{_save_again, _view};
    #[pymodule_export]
    use super::policy::policy;
    #[pymodule_export]
    use super::target::_target_names;
    #[pymodule_export]
    use super::tensor::{_unpickle, PyTensor};
    #[pymodule_export]
    use super::verbs::{convert, copy, from_dlpack, plan, share};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        need_main_interpreter()?;
        #[cfg(Py_GIL_DISABLED)]
        need_gil(py)?;
        tensor::install(py);
        target::numpy::install(py);
        target::offer::install(py);
        entry::install(module)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("BoundaryError", error::boundary_error(py)?)?;
        module.add("BoundaryWarning", error::boundary_warning(py)?)?;
        module.add("ledger", Bound::new(py, ledger::PyLedger)?)?;
        freehold::exit::face(freehold::Dialect::Python);
        freehold::exit::watch();
        py.import("atexit")?.call_method1("register", (module.getattr("_shutdown")?,))?;
        Ok(())
    }
}
