//! Objects with `__dlpack__` and nothing faster.

use freehold::dlpack::VERSION;
use freehold::{Code, Device, DeviceKind, Error, Label, Traits};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use super::{Ask, Fail, Imported, capsule};

/// Whether `holder`'s `__dlpack__` (a type's, or the object's own) takes `max_version`, without running it: by its signature, or, for C functions that
/// have none, by an argument that nobody takes, whose refusal names the first that it does not know.
pub(super) fn takes_max_version(x: &Bound<'_, PyAny>, holder: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = x.py();
    let method = holder.getattr("__dlpack__")?;
    let signature = py.import("inspect")?.getattr("signature")?;
    if let Ok(signature) = signature.call1((&method,)) {
        let parameters = signature.getattr("parameters")?;
        if parameters.contains("max_version")? {
            return Ok(true);
        }
        for parameter in parameters.call_method0("values")?.try_iter()? {
            if parameter?.getattr("kind")?.str()?.to_str()? == "VAR_KEYWORD" {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    // nanobind and pybind11 print their signatures first.
    if let Ok(doc) = method.getattr("__doc__").and_then(|doc| doc.extract::<String>())
        && doc.contains("__dlpack__(")
    {
        return Ok(doc.contains("max_version") || doc.contains("**kwargs"));
    }
    let arguments = PyDict::new(py);
    arguments.set_item("freehold_asks_what_you_take", py.None())?;
    arguments.set_item("max_version", VERSION)?;
    match x.call_method("__dlpack__", (), Some(&arguments)) {
        // It takes anything, and has run: nothing is kept of what it made.
        Ok(_) => Ok(true),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            let text = error.value(py).str()?.to_string();
            Ok(text.contains("freehold_asks_what_you_take") && !text.contains("max_version"))
        }
        Err(_) => Ok(false),
    }
}

/// What `__dlpack_device__` says. Paddle says `None` for the index of the host.
fn device_of(x: &Bound<'_, PyAny>) -> PyResult<Device> {
    let pair = x.call_method0(pyo3::intern!(x.py(), "__dlpack_device__"))?;
    let kind = pair.get_item(0)?;
    // An enum of the producer's, or an integer.
    let kind: i32 = kind.extract().or_else(|_| kind.getattr("value")?.extract())?;
    let id: Option<i32> = pair.get_item(1)?.extract()?;
    Ok(Device::new(DeviceKind(kind), id.unwrap_or(0)))
}

/// Frameworks whose capsules are known to say where the memory is, so that `__dlpack_device__` has no news where there is
/// no stream to pass: to ask costs as much as the capsule.
fn says_where(framework: Label) -> bool {
    [Label::TVM_FFI, Label::JAX, Label::TENSORFLOW, Label::MLX, Label::PYARROW].contains(&framework)
}

/// `x.__dlpack__()` without a stream, with the names and values of its arguments made once.
pub(super) fn plain_capsule<'py>(x: &Bound<'py, PyAny>, versioned: bool) -> PyResult<Bound<'py, PyAny>> {
    static ARGUMENTS: PyOnceLock<(Py<PyTuple>, Py<PyTuple>)> = PyOnceLock::new();
    let py = x.py();
    let name = pyo3::intern!(py, "__dlpack__");
    if !versioned {
        return x.call_method0(name);
    }
    let (names, version) = ARGUMENTS.get_or_try_init(py, || {
        let names = PyTuple::new(py, [pyo3::intern!(py, "max_version")])?;
        Ok::<_, PyErr>((names.unbind(), PyTuple::new(py, [VERSION.0, VERSION.1])?.unbind()))
    })?;
    let arguments = [x.as_ptr(), version.as_ptr()];
    // SAFETY: one positional argument, the object itself, and one for each name; the call borrows them all.
    unsafe {
        let made = ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 1, names.as_ptr());
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// One call of `__dlpack__`, and one of `__dlpack_device__` where that could say more; what the producer raises is the
/// caller's to see.
pub(super) fn import(
    x: &Bound<'_, PyAny>,
    versioned: bool,
    framework: Label,
    ask: &Ask<'_, '_>,
    traits: Traits,
) -> Result<Imported, Fail> {
    let py = x.py();
    let device = if ask.stream.is_none() && says_where(framework) { None } else { Some(device_of(x)?) };
    // A host object gets no stream, not even -1: NumPy, Arrow, JAX and TensorFlow refuse any. One of a CUDA device gets one
    // always: without, some producers take the default stream and others order nothing.
    let cuda = device.filter(|device| matches!(device.kind, DeviceKind::CUDA | DeviceKind::CUDA_MANAGED));
    let elsewhere = device.is_some_and(|device| !device.kind.is_host());
    let stream = match cuda {
        Some(device) => Some(ask.stream_on(py, device)),
        None => ask.stream.filter(|_| elsewhere),
    };
    // No producer is told of a stream that CUDA has not.
    if let (Some(_), Some(stream)) = (cuda, stream.filter(|stream| !stream.is_cuda())) {
        return Err(Error::argument("stream", stream.0, "be 1, 2 or a handle for CUDA, or -1").into());
    }
    let made = match stream {
        None => plain_capsule(x, versioned)?,
        Some(stream) => {
            let arguments = PyDict::new(py);
            if versioned {
                arguments.set_item(pyo3::intern!(py, "max_version"), VERSION)?;
            }
            arguments.set_item(pyo3::intern!(py, "stream"), stream.0)?;
            x.call_method(pyo3::intern!(py, "__dlpack__"), (), Some(&arguments))?
        }
    };
    if !made.is_instance_of::<PyCapsule>() {
        let text = format!("__dlpack__ gave {}, not a capsule", crate::names::type_name(&made));
        return Err(Fail::refused(Code::OB01, crate::names::type_name(x), text));
    }
    let tensor = capsule::import(&made, framework, &Ask { stream, ..*ask }, traits)?;
    let Some(device) = device else { return Ok(tensor.into()) };
    let says = tensor.device();
    // Pinned and managed host memory is announced as one kind and described as another by some producers.
    let both_host = says.kind.is_host() && device.kind.is_host();
    if says != device && !both_host {
        let text = format!("__dlpack_device__ says {device}, the capsule says {says}");
        return Err(Fail::refused(Code::DV03, tensor.desc().to_string(), text));
    }
    Ok(tensor.into())
}
