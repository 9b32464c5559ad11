//! `fh.Tensor.__cuda_array_interface__`, version 3: for consumers that do not read DLPack.

use freehold::{DType, DeviceKind, Tensor, Traits};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// What NumPy calls a dtype, where the interface has it.
fn type_string(dtype: DType) -> Option<String> {
    let code = match dtype.code {
        DType::CODE_BOOL => 'b',
        DType::CODE_INT => 'i',
        DType::CODE_UINT => 'u',
        DType::CODE_FLOAT => 'f',
        DType::CODE_COMPLEX => 'c',
        _ => return None,
    };
    let order = match dtype.bits {
        8 => '|',
        _ if cfg!(target_endian = "little") => '<',
        _ => '>',
    };
    (dtype.lanes == 1 && dtype.bits >= 8).then(|| format!("{order}{code}{}", dtype.bits / 8))
}

/// The interface's dictionary. An attribute that is not there, for host memory and for what the interface has no name for, as
/// the interface asks.
pub(super) fn interface<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyDict>> {
    let none = |why: String| PyAttributeError::new_err(format!("{why}, so that it has no __cuda_array_interface__"));
    if !matches!(tensor.device().kind, DeviceKind::CUDA | DeviceKind::CUDA_MANAGED) {
        return Err(none(format!("the tensor is on {}", tensor.device())));
    }
    let type_string = type_string(tensor.dtype()).ok_or_else(|| none(format!("{} has no typestr", tensor.dtype())))?;
    if tensor.traits().intersects(Traits::LAZY | Traits::BYTE_STRIDES) {
        return Err(none("the bytes are not the values".to_owned()));
    }
    let size = tensor.dtype().padded_size() as i64;
    let strides: Vec<i64> = tensor.strides().iter().map(|stride| stride * size).collect();
    let dict = PyDict::new(py);
    dict.set_item("shape", PyTuple::new(py, tensor.shape())?)?;
    dict.set_item("typestr", type_string)?;
    let address = if tensor.numel() == 0 { 0 } else { tensor.data_ptr().addr() };
    dict.set_item("data", (address, !tensor.is_writable()))?;
    dict.set_item("strides", PyTuple::new(py, strides)?)?;
    dict.set_item("stream", tensor.stream().map(|stream| stream.0))?;
    dict.set_item("version", 3)?;
    Ok(dict)
}
