//! `tvm_ffi.Tensor`s over a tensor's memory, through tvm-ffi's C exchange table: a carrier that takes whatever a capsule says.

use freehold::{Caps, ExportOptions, Label, Tensor};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::offer::{Reads, capsule};
use super::{Framework, Handover};
use crate::names::Named;
use crate::source::exchange::{self, Shared};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "tvm_ffi",
    modules: &[],
    label: Label::TVM_FFI,
    road: "exchange table",
    plain: &Caps::TVM_FFI,
    caps: |_, _, _| &Caps::TVM_FFI,
    stream: None,
    export,
    receive: None,
};

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    static CLASS: Named = Named::new("tvm_ffi", &["Tensor"]);
    static FROM_DLPACK: Named = Named::new("tvm_ffi", &["from_dlpack"]);
    static TABLE: Shared = Shared::new();
    let py = handover.py;
    let table = TABLE.get(py, || exchange::table_of(CLASS.get(py)?.cast::<PyType>()?))?;
    let Some(table) = table else {
        // An older tvm-ffi takes a capsule.
        let capsule = capsule(handover, &tensor, Label::TVM_FFI, Reads::Versioned)?;
        return FROM_DLPACK.get(py)?.call1((capsule,)).map(Bound::unbind);
    };
    let options = ExportOptions {
        consumer: Label::TVM_FFI,
        site: handover.site,
        decision: handover.decision,
        taken: true,
        ..ExportOptions::default()
    };
    super::torch::through_table(py, &tensor, table, &options).map(Bound::unbind)
}
