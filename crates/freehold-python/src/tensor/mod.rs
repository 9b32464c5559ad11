//! `fh.Tensor`: a tensor that owns a share of somebody's buffer, for every consumer that reads DLPack, buffers or
//! `__array__`.

mod buffer;
mod capsule;
mod cuda_array;
mod exchange;
mod pickle;

use freehold::{Code, Error, Message, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use crate::call;
use crate::error::raise;
use crate::recycle::{self, Content, recycled};

pub(crate) use capsule::{legacy_capsule, versioned_capsule};
pub(crate) use pickle::_unpickle;

/// A tensor at the boundary: shape, strides, dtype and device over a buffer that somebody owns.
///
/// Made by fh.share, fh.convert, fh.copy and fh.from_dlpack. It has __dlpack__, the C exchange table, the buffer protocol
/// and __array__, so every framework takes it. As a context manager it gives the view back at the end of the block.
///
/// >>> import numpy as np
/// >>> with fh.share(np.array([3.0, 1.0, 2.0])) as t:
/// ...     print(t.shape, t.dtype, t.device, t.writable)
/// ...     print(np.median(t), sum(memoryview(t)))
/// (3,) float64 cpu True
/// 2.0 6.0
/// >>> t
/// fh.Tensor(given back)
#[pyclass(frozen, name = "Tensor", module = "freehold", weakref)]
pub(crate) struct PyTensor(Content<Tensor>);

recycled!(PyTensor, Tensor);

impl PyTensor {
    /// A new object.
    #[inline]
    pub(crate) fn object(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
        recycle::object::<PyTensor>(py, tensor).map(Bound::into_any)
    }

    /// The tensor, or the error for one that was given back.
    #[inline]
    pub(crate) fn tensor(&self, py: Python<'_>) -> Result<Tensor, Error> {
        // SAFETY: to clone a handle is to count it.
        unsafe { self.0.look(py, |tensor| tensor.cloned()) }.ok_or_else(given_back)
    }

    /// What `f` makes of the tensor, without a second handle on it.
    ///
    /// # Safety
    ///
    /// * `f` runs no Python code and does not let go of the GIL.
    #[inline]
    pub(crate) unsafe fn borrowed<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Tensor) -> Result<R, Error>,
    ) -> Result<R, Error> {
        // SAFETY: forwarded from the caller.
        unsafe { self.0.look(py, |tensor| tensor.map_or_else(|| Err(given_back()), f)) }
    }

    fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&Tensor) -> R) -> PyResult<R> {
        self.tensor(py).map(|tensor| f(&tensor)).map_err(|error| raise(py, error))
    }
}

/// Has the class recycle its objects.
pub(crate) fn install(py: Python<'_>) {
    recycle::install::<PyTensor>(py);
}

#[cold]
fn given_back() -> Error {
    let message = Message::plain(
        Code::AR01,
        "this fh.Tensor was given back at the end of its with block.",
        "use it inside the block, or hand it over without one: t = fh.share(x)",
    );
    Error::rejected(message, None)
}

/// The tensor of an `fh.Tensor` object.
#[inline]
pub(crate) fn borrow(x: &Bound<'_, PyAny>) -> Result<Tensor, crate::source::Fail> {
    x.cast::<PyTensor>().map_err(PyErr::from)?.get().tensor(x.py()).map_err(Into::into)
}

#[pymethods]
impl PyTensor {
    /// Dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.with(py, |tensor| PyTuple::new(py, tensor.shape()))?
    }

    /// Steps between neighbours, in elements.
    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.with(py, |tensor| PyTuple::new(py, tensor.strides()))?
    }

    /// Element type, by its full name: "float32", "bfloat16".
    #[getter]
    fn dtype(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |tensor| {
            let dtype = tensor.dtype();
            dtype.name().map_or_else(|| dtype.to_string(), str::to_owned)
        })
    }

    /// Device: "cpu", "cuda:0".
    #[getter]
    fn device(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |tensor| tensor.device().to_string())
    }

    /// Number of dimensions.
    #[getter]
    fn ndim(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |tensor| tensor.shape().len())
    }

    /// Number of elements.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<i64> {
        self.with(py, Tensor::numel)
    }

    /// Bytes of a compact copy.
    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, Tensor::nbytes)
    }

    /// Whether a holder may write.
    #[getter]
    fn writable(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, Tensor::is_writable)
    }

    /// The framework that the memory came from.
    #[getter]
    fn framework(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.with(py, |tensor| tensor.framework().as_str())
    }

    /// Address of the first element.
    #[getter]
    fn data_ptr(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |tensor| tensor.data_ptr().addr())
    }

    /// The record on the ledger, or 0.
    #[getter]
    fn id(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |tensor| tensor.id().get())
    }

    /// A DLPack capsule. Legacy unless `max_version` allows version 1; read-only memory only leaves in a versioned one.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<&Bound<'py, PyAny>>,
        dl_device: Option<&Bound<'py, PyAny>>,
        copy: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::export(py, self, stream, max_version, dl_device, copy)
    }

    /// The device as DLPack's pair.
    fn __dlpack_device__(&self, py: Python<'_>) -> PyResult<(i32, i32)> {
        self.with(py, |tensor| (tensor.device().kind.0, tensor.device().id))
    }

    /// The CUDA array interface, version 3, for memory of a CUDA device. Its `stream` is where the values are in order.
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tensor = self.tensor(py).map_err(|error| raise(py, error))?;
        cuda_array::interface(py, &tensor)
    }

    #[classattr]
    fn __dlpack_c_exchange_api__(py: Python<'_>) -> PyResult<Py<PyAny>> {
        exchange::capsule(py)
    }

    /// A NumPy array: the memory itself where it can be, a copy where `copy` or `dtype` ask for one.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call::to_array(slf.as_any(), dtype, copy)
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut pyo3::ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        // SAFETY: the interpreter passes a struct to fill.
        unsafe { buffer::get(&slf, view, flags) }
    }

    unsafe fn __releasebuffer__(&self, view: *mut pyo3::ffi::Py_buffer) {
        // SAFETY: the interpreter passes a struct that `__getbuffer__` filled, once.
        unsafe { buffer::release(view) }
    }

    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, protocol: u32) -> PyResult<Bound<'py, PyTuple>> {
        pickle::reduce(slf, protocol)
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// New memory, as `copy.deepcopy` promises.
    fn __deepcopy__<'py>(slf: &Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        call::deep_copy(slf.as_any())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        match self.with(py, |tensor| tensor.shape().first().copied())? {
            Some(n) => Ok(usize::try_from(n).unwrap_or(0)),
            None => Err(pyo3::exceptions::PyTypeError::new_err("a 0-d tensor has no length")),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().with(slf.py(), |_| ())?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        match self.0.take(py) {
            Some(tensor) => crate::ledger::given_back(py, tensor),
            None => Ok(()),
        }
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        crate::json::html(slf.as_any(), "tensor")
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match self.tensor(py) {
            Ok(tensor) => {
                let buffer = crate::ledger::buffer_of(&tensor).map_or_else(String::new, |id| format!(", buffer #{id}"));
                format!("fh.Tensor({}{buffer})", tensor.desc())
            }
            Err(_) => "fh.Tensor(given back)".to_owned(),
        }
    }
}
