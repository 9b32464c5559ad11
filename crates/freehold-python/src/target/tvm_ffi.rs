//! `tvm_ffi.Tensor`s over a tensor's memory: a carrier that takes whatever a capsule says.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Reads, capsule};
use super::{Framework, Handover};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "tvm_ffi",
    modules: &[],
    label: Label::TVM_FFI,
    plain: &Caps::TVM_FFI,
    caps: |_, _, _| &Caps::TVM_FFI,
    export,
    receive: None,
};

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    let py = handover.py;
    let from_dlpack = py.import("tvm_ffi")?.getattr(pyo3::intern!(py, "from_dlpack"))?;
    from_dlpack.call1((capsule(handover, &tensor, Label::TVM_FFI, Reads::Versioned)?,)).map(Bound::unbind)
}
