//! PyTorch tensors, through the C exchange table: a look at the tensor, and a reference to the object that keeps it. The
//! table shows the raw bytes of tensors whose values are something else (conj, neg) or hang on a graph, so both are asked
//! of PyTorch's own functions.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use freehold::dlpack::{self, DLPackExchangeAPI, DLTensor};
use freehold::{Code, DType, Label, Owner, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::torch_abi::Native;
use super::{Adapter, Ask, Fail, Imported, Kind, exchange};
use crate::gil;
use crate::names::type_name;

/// What was found in the running PyTorch.
pub(crate) struct Torch {
    pub table: NonNull<DLPackExchangeAPI>,
    /// The functions behind the attributes, where they can be called.
    native: Option<Native>,
    requires_grad: Flag,
    is_conj: Flag,
    is_neg: Flag,
}

// SAFETY: static tables and functions, used with the GIL held.
unsafe impl Send for Torch {}
// SAFETY: as above.
unsafe impl Sync for Torch {}

/// An attribute of tensors, most of them yes or no.
pub(super) enum Flag {
    /// The C function of a `getset_descriptor`.
    Getter { get: ffi::getter, closure: *mut c_void, _keep: Py<PyAny> },
    /// The C function of a method without arguments.
    Method { call: ffi::PyCFunction, _keep: Py<PyAny> },
    /// Anything else: the attribute by name, called if it can be.
    Attribute(&'static str),
}

// SAFETY: static functions with the object that keeps them, used with the GIL held.
unsafe impl Send for Flag {}
// SAFETY: as above.
unsafe impl Sync for Flag {}

impl Flag {
    pub(super) fn find(base: &Bound<'_, PyAny>, name: &'static str) -> PyResult<Flag> {
        let descriptor = base.getattr(name)?;
        let class = descriptor.get_type_ptr();
        let owner = base.as_ptr().cast::<ffi::PyTypeObject>();
        if class == &raw mut ffi::PyGetSetDescr_Type {
            let raw = descriptor.as_ptr().cast::<ffi::PyGetSetDescrObject>();
            // SAFETY: the type says what the object is; its definition is as static as the type that it belongs to.
            let (of, definition) = unsafe { ((*raw).d_common.d_type, &*(*raw).d_getset) };
            if let (true, Some(get)) = (of == owner, definition.get) {
                return Ok(Flag::Getter { get, closure: definition.closure, _keep: descriptor.unbind() });
            }
        } else if class == &raw mut ffi::PyMethodDescr_Type {
            let raw = descriptor.as_ptr().cast::<ffi::PyMethodDescrObject>();
            // SAFETY: as above.
            let (of, definition) = unsafe { ((*raw).d_common.d_type, &*(*raw).d_method) };
            if of == owner && definition.ml_flags == ffi::METH_NOARGS {
                // SAFETY: the flags say that the function has this signature.
                let call = unsafe { definition.ml_meth.PyCFunction };
                return Ok(Flag::Method { call, _keep: descriptor.unbind() });
            }
        }
        Ok(Flag::Attribute(name))
    }

    #[inline]
    fn value<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = x.py();
        match self {
            // SAFETY: the function belongs to a base of the object's type, and is called as CPython would.
            Flag::Getter { get, closure, .. } => unsafe { Bound::from_owned_ptr_or_err(py, get(x.as_ptr(), *closure)) },
            // SAFETY: as above; the flags said that it takes no argument.
            Flag::Method { call, .. } => unsafe { Bound::from_owned_ptr_or_err(py, call(x.as_ptr(), ptr::null_mut())) },
            Flag::Attribute(name) => {
                let value = x.getattr(*name)?;
                if value.is_callable() { value.call0() } else { Ok(value) }
            }
        }
    }

    #[inline]
    pub(super) fn of(&self, x: &Bound<'_, PyAny>) -> PyResult<bool> {
        let answer = self.value(x)?;
        // SAFETY: the constant lives as long as the interpreter.
        if answer.as_ptr() == unsafe { ffi::Py_True() } { Ok(true) } else { answer.is_truthy() }
    }
}

static TORCH: PyOnceLock<Option<Torch>> = PyOnceLock::new();

/// What was found in PyTorch; `None` for one that is too old to have the exchange table.
pub(crate) fn torch(py: Python<'_>) -> PyResult<Option<&'static Torch>> {
    if let Some(found) = TORCH.get(py) {
        return Ok(found.as_ref());
    }
    let found = TORCH.get_or_try_init(py, || {
        let module = py.import("torch")?.into_any();
        let tensor = module.getattr("Tensor")?.cast_into::<PyType>()?;
        let base = py.import("torch._C")?.getattr("TensorBase")?;
        let Some(table) = exchange::table_of(&tensor)? else { return Ok::<_, PyErr>(None) };
        Ok(Some(Torch {
            table,
            native: Native::find(&module),
            requires_grad: Flag::find(&base, "requires_grad")?,
            is_conj: Flag::find(&base, "is_conj")?,
            is_neg: Flag::find(&base, "is_neg")?,
        }))
    })?;
    Ok(found.as_ref())
}

/// What a type of tensor offers. A subclass that handles operators itself only wraps other tensors (`FakeTensor`,
/// `DTensor`, masked and nested tensors): its own storage holds nothing.
pub(super) fn kind(torch_module: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Kind> {
    let py = class.py();
    let plain = torch_module.getattr("Tensor")?.getattr("__torch_dispatch__")?;
    let framework = Label::TORCH;
    if !class.getattr("__torch_dispatch__")?.is(&plain) || is_lazy(&class.name()?.to_string_lossy()) {
        return Ok(Kind { adapter: Adapter::TorchWrapper, framework });
    }
    let adapter = match torch(py)? {
        Some(_) => Adapter::Torch,
        None => Adapter::Dlpack { versioned: true, traits: Traits::empty() },
    };
    Ok(Kind { adapter, framework })
}

/// A tensor of PyTorch.
#[inline]
pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let torch = torch(x.py())?.ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("PyTorch has no table"))?;
    // SAFETY: the table is that of `torch.Tensor`, and the adapter is only chosen for its objects.
    let view = match unsafe { exchange::look(x, torch.table) } {
        Ok(view) => view,
        Err(error) => return Err(explain(x, error)),
    };
    // SAFETY: the table described the tensor, shape included.
    if view.data.is_null() && !unsafe { is_empty(&view) } {
        return Err(refuse_unstored(x));
    }
    let dtype = dlpack::dtype_from(view.dtype);
    let traits = traits(x, torch, dtype)?;
    let alloc = storage(x, torch, &view, dtype);
    let owner = Owner::Raw { context: x.clone().into_ptr().cast(), drop: gil::drop_object };
    let mut options = ask.options(Label::TORCH, traits, alloc);
    if view.device.device_type != dlpack::device_to(freehold::Device::CPU).device_type {
        // Where PyTorch works now is where the values are in order; the caller's stream comes after it.
        options.stream = exchange::work_stream(torch.table, dlpack::device_from(view.device));
    }
    // SAFETY: the table describes the tensor truly until control returns to Python, and the description is copied here;
    // PyTorch keeps the memory while the tensor lives, which the strong reference ensures, and which may be dropped on any
    // thread.
    match unsafe { Tensor::from_dltensor(&view, owner, &options) } {
        Ok(tensor) => Ok(tensor.into()),
        Err((error, _owner)) => Err(error.into()),
    }
}

/// Whether a tensor has no element.
///
/// # Safety
///
/// * The shape has `ndim` values.
unsafe fn is_empty(tensor: &DLTensor) -> bool {
    // SAFETY: by the caller's word.
    (0..usize::try_from(tensor.ndim).unwrap_or(0)).any(|i| unsafe { *tensor.shape.add(i) } == 0)
}

/// Whether a type is that of the parameters of a lazy module that has not seen its first input. They get another type then.
fn is_lazy(name: &str) -> bool {
    name.contains("Uninitialized")
}

/// A tensor that has elements and no memory.
#[cold]
fn refuse_unstored(x: &Bound<'_, PyAny>) -> Fail {
    if is_lazy(&type_name(x)) {
        return Fail::refused(Code::LY03, type_name(x), "the module has not seen its first input")
            .fix("module(example)  # gives its parameters their shapes and values");
    }
    let zeros = x.call_method0("_is_zerotensor").and_then(|answer| answer.is_truthy()).unwrap_or(false);
    let what =
        if zeros { "it stands for zeros that are nowhere" } else { "inside a transformation it stands for another" };
    Fail::refused(Code::LY03, notation(x), what).fix("t.clone()  # outside of the transformation")
}

#[inline]
fn traits(x: &Bound<'_, PyAny>, torch: &Torch, dtype: DType) -> PyResult<Traits> {
    let mut traits = Traits::empty();
    // Only floating and complex tensors can carry a graph, only complex ones the conj bit.
    let (graph, conj) = (!(dtype.is_integer() || dtype.is_bool()), dtype.is_complex());
    if let Some(native) = &torch.native {
        // SAFETY: the adapter is only chosen for tensors of PyTorch.
        unsafe {
            traits.set(Traits::REQUIRES_GRAD, graph && native.requires_grad(x));
            traits.set(Traits::CONJ, conj && native.is_conj(x));
            traits.set(Traits::NEG, native.is_neg(x));
        }
        return Ok(traits);
    }
    traits.set(Traits::REQUIRES_GRAD, graph && torch.requires_grad.of(x)?);
    traits.set(Traits::CONJ, conj && torch.is_conj.of(x)?);
    traits.set(Traits::NEG, torch.is_neg.of(x)?);
    Ok(traits)
}

/// Base and length of the storage that a tensor views.
#[inline]
fn storage(x: &Bound<'_, PyAny>, torch: &Torch, view: &DLTensor, dtype: DType) -> Option<(u64, u64)> {
    if let Some(native) = &torch.native {
        let first = (view.data.addr() as u64).checked_add(view.byte_offset)?;
        // SAFETY: the adapter is only chosen for tensors of PyTorch, and the table has described this one.
        return unsafe { native.storage(x, first, dtype.padded_size() as u64) };
    }
    ask_storage(x).ok()
}

#[cold]
fn ask_storage(x: &Bound<'_, PyAny>) -> PyResult<(u64, u64)> {
    let storage = x.call_method0("untyped_storage")?;
    Ok((storage.call_method0("data_ptr")?.extract()?, storage.call_method0("nbytes")?.extract()?))
}

/// `f32[3] torch cpu`, for tensors that have no description.
fn notation(x: &Bound<'_, PyAny>) -> String {
    let text = |name: &str| x.getattr(name).and_then(|value| value.str()).map(|text| text.to_string());
    let dtype = text("dtype").unwrap_or_else(|_| "?".to_owned());
    let dtype = dtype.trim_start_matches("torch.");
    let dtype = crate::dtype::from_name(dtype).map_or_else(|| dtype.to_owned(), |dtype| dtype.to_string());
    let shape = x
        .getattr("shape")
        .and_then(|shape| shape.extract::<Vec<i64>>())
        .map(|shape| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        .unwrap_or_default();
    let device = text("device").unwrap_or_else(|_| "?".to_owned());
    let layout = text("layout").map(|layout| layout.trim_start_matches("torch.").to_owned()).unwrap_or_default();
    let layout = if layout == "strided" { String::new() } else { format!(" {layout}") };
    format!("{dtype}[{shape}] torch {device}{layout}")
}

/// Why PyTorch would not describe a tensor, in the terms of the catalogue.
#[cold]
fn explain(x: &Bound<'_, PyAny>, error: PyErr) -> Fail {
    let truthy = |name: &str| x.getattr(name).and_then(|value| value.is_truthy()).unwrap_or(false);
    let source = notation(x);
    let layout = x.getattr("layout").and_then(|l| l.str()).map(|l| l.to_string()).unwrap_or_default();
    if truthy("is_nested") {
        return refuse_nested(source);
    }
    if layout != "torch.strided" && !layout.is_empty() {
        let layout = layout.trim_start_matches("torch.").to_owned();
        let what = if layout.starts_with("sparse") { "keeps indices and values apart" } else { "is torch's own" };
        return Fail::refused(Code::LY02, source, format!("layout {layout} {what}")).fix("t.to_dense()");
    }
    if truthy("is_quantized") {
        return Fail::refused(Code::DT03, source, "a quantised tensor is integers with a scale")
            .fix("t.dequantize()  # the values")
            .fix("t.int_repr()    # the integers; the scale is t.q_scale()");
    }
    if truthy("is_meta") {
        return Fail::refused(Code::LY03, source, "a meta tensor has a shape and no storage");
    }
    let functorch = x
        .py()
        .import("torch._C._functorch")
        .and_then(|module| module.getattr("is_functorch_wrapped_tensor")?.call1((x,))?.is_truthy())
        .unwrap_or(false);
    if functorch {
        return Fail::refused(
            Code::LY03,
            source,
            "inside vmap, grad or functionalize a tensor has no storage of its own",
        );
    }
    // What follows the first line is a stack of C++ frames.
    let text = error.value(x.py()).to_string();
    Fail::refused(Code::DT03, source, format!("torch says that {}", text.lines().next().unwrap_or_default()))
        .fix("t.view(torch.uint8)  # the raw bits")
}

fn refuse_nested(source: String) -> Fail {
    Fail::refused(Code::LY02, source, "a nested tensor is several tensors of different shapes")
        .fix("t.to_padded_tensor(0)  # one box, the short ones filled with 0")
}

/// A subclass that only wraps.
#[cold]
pub(super) fn refuse_wrapper(x: &Bound<'_, PyAny>) -> Fail {
    let name = type_name(x);
    if is_lazy(&name) {
        return refuse_unstored(x);
    }
    if name.ends_with("MaskedTensor") {
        return Fail::refused(Code::NU01, notation(x), "a masked tensor's elements may have no value")
            .fix("t.to_tensor(0)  # masked elements become 0");
    }
    if name.ends_with("NestedTensor") {
        return refuse_nested(notation(x));
    }
    Fail::refused(Code::LY03, notation(x), format!("{name} wraps other tensors and has no storage of its own"))
}
