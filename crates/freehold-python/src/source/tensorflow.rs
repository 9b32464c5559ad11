//! TensorFlow: eager tensors, which are immutable; variables, by the value that they have now; and what has no dense memory.
//! TensorFlow ends the process when a tensor of strings is asked for a capsule, so the dtype is looked at first.

use freehold::{Code, Label, Traits};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Adapter, Ask, Fail, Imported, Kind, protocol};
use crate::names::{Named, imported, type_name};

/// What a type of TensorFlow offers.
pub(super) fn kind(x: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let Some(tf) = imported(x.py(), "tensorflow")? else { return Ok(None) };
    for name in ["Tensor", "Variable", "SparseTensor", "RaggedTensor"] {
        // While TensorFlow is being imported it has nothing yet.
        let Some(base) = tf.getattr_opt(name)? else { return Ok(None) };
        if class.is_subclass(&base)? {
            return Ok(Some(Kind { adapter: Adapter::TensorFlow, framework: Label::TENSORFLOW }));
        }
    }
    Ok(None)
}

/// A tensor or variable.
pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    static SPARSE: Named = Named::new("tensorflow", &["SparseTensor"]);
    static RAGGED: Named = Named::new("tensorflow", &["RaggedTensor"]);
    static VARIABLE: Named = Named::new("tensorflow", &["Variable"]);
    let py = x.py();
    if x.is_instance(SPARSE.get(py)?)? {
        return Err(Fail::refused(Code::LY02, notation(x), "a sparse tensor keeps indices and values apart")
            .fix("tf.sparse.to_dense(x)"));
    }
    if x.is_instance(RAGGED.get(py)?)? {
        return Err(Fail::refused(Code::LY02, notation(x), "a ragged tensor's rows have different lengths")
            .fix("x.to_tensor()  # one box, the short rows filled with 0"));
    }
    if x.is_instance(VARIABLE.get(py)?)? {
        // An assignment makes a new buffer while somebody has the old one, so the value that is lent stays what it is.
        return import(&x.call_method0("value")?, ask);
    }
    if !x.hasattr("__dlpack__")? {
        return Err(Fail::refused(Code::LY03, notation(x), "inside a tf.function a tensor has no values yet")
            .fix("tf.py_function(...)  # calls out while the graph runs"));
    }
    let dtype = x.getattr("dtype")?.getattr("name")?.str()?.to_string();
    if crate::dtype::from_name(&dtype).is_none() {
        return Err(Fail::refused(Code::DT03, notation(x), format!("{dtype} has no numeric value")));
    }
    protocol::import(x, true, Label::TENSORFLOW, ask, Traits::IMMUTABLE)
}

/// `string[2] tensorflow cpu`
fn notation(x: &Bound<'_, PyAny>) -> String {
    let text = |name: &str| x.getattr(name).and_then(|value| value.str()).map(|text| text.to_string());
    let dtype = x.getattr("dtype").and_then(|dtype| dtype.getattr("name")?.extract::<String>());
    let shape = text("shape").unwrap_or_default().replace(['(', ')', ' '], "");
    match dtype {
        Ok(dtype) => format!("{dtype}[{}] tensorflow cpu", shape.trim_end_matches(',')),
        Err(_) => type_name(x),
    }
}
