//! `mlx.core.array`s. MLX holds only memory that it allocated: its own import copies, and halves 64-bit floats on the way. So
//! an array of the right shape and dtype is made, and its memory filled in the one pass that was decided.

use freehold::dlpack::{CAPSULE_LEGACY, DLManagedTensor};
use freehold::{Asked, Caps, DType, Decision, Dialect, Label, Layout, Policy, Request, Tensor, Traits, decide};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Framework, Handover, Target};
use crate::names::Named;
use crate::source;

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
    fill: &dyn Fn(Option<&Tensor>) -> PyResult<()>,
) -> PyResult<Py<PyAny>> {
    let py = handover.py;
    if let Some(array) = filled_at_once(py, source, decision)? {
        fill(None)?;
        return Ok(array.unbind());
    }
    let array = zeros(py, source.shape(), decision.dtype)?;
    let memory = source::of_own(&array, Label::MLX, handover.site)?;
    if decision.bytes_copied > 0 {
        fill(Some(&memory))?;
    }
    Ok(array.unbind())
}

/// An array that MLX made from the values, for a few that it takes as they are: that is in memory at once, and the one copy
/// that was decided. Zeros are made by MLX's own thread, and to wait for it costs more than a copy.
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
    ARRAY.get(py)?.call1((lent(py, source)?,)).map(Some)
}

/// A capsule's content, and what keeps what it points to.
#[repr(C)]
struct Lent {
    managed: DLManagedTensor,
    _tensor: Tensor,
}

/// A capsule of a tensor that is read during one call: no holder, so not on the ledger, which has the copy.
fn lent<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let managed = DLManagedTensor {
        dl_tensor: tensor.as_dltensor(),
        manager_ctx: std::ptr::null_mut(),
        deleter: Some(give_back),
    };
    let lent = Box::into_raw(Box::new(Lent { managed, _tensor: tensor.clone() })).cast::<DLManagedTensor>();
    // SAFETY: the pointer is not NULL, the name is static, and the destructor frees what nobody consumed. The managed tensor is
    // the first field of the box.
    unsafe {
        let capsule = ffi::PyCapsule_New(lent.cast(), CAPSULE_LEGACY.as_ptr(), Some(destroy));
        if capsule.is_null() {
            give_back(lent);
        }
        Bound::from_owned_ptr_or_err(py, capsule)
    }
}

/// # Safety
///
/// * `managed` is the first field of a box that `lent` made, and is given up.
unsafe extern "C" fn give_back(managed: *mut DLManagedTensor) {
    // SAFETY: by the caller's word. The caller's own handle on the tensor outlives this one, so nothing else is dropped with it.
    drop(unsafe { Box::from_raw(managed.cast::<Lent>()) });
}

/// # Safety
///
/// * Called by the interpreter, with a capsule that `lent` made and that is being freed.
unsafe extern "C" fn destroy(capsule: *mut ffi::PyObject) {
    // SAFETY: a capsule that still has its name still owns the box; the test sets no exception.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, CAPSULE_LEGACY.as_ptr()) != 0 {
            give_back(ffi::PyCapsule_GetPointer(capsule, CAPSULE_LEGACY.as_ptr()).cast());
        }
    }
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
