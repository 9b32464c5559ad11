//! A capsule for one consumer, and an object that offers it to consumers that take no bare capsules.

use freehold::{ExportOptions, Label, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use super::Handover;
use crate::arguments::{optional, stream_argument};
use crate::error::raise;
use crate::tensor::{legacy_capsule, versioned_capsule};

/// What a consumer reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Versioned capsules.
    Versioned,
    /// Legacy capsules, and its tensors are never written to.
    LegacyImmutable,
}

/// A capsule over the tensor's memory, on the ledger with its consumer and the decision behind it.
pub(super) fn capsule<'py>(
    handover: &Handover<'_, 'py>,
    tensor: &Tensor,
    consumer: Label,
    reads: Reads,
) -> PyResult<Bound<'py, PyCapsule>> {
    let py = handover.py;
    let options = ExportOptions {
        consumer,
        site: handover.site,
        decision: handover.decision,
        taken: true,
        never_writes: reads == Reads::LegacyImmutable,
        ..ExportOptions::default()
    };
    match reads {
        Reads::Versioned => versioned_capsule(py, tensor.to_versioned(&options).map_err(|error| raise(py, error))?),
        Reads::LegacyImmutable => legacy_capsule(py, tensor.to_legacy(&options).map_err(|error| raise(py, error))?),
    }
}

/// An object with `__dlpack__` that gives out one capsule, whatever is asked for: everything was decided before.
#[pyclass(frozen, module = "freehold._freehold")]
pub(super) struct Offer {
    capsule: Py<PyCapsule>,
    device: (i32, i32),
    /// Memory of a device, whose consumer says on which stream it will use it.
    tensor: Option<Tensor>,
}

impl Offer {
    /// The tensor for a consumer's `from_dlpack`.
    pub(super) fn new<'py>(
        handover: &Handover<'_, 'py>,
        tensor: &Tensor,
        consumer: Label,
        reads: Reads,
    ) -> PyResult<Bound<'py, Offer>> {
        Offer::of(handover, tensor, capsule(handover, tensor, consumer, reads)?)
    }

    /// As [`Offer::new`], for a capsule that there is.
    pub(super) fn of<'py>(
        handover: &Handover<'_, 'py>,
        tensor: &Tensor,
        capsule: Bound<'py, PyCapsule>,
    ) -> PyResult<Bound<'py, Offer>> {
        let device = tensor.device();
        let ordered = tensor.stream().map(|_| tensor.clone());
        let device = (device.kind.0, device.id);
        Bound::new(handover.py, Offer { capsule: capsule.unbind(), device, tensor: ordered })
    }
}

#[pymethods]
impl Offer {
    // Those that every consumer passes are named, so that no dictionary is made for them.
    #[pyo3(signature = (*_arguments, stream=None, max_version=None, dl_device=None, copy=None, **_wishes))]
    #[expect(clippy::too_many_arguments, reason = "the signature is the protocol's")]
    fn __dlpack__(
        &self,
        py: Python<'_>,
        _arguments: &Bound<'_, PyTuple>,
        stream: Option<&Bound<'_, PyAny>>,
        max_version: Option<&Bound<'_, PyAny>>,
        dl_device: Option<&Bound<'_, PyAny>>,
        copy: Option<&Bound<'_, PyAny>>,
        _wishes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyCapsule>> {
        let _ = (max_version, dl_device, copy);
        if let Some(tensor) = &self.tensor {
            let stream = optional(stream, stream_argument)?;
            tensor.use_on(stream).map_err(|error| raise(py, error))?;
        }
        Ok(self.capsule.clone_ref(py))
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        self.device
    }
}
