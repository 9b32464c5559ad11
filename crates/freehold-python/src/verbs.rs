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
/// stream: the stream on which the result will be used, of a device that has streams.
/// detach: drops the autograd graph; the result is read-only, since a write would corrupt the backward pass.
///
/// >>> import numpy as np
/// >>> a = np.zeros(3, dtype="float32")
/// >>> t = fh.share(a, "torch")
/// >>> t[0] = 1
/// >>> a.tolist()
/// [1.0, 0.0, 0.0]
/// >>> fh.share(a[::-1], "torch")
/// Traceback (most recent call last):
///     ...
/// freehold.BoundaryError: [ST01] share(f32[3] numpy cpu -> torch): torch takes no negative strides.
///   dim 0 has stride -1 < 0; torch accepts >= 0
///   convert would copy 12 B (layout).
///   Do: fh.convert(x, "torch")                   # 12 B copied: compact
///   docs/e/ST01.md
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
/// to, writable, freeze, stream, detach: as in share.
/// dtype, device, order: what the result must have; by default what x has. A dtype is a name or any framework's dtype,
/// a device "cpu", "cuda:0" or any framework's device, an order "C", "F" or "any".
/// on_loss: "error" refuses values that the dtype cannot hold; "allow" truncates and saturates, and floats overflow as
/// ml_dtypes has them (to infinity or NaN); with "saturate" floats overflow to the largest finite value.
/// fill: what null and masked elements become.
/// copy: None shares when it can, True always copies, False never does.
///
/// >>> import numpy as np
/// >>> a = np.arange(3.0)
/// >>> np.shares_memory(fh.convert(a, "torch"), a)
/// True
/// >>> fh.convert(a[::-1], "torch", dtype="float32")
/// tensor([2., 1., 0.])
/// >>> fh.convert(np.ma.masked_less(a, 1), "torch", fill=-1.0).tolist()
/// [-1.0, 1.0, 2.0]
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
/// to, dtype, device, order, stream, detach, on_loss, fill: as in convert.
/// out: an existing tensor or array of x's shape, of any framework, to copy and cast into.
///
/// >>> import numpy as np
/// >>> a = np.arange(3.0)
/// >>> t = fh.copy(a, "torch", dtype="float32")
/// >>> a[0] = 9
/// >>> t.tolist()
/// [0.0, 1.0, 2.0]
/// >>> fh.copy([5, 6, 7], out=a).tolist()
/// [5.0, 6.0, 7.0]
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
///
/// device: where the result must be; by default where x is.
/// copy: None copies if it must, True always, False never (then BoundaryError, which is a BufferError).
///
/// >>> import numpy as np
/// >>> fh.from_dlpack(np.zeros((2, 3), dtype="int8")).shape
/// (2, 3)
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
///
/// >>> import numpy as np
/// >>> d = fh.plan(np.zeros((2, 3)), "torch", dtype="float32")
/// >>> d
/// fh.Decision(f64[2,3] numpy cpu -> f32[2,3] torch cpu: copy (cast) 24 B: CA01)
/// >>> d.verdict, d.steps, d.bytes_copied
/// ('copy', ('cast',), 24)
/// >>> d.run().dtype
/// torch.float32
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
