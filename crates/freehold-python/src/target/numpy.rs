//! NumPy arrays over a tensor's memory.

use std::mem::MaybeUninit;

use freehold::ledger::{Edge, HolderDesc, HolderFlags, HolderId, Role};
use freehold::tensor_algebra::MAX_NDIM;
use freehold::{Code, Decision, Error, Label, Message, Tensor, Traits, Verdict};
use pyo3::prelude::*;

use crate::error::raise;
use crate::recycle::{self, Content, recycled};
use crate::{dtype, numpy_abi};

/// The tensor behind an array, and the record of the array on the ledger.
pub(crate) struct Held {
    tensor: Tensor,
    holder: HolderId,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Erase before free: once the tensor is dropped the address may be another buffer's.
        self.tensor.runtime().ledger().close(self.holder);
    }
}

/// What keeps an array's memory alive, as the array's `base`.
#[pyclass(frozen, name = "Lease", module = "freehold._freehold")]
pub(crate) struct PyLease(Content<Held>);

recycled!(PyLease, Held);

/// Has the class recycle its objects.
pub(crate) fn install(py: Python<'_>) {
    recycle::install::<PyLease>(py);
}

/// An array over the tensor's memory.
#[inline]
pub(crate) fn export<'py>(
    py: Python<'py>,
    tensor: Tensor,
    decision: Option<&Decision>,
    site: Label,
) -> PyResult<Bound<'py, PyAny>> {
    let api = numpy_abi::api(py)?;
    let Some(descr) = dtype::descr(py, api, tensor.dtype())? else { return Err(no_dtype(py, &tensor)) };
    let ndim = tensor.shape().len();
    let mut strides = [const { MaybeUninit::<isize>::uninit() }; MAX_NDIM];
    let size = byte_unit(&tensor);
    for (place, stride) in strides.iter_mut().zip(tensor.strides()) {
        place.write(*stride as isize * size);
    }
    let shape: *const isize = tensor.shape().as_ptr().cast();
    // A tensor without elements may have no address, for which NumPy would allocate.
    let data = if tensor.data_ptr().is_null() { std::ptr::dangling_mut::<u64>().cast() } else { tensor.data_ptr() };
    let writable = tensor.is_writable();
    // SAFETY: shape and strides have `ndim` values, and an `i64` is an `isize` here; the extent was validated, and is readable
    // by its owner's word, and writable unless its traits say otherwise, for as long as the lease keeps the tensor.
    unsafe {
        let array = api.new_array(py, descr, ndim, shape, strides.as_ptr().cast(), data, writable)?;
        let holder = open_holder(&tensor, Label::NUMPY, decision, site);
        let tensor = lent(tensor, holder, Label::NUMPY, site);
        let lease = recycle::object::<PyLease>(py, Held { tensor, holder })?;
        api.set_base(&array, lease.into_any())?;
        Ok(array)
    }
}

#[cold]
fn no_dtype(py: Python<'_>, tensor: &Tensor) -> PyErr {
    let text = format!("export({} -> numpy): no array dtype.", tensor.desc());
    raise(py, Error::rejected(Message::plain(Code::DT02, text, "convert it first"), None))
}

/// Bytes of one unit of a tensor's strides.
#[inline]
pub(crate) fn byte_unit(tensor: &Tensor) -> isize {
    const { assert!(size_of::<isize>() == size_of::<i64>(), "64-bit platforms only") };
    if tensor.traits().contains(Traits::BYTE_STRIDES) { 1 } else { tensor.dtype().padded_size() as isize }
}

/// What a holder keeps that takes no capsule: only what is read-only or frozen is ever watched.
#[inline]
pub(crate) fn lent(tensor: Tensor, holder: HolderId, consumer: Label, site: Label) -> Tensor {
    if tensor.traits().is_empty() { tensor } else { tensor.lent_to(holder, consumer, site) }
}

/// The record of a holder that takes no capsule.
#[inline]
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
