//! The verbs as Python sees them: share, convert, copy, from_dlpack, and plan, which is the others without their
//! effect.

use freehold::{CopyRule, Error, Request};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arguments::{Wishes, copy_rule, optional, stream_argument};
use crate::call::Call;
use crate::decision::PyDecision;
use crate::device;
use crate::error::raise;
use crate::target::Target;

/// Hands x over without copying a byte, or raises BoundaryError with the reason and what to type instead.
///
/// to: "numpy", "torch", the module or a type of it; None gives an fh.Tensor.
/// writable: True refuses what would be read-only; False gives a read-only view.
/// freeze: the owner may not write while it is lent.
/// detach: drops the autograd graph; the result is read-only, since a write would corrupt the backward pass.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, writable=None, freeze=false, stream=None, detach=false))]
pub(crate) fn share<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    writable: Option<bool>,
    freeze: bool,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let request = Request { writable, freeze, detach, stream: optional(stream, stream_argument)?, ..Request::share() };
    Call { x, target: Target::parse(to)?, request, fill: None }.run(py)
}

/// Hands x over: shares when it can, else makes one copy that does everything asked for in one pass.
///
/// dtype, device, order: what the result must have; by default what x has.
/// on_loss: "error" refuses values that the dtype cannot hold; "allow" truncates and saturates, and floats overflow as
/// ml_dtypes has them (to infinity or NaN); with "saturate" floats overflow to the largest finite value.
/// fill: what null and masked elements become.
/// copy: None shares when it can, True always copies, False never does.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=false, stream=None,
                    detach=false, on_loss=None, fill=None, copy=None),
       text_signature = "(x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=False, stream=None, \
                         detach=False, on_loss='error', fill=None, copy=None)")]
#[expect(clippy::too_many_arguments, reason = "the signature is the package's interface")]
pub(crate) fn convert<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyString>>,
    writable: Option<bool>,
    freeze: bool,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
    on_loss: Option<&Bound<'py, PyString>>,
    fill: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let wishes = Wishes { dtype, device, order, stream, on_loss };
    let request = Request { copy: copy_rule(copy), writable, freeze, detach, ..wishes.read(py)? };
    Call { x, target: Target::parse(to)?, request, fill }.run(py)
}

/// Hands over new memory that nobody else has, in one pass with everything asked for.
///
/// out: an existing tensor or array of x's shape, of any framework, to copy and cast into.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, dtype=None, device=None, order=None, out=None, stream=None, detach=false,
                    on_loss=None, fill=None),
       text_signature = "(x, to=None, *, dtype=None, device=None, order=None, out=None, stream=None, detach=False, \
                         on_loss='error', fill=None)")]
#[expect(clippy::too_many_arguments, reason = "the signature is the package's interface")]
pub(crate) fn copy<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyString>>,
    out: Option<&Bound<'py, PyAny>>,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
    on_loss: Option<&Bound<'py, PyString>>,
    fill: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let wishes = Wishes { dtype, device, order, stream, on_loss };
    let request = Request { copy: CopyRule::Always, detach, ..wishes.read(py)? };
    let call = Call { x, target: Target::parse(to)?, request, fill };
    let Some(out) = out.filter(|out| !out.is_none()) else { return call.run(py) };
    if [to, dtype, device].iter().any(|argument| argument.is_some_and(|value| !value.is_none())) || order.is_some() {
        let must = "be passed without to=, dtype=, device= and order=, which it already has";
        return Err(raise(py, Error::argument("out", "given", must)));
    }
    call.run_into(py, out)
}

/// The array API's from_dlpack: an fh.Tensor of anything that offers a tensor protocol, or of a capsule.
#[pyfunction]
#[pyo3(signature = (x, /, *, device=None, copy=None))]
pub(crate) fn from_dlpack<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    device: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let request = Request { copy: copy_rule(copy), device: optional(device, device::argument)?, ..Request::default() };
    Call { x, target: Target::Freehold, request, fill: None }.run(py)
}

/// What convert would do with the same arguments (with copy=False: share; with copy=True: copy). Touches no data.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=false, stream=None,
                    detach=false, on_loss=None, fill=None, copy=None),
       text_signature = "(x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=False, stream=None, \
                         detach=False, on_loss='error', fill=None, copy=None)")]
#[expect(clippy::too_many_arguments, reason = "the signature is the package's interface")]
pub(crate) fn plan<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyString>>,
    writable: Option<bool>,
    freeze: bool,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
    on_loss: Option<&Bound<'py, PyString>>,
    fill: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<PyDecision> {
    let wishes = Wishes { dtype, device, order, stream, on_loss };
    let request = Request { copy: copy_rule(copy), writable, freeze, detach, ..wishes.read(py)? };
    Call { x, target: Target::parse(to)?, request, fill }.plan(py)
}
