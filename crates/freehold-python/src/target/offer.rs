//! A capsule for one consumer, and an object that offers it to consumers that take no bare capsules.

use freehold::{Error, ExportOptions, Label, Tensor};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::Handover;
use crate::arguments::{optional, stream_argument};
use crate::error::raise;
use crate::recycle::{self, Content, recycled};
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

/// What an [`Offer`] gives out.
pub(crate) struct Offered {
    capsule: Py<PyCapsule>,
    device: (i32, i32),
    /// Memory of a device, whose consumer says on which stream it will use it.
    tensor: Option<Tensor>,
}

/// An object with `__dlpack__` that gives out one capsule, whatever is asked for: everything was decided before.
#[pyclass(frozen, module = "freehold._freehold")]
pub(crate) struct Offer(Content<Offered>);

recycled!(
    Offer,
    Offered,
    fn let_go(py: Python<'_>, held: Offered) {
        let Offered { capsule, tensor, device: _ } = held;
        crate::gil::keeping_error(py, || {
            // As a `Bound`: PyO3 puts off what is dropped outside its own entries.
            drop(capsule.into_bound(py));
            drop(tensor);
        });
    }
);

/// Has the class recycle its objects.
pub(crate) fn install(py: Python<'_>) {
    recycle::install::<Offer>(py);
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
        recycle::object::<Offer>(handover.py, Offered { capsule: capsule.unbind(), device, tensor: ordered })
    }

    /// What `f` reads of what is offered; an object that Python can still call has something.
    fn read<R>(&self, py: Python<'_>, f: impl FnOnce(&Offered) -> R) -> PyResult<R> {
        // SAFETY: the callers below count references and copy numbers.
        unsafe { self.0.look(py, |offered| offered.map(f)) }
            .ok_or_else(|| raise(py, Error::internal("an offer without a capsule")))
    }
}

#[pymethods]
impl Offer {
    // What DLPack has named, each by its name: with room for any others, a tuple and a dictionary would be made for each call,
    // which take longer than the capsule.
    #[pyo3(signature = (stream=None, *, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__(
        &self,
        py: Python<'_>,
        stream: Option<&Bound<'_, PyAny>>,
        max_version: Option<&Bound<'_, PyAny>>,
        dl_device: Option<&Bound<'_, PyAny>>,
        copy: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyCapsule>> {
        let _ = (max_version, dl_device, copy);
        let (capsule, tensor) = self.read(py, |offered| (offered.capsule.clone_ref(py), offered.tensor.clone()))?;
        if let Some(tensor) = tensor {
            let stream = optional(stream, stream_argument)?;
            tensor.use_on(stream).map_err(|error| raise(py, error))?;
        }
        Ok(capsule)
    }

    fn __dlpack_device__(&self, py: Python<'_>) -> PyResult<(i32, i32)> {
        self.read(py, |offered| offered.device)
    }
}
