//! NumPy arrays over a tensor's memory.

use std::ffi::c_void;

use freehold::ledger::{Edge, HolderDesc, HolderFlags, HolderId, Role};
use freehold::{Code, Decision, Error, Label, Message, Tensor, Traits, Verdict};
use pyo3::ffi;
use pyo3::prelude::*;

use super::{byte_layout, owned};
use crate::error::raise;
use crate::{dtype, numpy_abi};

/// What keeps an array's memory alive, as the array's base: the tensor, and the record of the array on the ledger.
struct Lease {
    tensor: Tensor,
    holder: HolderId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Erase before free: once the tensor is dropped the address may be another buffer's.
        self.tensor.runtime().ledger().close(self.holder);
    }
}

/// An array over the tensor's memory.
pub(crate) fn export<'py>(
    py: Python<'py>,
    tensor: Tensor,
    decision: Option<&Decision>,
    site: Label,
) -> PyResult<Bound<'py, PyAny>> {
    let api = numpy_abi::api(py)?;
    let Some(descr) = dtype::descr(py, api, tensor.dtype())? else {
        let text = format!("export({} -> numpy): no array dtype.", tensor.desc());
        return Err(raise(py, Error::rejected(Message::plain(Code::DT02, text, "convert it first"), None)));
    };
    let (shape, strides) = byte_layout(&tensor);
    // A tensor without elements may have no address, for which NumPy would allocate.
    let data = if tensor.data_ptr().is_null() { std::ptr::dangling_mut::<u64>().cast() } else { tensor.data_ptr() };
    let writable = tensor.is_writable();
    let base = lease(py, tensor, decision, site)?;
    // SAFETY: the lease keeps the tensor, whose extent was validated and whose owner keeps it readable, and writable
    // unless its traits say otherwise.
    unsafe { api.new_array(py, descr, (&shape, &strides), data, writable, base) }
}

fn lease<'py>(
    py: Python<'py>,
    tensor: Tensor,
    decision: Option<&Decision>,
    site: Label,
) -> PyResult<Bound<'py, PyAny>> {
    let holder = open_holder(&tensor, Label::NUMPY, decision, site);
    let context = Box::into_raw(Box::new(Lease { tensor, holder }));
    // SAFETY: the name is static; the destructor gets the capsule once.
    let capsule = unsafe { ffi::PyCapsule_New(context.cast::<c_void>(), NAME.as_ptr(), Some(end_lease)) };
    if capsule.is_null() {
        // SAFETY: no capsule took the box.
        drop(unsafe { Box::from_raw(context) });
    }
    // SAFETY: a new reference, or NULL with an exception set.
    unsafe { owned(py, capsule) }
}

const NAME: &std::ffi::CStr = c"freehold_lease";

unsafe extern "C" fn end_lease(capsule: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter with a capsule of ours, which nobody renames.
    let context = unsafe { ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()) };
    if !context.is_null() {
        // SAFETY: made by `lease`, and dropped once.
        let lease = unsafe { Box::from_raw(context.cast::<Lease>()) };
        // SAFETY: the interpreter frees a capsule with the GIL held.
        crate::gil::keeping_error(unsafe { Python::assume_attached() }, || drop(lease));
    }
}

/// The record of a holder that takes no capsule.
pub(crate) fn open_holder(tensor: &Tensor, consumer: Label, decision: Option<&Decision>, site: Label) -> HolderId {
    let traits = tensor.traits();
    let mut flags = HolderFlags::CONSUMED;
    flags.set(HolderFlags::READ_ONLY, !tensor.is_writable());
    flags.set(HolderFlags::DETACHED, traits.contains(Traits::DETACHED));
    flags.set(HolderFlags::FROZEN, traits.contains(Traits::FROZEN));
    let view = tensor.strided();
    let desc = HolderDesc {
        role: Role::Holder,
        framework: consumer,
        site,
        device: tensor.device(),
        address: view.address,
        dtype: view.dtype,
        padded: view.padded,
        unit: view.unit,
        shape: view.layout.shape,
        strides: view.layout.strides,
        alloc: tensor.allocation(),
        flags,
    };
    // A copy's own edge was written when it was made; what leaves here is always a share of what we hold.
    let codes = decision.filter(|d| d.verdict == Verdict::Share && !d.reasons.is_empty()).map(Decision::codes);
    let edge = Edge {
        from: tensor.id(),
        from_framework: tensor.framework(),
        to: consumer,
        verdict: Verdict::Share,
        steps: freehold::Steps::empty(),
        reasons: codes.as_deref().unwrap_or_default(),
        bytes: 0,
        sync: freehold::Sync::None,
    };
    tensor.runtime().ledger().open(&desc, Some(&edge))
}
