//! `mlx.core.array`s. MLX holds only memory that it allocated: its own import copies, and halves 64-bit floats on the way. So
//! an array of the right shape and dtype is made, and its memory filled in the one pass that was decided.

use freehold::{Asked, Caps, DType, Decision, Dialect, Label, Layout, Policy, Request, Tensor, Traits, decide};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Framework, Handover, Target};
use crate::names::Named;
use crate::source;
use crate::tensor::PyTensor;

pub(super) static FRAMEWORK: Framework = Framework {
    name: "mlx",
    modules: &[],
    label: Label::MLX,
    road: "filled in its own memory",
    plain: &Caps::MLX,
    caps: |_, _, _| &Caps::MLX,
    stream: None,
    export,
    receive: Some(receive),
};

/// Dtypes that MLX's own import leaves as they are.
const AS_THEY_ARE: [DType; 10] = [
    DType::F32,
    DType::F16,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
];

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
    let array = match filled_at_once(py, source, decision)? {
        Some(array) => array,
        None => zeros(py, source.shape(), decision.dtype)?,
    };
    let memory = source::of_own(&array, Label::MLX, handover.site)?;
    if decision.bytes_copied > 0 {
        fill(&memory)?;
    }
    Ok(array.unbind())
}

/// An array that MLX made from the values, for a few that it takes as they are: that is in memory at once. Zeros are made
/// by MLX's own thread, and to wait for it costs more than the values twice.
fn filled_at_once<'py>(py: Python<'py>, source: &Tensor, decision: &Decision) -> PyResult<Option<Bound<'py, PyAny>>> {
    static ARRAY: Named = Named::new("mlx.core", &["array"]);
    const FEW: u64 = 1 << 14;
    let lazy = Traits::SWAPPED | Traits::CONJ | Traits::NEG | Traits::PADDED | Traits::BYTE_STRIDES;
    if !(1..=FEW).contains(&decision.bytes_copied)
        || source.dtype() != decision.dtype
        || !AS_THEY_ARE.contains(&decision.dtype)
        || source.traits().intersects(lazy)
        || !Layout::new(source.shape(), source.strides()).is_c_contiguous()
        || !source.device().kind.is_host()
    {
        return Ok(None);
    }
    let array = ARRAY.get(py)?.call1((PyTensor::object(py, source.clone())?,))?;
    Ok(Some(array))
}

/// An array of zeros, once they are there.
fn zeros<'py>(py: Python<'py>, shape: &[i64], dtype: DType) -> PyResult<Bound<'py, PyAny>> {
    let core = py.import("mlx.core")?;
    let arguments = PyDict::new(py);
    // On the CPU, whose memory can be written here, and which has f64 on every machine.
    arguments.set_item("stream", core.getattr("cpu")?)?;
    let shape = PyTuple::new(py, shape)?;
    let array = core.call_method("zeros", (shape, core.getattr(name_of(dtype))?), Some(&arguments))?;
    // Arrays are made when they are first asked for.
    core.call_method1("eval", (&array,))?;
    Ok(array)
}
