//! `cupy.ndarray`s over a tensor's device memory.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Offer, Reads};
use super::{Framework, Handover};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "cupy",
    modules: &[],
    label: Label::CUPY,
    road: "versioned capsule",
    plain: &Caps::CUPY,
    caps: |_, _, _| &Caps::CUPY,
    export,
    receive: None,
};

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    let from_dlpack = handover.py.import("cupy")?.getattr("from_dlpack")?;
    from_dlpack.call1((Offer::new(handover, &tensor, Label::CUPY, Reads::Versioned)?,)).map(Bound::unbind)
}
