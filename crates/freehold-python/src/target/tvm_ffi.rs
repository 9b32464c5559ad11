//! `tvm_ffi.Tensor`s over a tensor's memory, through tvm-ffi's C exchange table: a carrier that takes whatever a capsule says.

use freehold::{Caps, ExportOptions, Label, Tensor};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::offer::{Reads, capsule};
use super::{Framework, Handover};
use crate::names::{Named, Sought};
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
    static TABLE: Shared = Shared::new();
    /// `tvm_ffi.Tensor` has no table. The class with which tvm-ffi tests its use of tables has one, which makes tensors: all
    /// that its `from_dlpack` does for a capsule, without the search for what an object offers.
    static TESTS: Sought = Sought::new("tvm_ffi.core", &["DLTensorTestWrapper"]);
    let py = handover.py;
    let class = CLASS.get(py)?.cast::<PyType>()?;
    let find = || match (exchange::table_of(class)?, TESTS.get(py)) {
        (None, Some(tests)) => exchange::table_of(tests.cast::<PyType>()?),
        (found, _) => Ok(found),
    };
    let Some(table) = TABLE.get(py, find)? else { return take_capsule(handover, &tensor) };
    let options = ExportOptions {
        consumer: Label::TVM_FFI,
        site: handover.site,
        decision: handover.decision,
        taken: true,
        ..ExportOptions::default()
    };
    match super::torch::through_table(py, &tensor, table, &options) {
        Ok(made) if made.is_exact_instance(class) => Ok(made.unbind()),
        // The class of a test says nothing of why it refuses, and another release's may make something else.
        _ => take_capsule(handover, &tensor),
    }
}

/// tvm-ffi's own way in.
fn take_capsule(handover: &Handover<'_, '_>, tensor: &Tensor) -> PyResult<Py<PyAny>> {
    static FROM_DLPACK: Named = Named::new("tvm_ffi", &["from_dlpack"]);
    let capsule = capsule(handover, tensor, Label::TVM_FFI, Reads::Versioned)?;
    FROM_DLPACK.get(handover.py)?.call1((capsule,)).map(Bound::unbind)
}
