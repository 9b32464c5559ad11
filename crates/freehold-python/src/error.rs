//! `BoundaryError` and `BoundaryWarning`.

use freehold::{Decision, Dialect, Error};
use pyo3::exceptions::{PyBufferError, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::decision::PyDecision;

const ERROR_DOC: &str = "What was asked cannot be done, why, and what to type instead.\n\n\
    code is the stable reason code, decision the decision that said no (or None), fixes runnable lines, best first.\n\
    The array API asks for BufferError and for ValueError in different places: this is both.\n\n\
    >>> import numpy as np\n\
    >>> try:\n\
    ...     fh.share(np.array(['a', 'b'], dtype=object), 'torch')\n\
    ... except fh.BoundaryError as error:\n\
    ...     print(error.code, isinstance(error, BufferError), isinstance(error, ValueError))\n\
    DT01 True True\n";

const WARNING_DOC: &str = "Something at the boundary that deserves a look, once a line of code.\n\n\
    >>> import warnings\n\
    >>> import numpy as np\n\
    >>> with fh.policy(copies='warn'), warnings.catch_warnings(record=True) as caught:\n\
    ...     warnings.simplefilter('default')\n\
    ...     for size in (3, 4, 5):\n\
    ...         t = fh.convert(np.zeros(size)[::-1], 'torch')\n\
    >>> [str(warning.message) for warning in caught]\n\
    ['24 B copied (layout): ST01, HT01']\n";

fn class(py: Python<'_>, name: &str, bases: Bound<'_, PyTuple>, doc: &str, fields: &[&str]) -> PyResult<Py<PyType>> {
    let namespace = PyDict::new(py);
    namespace.set_item("__module__", "freehold")?;
    namespace.set_item("__doc__", doc)?;
    for field in fields {
        namespace.set_item(field, py.None())?;
    }
    Ok(py.get_type::<PyType>().call1((name, bases, namespace))?.cast_into::<PyType>()?.unbind())
}

/// `freehold.BoundaryError`.
pub(crate) fn boundary_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        let bases = PyTuple::new(py, [py.get_type::<PyBufferError>(), py.get_type::<PyValueError>()])?;
        class(py, "BoundaryError", bases, ERROR_DOC, &["code", "decision", "fixes"])
    })?;
    Ok(class.bind(py))
}

/// `freehold.BoundaryWarning`.
pub(crate) fn boundary_warning(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        class(py, "BoundaryWarning", PyTuple::new(py, [py.get_type::<PyUserWarning>()])?, WARNING_DOC, &[])
    })?;
    Ok(class.bind(py))
}

/// The exception for an error.
#[cold]
pub(crate) fn raise(py: Python<'_>, error: Error) -> PyErr {
    let error = error.in_dialect(Dialect::Python);
    let decision = error.decision().cloned();
    build(py, &error, decision).unwrap_or_else(|failed| failed)
}

fn build(py: Python<'_>, error: &Error, decision: Option<Decision>) -> PyResult<PyErr> {
    let value = boundary_error(py)?.call1((error.to_string(),))?;
    value.setattr("code", error.code().name())?;
    value.setattr("fixes", PyTuple::new(py, error.fixes())?)?;
    if let Some(decision) = decision {
        value.setattr("decision", PyDecision::refused(decision, error.message().clone()).into_pyobject(py)?)?;
    }
    Ok(PyErr::from_value(value))
}

/// Warns at the caller's line. Python's own filters decide what is shown; by default one line warns once about one thing,
/// whatever numbers are in the text.
#[cold]
pub(crate) fn warn(py: Python<'_>, text: &str, about: &str) -> PyResult<()> {
    let told = py.import("freehold._text")?.getattr("Told")?.call1((text, about))?;
    let warning = boundary_warning(py)?.call1((told,))?;
    // A function of ours has no frame, so the first is the caller's: the default of `stacklevel`.
    py.import("warnings")?.getattr("warn")?.call1((warning,)).map(drop)
}
