//! What a type offers, asked once a type.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use freehold::dlpack::DLPackExchangeAPI;
use freehold::{Label, Traits};
use pyo3::PyTypeInfo;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyCapsule, PyComplex, PyFloat, PyInt, PyList, PyRange, PyString, PyTuple, PyType};

use super::{arrow, exchange, frame, jax, onnxruntime, paddle, protocol, tensorflow, torch};
use crate::names::{imported, top_module};
use crate::numpy_abi;
use crate::tensor::PyTensor;

/// The way into a type's memory. The tag is as wide as what follows it: next to a narrow one, the rest would be moved in pieces
/// across which the processor waits.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Adapter {
    /// `fh.Tensor`.
    Freehold,
    /// `numpy.ndarray` and subclasses.
    Numpy,
    /// `numpy.ma.MaskedArray`.
    Masked,
    /// `torch.Tensor` and subclasses that have storage.
    Torch,
    /// Subclasses of `torch.Tensor` that only wrap others.
    TorchWrapper,
    /// A type with a C exchange table.
    Exchange(NonNull<DLPackExchangeAPI>),
    /// A type with `__dlpack__`; `versioned` if that takes `max_version`; `traits` are what no capsule of it says.
    Dlpack { versioned: bool, traits: Traits },
    /// `__dlpack__` that this object has and its type has not, as a proxy passes its object's attributes on.
    OwnDlpack { versioned: bool },
    /// `jax.Array`; `versioned` as for `Dlpack`.
    Jax { versioned: bool },
    /// Tensors and variables of TensorFlow; `eager`: the type of those that have their values.
    TensorFlow { eager: bool },
    /// `paddle.Tensor`, with its C exchange table.
    Paddle(Option<NonNull<DLPackExchangeAPI>>),
    /// A type whose objects stand for tensors that do not exist yet.
    NoStorage,
    /// A bare capsule.
    Capsule,
    /// `pandas.Series`, `pandas.Index` and the arrays that they are made of.
    Pandas,
    /// A table of pandas, Polars or Arrow.
    Frame,
    /// `onnxruntime.OrtValue`.
    OrtValue,
    /// The buffer protocol.
    Buffer,
    /// `__array_interface__`.
    ArrayInterface,
    /// `__array_interface__` that this object has and its type has not.
    OwnArrayInterface,
    /// `__cuda_array_interface__`, and no `__dlpack__`.
    CudaArrayInterface,
    /// `__cuda_array_interface__` that this object has and its type has not.
    OwnCudaArrayInterface,
    /// The Arrow C data interface.
    Arrow,
    /// Arrow's own arrays of numbers, which have `__dlpack__`, too.
    ArrowNumbers,
    /// A NumPy scalar.
    NumpyScalar,
    /// A Python number.
    Scalar,
    /// A list, tuple or range.
    Sequence,
    /// None of these.
    None,
}

/// What is known of a type.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub adapter: Adapter,
    pub framework: Label,
}

impl Kind {
    /// Whether objects of the type are tensors of this framework, and not something that only holds or stands for one.
    pub(crate) fn is_tensor_of(self, framework: Label) -> bool {
        self.framework == framework
            && matches!(
                self.adapter,
                Adapter::Exchange(_)
                    | Adapter::Dlpack { .. }
                    | Adapter::Jax { .. }
                    | Adapter::TensorFlow { .. }
                    | Adapter::Paddle(_)
                    | Adapter::Arrow
                    | Adapter::ArrowNumbers
            )
    }
}

/// One remembered type. Version tags are never used twice in a process, so a type that was freed or changed cannot be
/// taken for the one that was asked.
#[derive(Clone, Copy)]
struct Slot {
    class: *mut ffi::PyTypeObject,
    tag: u32,
    kind: Kind,
}

const SLOTS: usize = 128;

struct Cache(UnsafeCell<[Slot; SLOTS]>);

impl Cache {
    const fn empty() -> Cache {
        let kind = Kind { adapter: Adapter::None, framework: Label::UNKNOWN };
        Cache(UnsafeCell::new([Slot { class: std::ptr::null_mut(), tag: 0, kind }; SLOTS]))
    }
}

#[cfg(not(Py_GIL_DISABLED))]
// SAFETY: one cache for all threads is only touched with the GIL held. Without a GIL each thread has its own.
unsafe impl Sync for Cache {}

#[cfg(not(Py_GIL_DISABLED))]
static CACHE: Cache = Cache::empty();

#[cfg(Py_GIL_DISABLED)]
thread_local!(static CACHE: Cache = const { Cache::empty() });

/// The slot of a type, for this thread and until it runs Python code.
#[inline]
fn slot(class: *mut ffi::PyTypeObject) -> *mut Slot {
    #[cfg(not(Py_GIL_DISABLED))]
    let slots = CACHE.0.get();
    #[cfg(Py_GIL_DISABLED)]
    let slots = CACHE.with(|cache| cache.0.get());
    slots.cast::<Slot>().wrapping_add((class.addr() >> 5) % SLOTS)
}

/// The version of a type, 0 where it has none.
///
/// # Safety
///
/// * `class` is a type that is alive.
#[inline]
unsafe fn tag_of(class: *mut ffi::PyTypeObject) -> u32 {
    // Without a GIL another thread may change the type meanwhile, and CPython writes the tag as an atomic, too.
    // SAFETY: the field is aligned and lives as long as the type, by the caller's word.
    unsafe { AtomicU32::from_ptr(&raw mut (*class).tp_version_tag) }.load(Ordering::Relaxed)
}

/// What an object's type offers. Asked of the type once, not of each object, and never by trying and catching.
#[inline]
pub(crate) fn kind_of(x: &Bound<'_, PyAny>) -> PyResult<Kind> {
    match known(x) {
        Some(kind) => Ok(kind),
        None => ask(x),
    }
}

/// As [`kind_of`], for types that are ours or were asked before.
#[inline]
pub(crate) fn known(x: &Bound<'_, PyAny>) -> Option<Kind> {
    let class = x.get_type_ptr();
    if class == PyTensor::type_object_raw(x.py()) {
        return Some(Kind { adapter: Adapter::Freehold, framework: Label::FREEHOLD });
    }
    // SAFETY: the slot is inside the cache, which only this thread touches now, as `x` proves that it holds the GIL, or
    // has a cache of its own; the type is alive.
    let (slot, tag) = unsafe { (&*slot(class), tag_of(class)) };
    (slot.class == class && slot.tag == tag && tag != 0).then_some(slot.kind)
}

#[cold]
fn ask(x: &Bound<'_, PyAny>) -> PyResult<Kind> {
    let class = x.get_type();
    let kind = probe(x, &class)?;
    let pointer = x.get_type_ptr();
    // SAFETY: the type is alive.
    let tag = unsafe { tag_of(pointer) };
    // That a type offers nothing is not remembered: such calls raise, and the message matters more than the time. Nor is
    // what one object has: it says nothing of others of the type.
    let of_the_type = !matches!(
        kind.adapter,
        Adapter::None | Adapter::OwnDlpack { .. } | Adapter::OwnArrayInterface | Adapter::OwnCudaArrayInterface
    );
    if tag != 0 && of_the_type {
        // SAFETY: as in `kind_of`; `probe` may have run Python code, but no borrow of the slot was held across it.
        unsafe { *slot(pointer) = Slot { class: pointer, tag, kind } };
    }
    Ok(kind)
}

fn probe(x: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Kind> {
    let py = x.py();
    let known = |adapter, framework| Ok(Kind { adapter, framework });
    if let Some(api) = numpy_abi::api_if_imported(py)? {
        if api.is_array(x) {
            let masked = match imported(py, "numpy.ma")? {
                Some(module) => class.is_subclass(&module.getattr("MaskedArray")?)?,
                None => false,
            };
            return known(if masked { Adapter::Masked } else { Adapter::Numpy }, Label::NUMPY);
        }
        if crate::dtype::is_numpy_scalar(py, api, x.get_type_ptr()) {
            return known(Adapter::NumpyScalar, Label::NUMPY);
        }
    }
    if let Some(torch) = imported(py, "torch")?
        && class.is_subclass(&torch.getattr("Tensor")?)?
    {
        return torch::kind(&torch, class);
    }
    if let Some(pandas) = imported(py, "pandas")? {
        let extension = pandas.getattr("api")?.getattr("extensions")?.getattr("ExtensionArray")?;
        for base in [pandas.getattr("Series")?, pandas.getattr("Index")?, extension] {
            if class.is_subclass(&base)? {
                return known(Adapter::Pandas, Label::PANDAS);
            }
        }
        if class.is_subclass(&pandas.getattr("DataFrame")?)? {
            return known(Adapter::Frame, Label::PANDAS);
        }
    }
    let framework = || match top_module(class).as_str() {
        "" | "builtins" | "__main__" => Label::PYTHON,
        name => Label::intern(name.trim_start_matches('_')),
    };
    for probe in [tensorflow::kind, paddle::kind, jax::kind, frame::kind, onnxruntime::kind] {
        if let Some(kind) = probe(x, class)? {
            return Ok(kind);
        }
    }
    if let Some(table) = exchange::table_of(class)? {
        return known(Adapter::Exchange(table), framework());
    }
    if x.is_instance_of::<PyCapsule>() {
        return known(Adapter::Capsule, Label::UNKNOWN);
    }
    // Before `__dlpack__`: Arrow's own arrays have both, and only this one tells of nulls. Not where there is an array
    // interface: Pillow's images have both, and to Arrow they are a list of pixels of four bytes.
    if class.hasattr("__arrow_c_array__")? && !class.hasattr("__array_interface__")? {
        let numbers = arrow::is_of_numbers(x, class)?;
        return known(if numbers { Adapter::ArrowNumbers } else { Adapter::Arrow }, framework());
    }
    if class.hasattr("__dlpack__")? {
        let versioned = protocol::takes_max_version(x, class)?;
        return known(Adapter::Dlpack { versioned, traits: Traits::empty() }, framework());
    }
    // SAFETY: the object is alive and the GIL is held.
    if unsafe { ffi::PyObject_CheckBuffer(x.as_ptr()) } != 0 {
        return known(Adapter::Buffer, Label::BUFFER);
    }
    if class.hasattr("__array_interface__")? {
        return known(Adapter::ArrayInterface, framework());
    }
    if class.hasattr("__cuda_array_interface__")? {
        return known(Adapter::CudaArrayInterface, framework());
    }
    if class.hasattr("__arrow_c_stream__")? {
        return known(Adapter::Arrow, framework());
    }
    if x.is_instance_of::<PyBool>()
        || x.is_instance_of::<PyInt>()
        || x.is_instance_of::<PyFloat>()
        || x.is_instance_of::<PyComplex>()
    {
        return known(Adapter::Scalar, Label::PYTHON);
    }
    if !x.is_instance_of::<PyString>()
        && (x.is_instance_of::<PyList>() || x.is_instance_of::<PyTuple>() || x.is_instance_of::<PyRange>())
    {
        return known(Adapter::Sequence, Label::PYTHON);
    }
    // Everybody's from_dlpack asks the object, and a proxy has nothing on its type.
    if x.hasattr("__dlpack__")? && x.hasattr("__dlpack_device__")? {
        return known(Adapter::OwnDlpack { versioned: protocol::takes_max_version(x, x)? }, framework());
    }
    // NumPy takes an attribute of the instance, too, and numpy.lib.stride_tricks relies on that.
    if x.hasattr("__array_interface__")? {
        return known(Adapter::OwnArrayInterface, framework());
    }
    if x.hasattr("__cuda_array_interface__")? {
        return known(Adapter::OwnCudaArrayInterface, framework());
    }
    known(Adapter::None, framework())
}
