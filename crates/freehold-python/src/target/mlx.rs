//! `mlx.core.array`s. MLX holds only memory that it allocated: its own import copies, and halves 64-bit floats on the way. So
//! an array of the right shape and dtype is made, and its memory filled in the one pass that was decided.

use freehold::{Asked, Caps, DType, Decision, Dialect, Label, Policy, Request, Tensor, decide};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Framework, Handover, Target};
use crate::source;

pub(super) static FRAMEWORK: Framework = Framework {
    name: "mlx",
    modules: &[],
    label: Label::MLX,
    road: "filled in its own memory",
    plain: &Caps::MLX,
    caps: |_, _, _| &Caps::MLX,
    export,
    receive: Some(receive),
};

fn name_of(dtype: DType) -> &'static str {
    match dtype {
        DType::BOOL => "bool_",
        other => other.name().unwrap_or("float32"),
    }
}

/// What was gathered for this call, copied once more.
fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    let (request, policy) = (Request::copy(), Policy::DEFAULT);
    let asked = Asked::new(tensor.desc(), &request, &Caps::MLX, &policy, Dialect::Python);
    let decision = decide(&tensor.desc(), &request, &Caps::MLX, &policy);
    Target::Other(&FRAMEWORK).receive(handover.py, &tensor, &decision, &asked, handover.site).map(Bound::unbind)
}

/// A new array, filled. Nothing else can see it before it is returned.
fn receive(
    handover: &Handover<'_, '_>,
    source: &Tensor,
    decision: &Decision,
    fill: &dyn Fn(&Tensor) -> PyResult<()>,
) -> PyResult<Py<PyAny>> {
    let py = handover.py;
    let core = py.import("mlx.core")?;
    let arguments = PyDict::new(py);
    // On the CPU, whose memory can be written here, and which has f64 on every machine.
    arguments.set_item("stream", core.getattr("cpu")?)?;
    let shape = PyTuple::new(py, source.shape())?;
    let array = core.call_method("zeros", (shape, core.getattr(name_of(decision.dtype))?), Some(&arguments))?;
    // Arrays are made when they are first asked for.
    core.call_method1("eval", (&array,))?;
    let memory = source::of_own(&array, Label::MLX, handover.site)?;
    if decision.bytes_copied > 0 {
        fill(&memory)?;
    }
    Ok(array.unbind())
}
