//! ONNX Runtime's values: legacy capsules without strides, in which booleans are called uint8.

use freehold::{DType, Label, Owner, RawTensor, Tensor, Traits};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Adapter, Ask, Fail, Imported, Kind, protocol};
use crate::names::top_module;

/// `TensorProto.DataType.BOOL` of ONNX.
const BOOL: i32 = 9;

/// What a type of ONNX Runtime offers.
pub(super) fn kind(_: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let value = top_module(class) == "onnxruntime" && class.name()? == "OrtValue" && class.hasattr("__dlpack__")?;
    Ok(value.then(|| Kind { adapter: Adapter::OrtValue, framework: Label::intern("onnxruntime") }))
}

/// A value that holds a tensor.
pub(super) fn import(x: &Bound<'_, PyAny>, framework: Label, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    // An integer of ONNX, or for a value that is no tensor an error of ONNX Runtime's.
    let kind: i32 = x.call_method0("element_type")?.extract()?;
    if kind != BOOL {
        return protocol::import(x, false, framework, ask, Traits::empty());
    }
    // On the ledger is the tensor with the right dtype.
    let bytes = protocol::import(x, false, framework, &Ask { quiet: true, ..*ask }, Traits::empty())?.tensor;
    let raw = RawTensor {
        data: bytes.data_ptr(),
        shape: bytes.shape(),
        strides: Some(bytes.strides()),
        dtype: DType::BOOL,
        device: bytes.device(),
        owner: Owner::Parent(bytes.clone()),
    };
    // SAFETY: the same bytes, which the parent keeps; ONNX Runtime has 0 and 1 in a tensor of booleans.
    Ok(unsafe { Tensor::from_raw(raw, &ask.options(framework, bytes.traits(), bytes.allocation())) }?.into())
}
