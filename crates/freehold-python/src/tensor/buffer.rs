//! `fh.Tensor` under the buffer protocol (PEP 3118).

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use freehold::ledger::HolderId;
use freehold::{Code, DType, Error, Label, Message, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;

use super::PyTensor;
use crate::error::raise;
use crate::target::numpy::{lent, open_holder};
use crate::target::{Sizes, byte_layout};

/// What an export points into, and its record on the ledger. It has its own handle on the tensor: a view outlives a
/// `with` block.
struct Export {
    shape: Sizes,
    strides: Sizes,
    tensor: Tensor,
    holder: HolderId,
}

impl Drop for Export {
    fn drop(&mut self) {
        // Erase before free: once the tensor is dropped the address may be another buffer's.
        self.tensor.runtime().ledger().close(self.holder);
    }
}

/// The `struct` format of a dtype; `None` where there is none (bfloat16, float8, complex32).
fn format_of(dtype: DType) -> Option<&'static CStr> {
    Some(match dtype {
        DType::BOOL => c"?",
        DType::I8 => c"b",
        DType::I16 => c"h",
        DType::I32 => c"i",
        DType::I64 => c"q",
        DType::U8 => c"B",
        DType::U16 => c"H",
        DType::U32 => c"I",
        DType::U64 => c"Q",
        DType::F16 => c"e",
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::C64 => c"Zf",
        DType::C128 => c"Zd",
        _ => return None,
    })
}

fn refuse(py: Python<'_>, code: Code, tensor: &Tensor, why: &str, fix: &str) -> PyErr {
    let text = format!("buffer({}): {why}", tensor.desc());
    raise(py, Error::rejected(Message::plain(code, text, fix), None))
}

/// Fills a buffer.
///
/// # Safety
///
/// * `view` is NULL or a struct to fill.
pub(super) unsafe fn get(slf: &Bound<'_, PyTensor>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
    let py = slf.py();
    if view.is_null() {
        return Err(pyo3::exceptions::PyBufferError::new_err("no struct to fill"));
    }
    // SAFETY: by the caller's word. The protocol wants NULL here on failure.
    unsafe { (*view).obj = ptr::null_mut() };
    let tensor = slf.get().tensor(py).map_err(|error| raise(py, error))?;
    let asks = |flag: c_int| flags & flag == flag;
    let Some(format) = format_of(tensor.dtype()) else {
        let fix = "read its bits: fh.convert(t, dtype=\"uint16\") for 16-bit elements, \"uint8\" for 8-bit ones";
        return Err(refuse(py, Code::DT02, &tensor, "the buffer protocol has no format for this dtype.", fix));
    };
    if !tensor.device().kind.is_host() {
        return Err(refuse(py, Code::DV01, &tensor, "the memory is not on the host.", "move it first"));
    }
    if tensor.traits().intersects(Traits::LAZY) {
        return Err(refuse(py, Code::LZ01, &tensor, "the bytes are not the values.", "fh.copy(t)"));
    }
    if asks(ffi::PyBUF_WRITABLE) && !tensor.is_writable() {
        return Err(refuse(py, Code::RO01, &tensor, "a writable buffer of read-only memory.", "fh.copy(t)"));
    }
    let (c, f) = (tensor.layout().is_c_contiguous(), tensor.layout().is_f_contiguous());
    let wanted = if asks(ffi::PyBUF_ANY_CONTIGUOUS) {
        c || f
    } else if asks(ffi::PyBUF_F_CONTIGUOUS) {
        f
    } else if asks(ffi::PyBUF_C_CONTIGUOUS) || !asks(ffi::PyBUF_STRIDES) {
        c
    } else {
        true
    };
    if !wanted {
        let fix = "fh.convert(t, order=\"C\")";
        return Err(refuse(py, Code::ST02, &tensor, "a contiguous buffer of memory with gaps or another order.", fix));
    }
    let item = tensor.dtype().padded_size() as isize;
    let (shape, strides) = byte_layout(&tensor);
    let (data, len) = (tensor.data_ptr(), tensor.nbytes() as isize);
    let read_only = !tensor.is_writable();
    let holder = open_holder(&tensor, Label::BUFFER, None, Label::NONE);
    let tensor = lent(tensor, holder, Label::BUFFER, Label::NONE);
    let export = Box::new(Export { shape, strides, tensor, holder });
    // SAFETY: the struct is ours to fill; the pointers lead into the box, which lives until `release`.
    unsafe {
        let view = &mut *view;
        view.buf = if data.is_null() { ptr::dangling_mut::<u64>().cast() } else { data.cast() };
        view.len = len;
        view.itemsize = item;
        view.readonly = c_int::from(read_only);
        view.ndim = export.shape.len() as c_int;
        view.format = if asks(ffi::PyBUF_FORMAT) { format.as_ptr().cast_mut() } else { ptr::null_mut() };
        view.shape = if asks(ffi::PyBUF_ND) { export.shape.as_ptr().cast_mut() } else { ptr::null_mut() };
        view.strides = if asks(ffi::PyBUF_STRIDES) { export.strides.as_ptr().cast_mut() } else { ptr::null_mut() };
        view.suboffsets = ptr::null_mut();
        view.internal = Box::into_raw(export).cast::<c_void>();
        view.obj = slf.clone().into_any().into_ptr();
    }
    Ok(())
}

/// Ends an export.
///
/// # Safety
///
/// * `view` was filled by [`get`], and is released once.
pub(super) unsafe fn release(view: *mut ffi::Py_buffer) {
    // SAFETY: by the caller's word, `internal` is the box that `get` made; the interpreter holds the GIL.
    unsafe {
        let export = std::mem::replace(&mut (*view).internal, ptr::null_mut());
        if !export.is_null() {
            let export = Box::from_raw(export.cast::<Export>());
            crate::gil::keeping_error(Python::assume_attached(), || drop(export));
        }
    }
}
