//! ONNX Runtime's values: legacy capsules without strides, in which booleans are called uint8.

use freehold::{Code, DType, Label, Owner, RawTensor, Tensor, Traits};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Adapter, Ask, Fail, Imported, Kind, protocol};
use crate::names::top_module;

/// `TensorProto.DataType.BOOL` of ONNX.
const BOOL: i32 = 9;
/// `TensorProto.DataType.STRING`.
const STRING: i32 = 8;

/// What a type of ONNX Runtime offers.
pub(super) fn kind(_: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let value = top_module(class) == "onnxruntime" && class.name()? == "OrtValue" && class.hasattr("__dlpack__")?;
    Ok(value.then(|| Kind { adapter: Adapter::OrtValue, framework: Label::intern("onnxruntime") }))
}

/// A value that holds a tensor.
pub(super) fn import(x: &Bound<'_, PyAny>, framework: Label, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    if !x.call_method0("is_tensor")?.is_truthy()? {
        return Err(no_tensor(x)?);
    }
    // An integer of ONNX.
    let kind: i32 = x.call_method0("element_type")?.extract()?;
    if kind == STRING {
        let text = "its elements are strings, which are no numbers";
        return Err(Fail::refused(Code::DT01, "OrtValue onnxruntime".to_owned(), text)
            .fix("x = x.numpy().astype(\"float64\")  # where each spells a number"));
    }
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

/// Of sequences, maps and sparse tensors ONNX Runtime says that they are no tensor, and not what they are.
fn no_tensor(x: &Bound<'_, PyAny>) -> PyResult<Fail> {
    let kind: String = x.call_method0("data_type")?.extract()?;
    let source = format!("{kind} onnxruntime");
    Ok(if x.call_method0("is_sparse_tensor")?.is_truthy()? {
        Fail::refused(Code::LY02, source, format!("a {kind} keeps indices and values apart"))
            .fix("x = x.as_sparse_tensor().values()  # the values alone, without their places")
    } else {
        Fail::refused(Code::OB01, source, format!("a {kind} is several tensors, or none"))
            .fix("pass one of its tensors")
    })
}
