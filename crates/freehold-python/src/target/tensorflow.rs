//! `tf.Tensor`s over a tensor's memory: legacy capsules, row-major, and never written to.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Reads, capsule};
use super::{Framework, Handover};
use crate::names::Named;

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
    let from_dlpack = FROM_DLPACK.get(handover.py)?;
    let capsule = capsule(handover, &tensor, Label::TENSORFLOW, Reads::LegacyImmutable)?;
    from_dlpack.call1((capsule,)).map(Bound::unbind)
}
