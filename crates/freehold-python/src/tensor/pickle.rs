//! Pickling `fh.Tensor`: out of band with protocol 5 where the memory is compact, in band otherwise.

use freehold::tensor_algebra::Dims;
use freehold::tensor_algebra::compact_strides;
use freehold::{DType, Device, Error, ImportOptions, Label, Order, RawTensor, Request, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyTuple};

use super::PyTensor;
use crate::call;
use crate::error::raise;
use crate::source::buffer::Held;

/// What `__reduce_ex__` gives: a function of this module, and (dtype, shape, order, padded, bytes).
pub(super) fn reduce<'py>(slf: &Bound<'py, PyTensor>, protocol: u32) -> PyResult<Bound<'py, PyTuple>> {
    let py = slf.py();
    let mut tensor = slf.get().tensor(py).map_err(|error| raise(py, error))?;
    let compact = |tensor: &Tensor| match (tensor.layout().is_c_contiguous(), tensor.layout().is_f_contiguous()) {
        (true, _) => Some("C"),
        (_, true) => Some("F"),
        _ => None,
    };
    if compact(&tensor).is_none() || !tensor.device().kind.is_host() || tensor.traits().intersects(Traits::LAZY) {
        let request = Request { order: Order::C, device: Some(Device::CPU), ..Request::default() };
        tensor = call::execute_on(py, &tensor, &request)?;
    }
    let order = compact(&tensor).unwrap_or("C");
    let dtype = tensor.dtype();
    // Any dtype as bytes: what a consumer of the buffer would call it does not matter here.
    let bytes = Bound::new(py, Bytes(tensor.clone()))?.into_any();
    let data = if protocol >= 5 {
        py.import("pickle")?.getattr("PickleBuffer")?.call1((bytes,))?
    } else {
        let held = Held::get(&bytes, ffi::PyBUF_SIMPLE)?;
        let view = held.view();
        // In band, what is loaded is writable, whatever it was: it is a copy.
        // SAFETY: the export holds `len` readable bytes; nothing runs in between.
        let slice = unsafe { std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize) };
        PyByteArray::new(py, slice).into_any()
    };
    let state = (
        (dtype.code, dtype.bits, dtype.lanes),
        tensor.shape().to_vec(),
        order,
        tensor.traits().contains(Traits::PADDED),
        data,
    );
    let function = py.import("freehold._freehold")?.getattr("_unpickle")?;
    PyTuple::new(py, [function, state.into_pyobject(py)?.into_any()])
}

/// A compact tensor's bytes, for a pickle.
#[pyclass(frozen, module = "freehold._freehold")]
struct Bytes(Tensor);

#[pymethods]
impl Bytes {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: std::ffi::c_int) -> PyResult<()> {
        let tensor = &slf.get().0;
        let (data, len) = (tensor.data_ptr(), tensor.extent().len() as isize);
        let data = if data.is_null() { std::ptr::dangling_mut::<u64>().cast() } else { data };
        let read_only = std::ffi::c_int::from(!tensor.is_writable());
        // SAFETY: the struct is the interpreter's to fill; the bytes are compact, and live as long as the object,
        // which the export refers to.
        let done = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data.cast(), len, read_only, flags) };
        if done < 0 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }
}

/// A tensor from a pickle.
#[pyfunction]
pub(crate) fn _unpickle<'py>(
    py: Python<'py>,
    dtype: (u8, u8, u16),
    shape: Vec<i64>,
    order: &str,
    padded: bool,
    data: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = DType { code: dtype.0, bits: dtype.1, lanes: dtype.2 };
    let fail = |error: Error| raise(py, error);
    dtype.validate().map_err(|e| fail(Error::capsule(e)))?;
    let order = if order == "F" { Order::F } else { Order::C };
    let strides: Dims = compact_strides(&shape, order).map_err(|e| fail(Error::capsule(e)))?;
    let layout = freehold::Layout::new(&shape, &strides);
    let extent = layout.validate(dtype, padded, freehold::StrideUnit::Elements).map_err(|e| fail(Error::capsule(e)))?;
    let held = Held::get(data, ffi::PyBUF_SIMPLE)?;
    let view = held.view();
    if view.len as u64 != extent.len() {
        let must = format!("hold {} bytes", extent.len());
        return Err(fail(Error::argument("the pickled data", format!("{} bytes", view.len), &must)));
    }
    let mut traits = Traits::empty();
    traits.set(Traits::READ_ONLY, view.readonly != 0);
    traits.set(Traits::PADDED, padded);
    let alloc = Some((view.buf.addr() as u64, view.len as u64));
    let options = ImportOptions { framework: Label::FREEHOLD, traits, alloc, ..ImportOptions::default() };
    let (buffer, owner) = (view.buf.cast::<u8>(), held);
    let raw = RawTensor {
        data: buffer,
        shape: &shape,
        strides: Some(&strides),
        dtype,
        device: Device::CPU,
        owner: owner.into_owner(),
    };
    // SAFETY: the buffer has as many bytes as the extent, and the export that keeps it there is the owner.
    let tensor = unsafe { Tensor::from_raw(raw, &options) }.map_err(fail)?;
    PyTensor::object(py, tensor)
}
