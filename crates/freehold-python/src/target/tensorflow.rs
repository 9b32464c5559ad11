//! `tf.Tensor`s over a tensor's memory: legacy capsules, row-major, and never written to.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Reads, capsule};
use super::{Framework, Handover};
use crate::names::{Named, Sought};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "tensorflow",
    modules: &["tf"],
    label: Label::TENSORFLOW,
    road: "legacy capsule",
    plain: &Caps::TENSORFLOW,
    caps: |_, _, _| &Caps::TENSORFLOW,
    stream: None,
    export,
    receive: None,
};

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    static FROM_DLPACK: Named = Named::new("tensorflow", &["experimental", "dlpack", "from_dlpack"]);
    static TAKE: Sought = Sought::new("tensorflow.python.pywrap_tfe", &["TFE_FromDlpackCapsule"]);
    let py = handover.py;
    let from_dlpack = FROM_DLPACK.get(py)?;
    let capsule = capsule(handover, &tensor, Label::TENSORFLOW, Reads::LegacyImmutable)?;
    // What `from_dlpack` calls, where this release of TensorFlow has it and the context is there.
    match (TAKE.get(py), context(py)) {
        (Some(take), Some(context)) => take.call1((capsule, context)),
        _ => from_dlpack.call1((capsule,)),
    }
    .map(Bound::unbind)
}

/// The handle of the context of eager operations, if it was made. Not kept: a test may have TensorFlow make another.
fn context(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    static MODULE: Sought = Sought::new("tensorflow.python.eager.context", &[]);
    let context = MODULE.get(py)?.getattr_opt(pyo3::intern!(py, "_context")).ok()??;
    let handle = context.getattr_opt(pyo3::intern!(py, "_context_handle")).ok()??;
    (!handle.is_none()).then_some(handle)
}
