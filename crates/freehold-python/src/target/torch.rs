//! PyTorch tensors over a tensor's memory.

use std::ptr::{self, NonNull};

use freehold::dlpack::DLPackExchangeAPI;
use freehold::{Decision, Device, ExportOptions, Label, Stream, Tensor};
use pyo3::prelude::*;

use super::owned;
use crate::error::raise;
use crate::source::exchange;
use crate::source::torch::torch;
use crate::tensor::PyTensor;

/// A `torch.Tensor` over the tensor's memory, through the exchange table.
pub(super) fn export<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    decision: Option<&Decision>,
    site: Label,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(torch) = torch(py)? else {
        // An older PyTorch negotiates with our `__dlpack__`.
        let ours = PyTensor::object(py, tensor.clone())?;
        return py.import("torch")?.getattr("from_dlpack")?.call1((ours,));
    };
    let stream = exchange::work_stream(torch.table, tensor.device()).or(Some(Stream::NONE));
    let options =
        ExportOptions { consumer: Label::TORCH, site, decision, taken: true, stream, ..ExportOptions::default() };
    through_table(py, tensor, torch.table, &options)
}

/// PyTorch's current stream of this thread.
pub(super) fn work_stream(py: Python<'_>, device: Device) -> Option<Stream> {
    exchange::work_stream(torch(py).ok()??.table, device)
}

/// An object of the framework whose exchange table this is, over the tensor's memory.
#[inline]
pub(super) fn through_table<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    table: NonNull<DLPackExchangeAPI>,
    options: &ExportOptions<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let managed = tensor.to_versioned(options).map_err(|error| raise(py, error))?.into_raw();
    let mut object = ptr::null_mut();
    // SAFETY: the table is the framework's, of our major version; the managed tensor is ours to give. PyTorch, Paddle and
    // tvm-ffi leave one that they refuse with the caller (tests/interop/test_rows_x_exchange.py and test_frameworks_*.py hold them
    // to that), so it is released here.
    unsafe {
        let Some(to_py) = (*table.as_ptr()).managed_tensor_to_py_object_no_sync else {
            exchange::release(managed);
            let text = format!("the exchange table of {} has no consumer function", options.consumer.as_str());
            return Err(pyo3::exceptions::PyRuntimeError::new_err(text));
        };
        if to_py(managed, &mut object) != 0 {
            let error = PyErr::fetch(py);
            exchange::release(managed);
            return Err(error);
        }
        owned(py, object.cast())
    }
}
