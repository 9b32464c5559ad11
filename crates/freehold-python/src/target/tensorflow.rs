//! `tf.Tensor`s over a tensor's memory: legacy capsules, row-major, and never written to.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Reads, capsule};
use super::{Framework, Handover};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "tensorflow",
    modules: &["tf"],
    label: Label::TENSORFLOW,
    plain: &Caps::TENSORFLOW,
    caps: |_, _, _| &Caps::TENSORFLOW,
    export,
    receive: None,
};

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    let py = handover.py;
    let dlpack = py.import("tensorflow")?.getattr("experimental")?.getattr("dlpack")?;
    let capsule = capsule(handover, &tensor, Label::TENSORFLOW, Reads::LegacyImmutable)?;
    dlpack.getattr(pyo3::intern!(py, "from_dlpack"))?.call1((capsule,)).map(Bound::unbind)
}
