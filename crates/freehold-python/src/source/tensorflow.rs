//! TensorFlow: eager tensors, which are immutable; variables, by the value that they have now; and what has no dense memory.
//! TensorFlow ends the process when a tensor of strings is asked for a capsule, so the dtype is looked at first.

use freehold::{Code, Label, Traits};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyType};

use super::{Adapter, Ask, Fail, Imported, Kind, capsule, protocol};
use crate::names::{Named, Sought, imported, type_name};

static EAGER: Sought = Sought::new("tensorflow.python.framework.ops", &["EagerTensor"]);

/// What a type of TensorFlow offers.
pub(super) fn kind(x: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let Some(tf) = imported(x.py(), "tensorflow")? else { return Ok(None) };
    for name in ["Tensor", "Variable", "SparseTensor", "RaggedTensor"] {
        // While TensorFlow is being imported it has nothing yet.
        let Some(base) = tf.getattr_opt(name)? else { return Ok(None) };
        if class.is_subclass(&base)? {
            let eager = EAGER.get(x.py()).is_some_and(|eager| class.is(eager));
            return Ok(Some(Kind { adapter: Adapter::TensorFlow { eager }, framework: Label::TENSORFLOW }));
        }
    }
    Ok(None)
}

/// Numbers of the dtypes (`types.proto`) that have a capsule: all floats, integers, complex and truth values of 8 bits and more.
/// Others are asked for their names.
const PLAIN: [i64; 15] = [1, 2, 3, 4, 5, 6, 8, 9, 10, 14, 17, 18, 19, 22, 23];

/// A tensor that has its values, by the function that its `__dlpack__` calls: Python's part of that, and to find out what
/// the type says already, takes four times as long. `None` if something is out of the ordinary.
fn import_eager(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Option<Result<Imported, Fail>> {
    /// Of the type: an object is asked for a method by way of Python code of TensorFlow's.
    static DATATYPE: Sought = Sought::new("tensorflow.python.framework.ops", &["EagerTensor", "_datatype_enum"]);
    static TO_CAPSULE: Sought = Sought::new("tensorflow.python.pywrap_tfe", &["TFE_ToDlpackCapsule"]);
    let py = x.py();
    let dtype: i64 = DATATYPE.get(py)?.call1((x,)).ok()?.extract().ok()?;
    if ask.stream.is_some() || !PLAIN.contains(&dtype) {
        return None;
    }
    let made = TO_CAPSULE.get(py)?.call1((x,)).ok()?;
    if !made.is_instance_of::<PyCapsule>() {
        return None;
    }
    Some(capsule::import(&made, Label::TENSORFLOW, ask, Traits::IMMUTABLE).map(Imported::from))
}

/// A tensor or variable.
pub(super) fn import(x: &Bound<'_, PyAny>, eager: bool, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    if eager && let Some(imported) = import_eager(x, ask) {
        return imported;
    }
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
        return import(&x.call_method0("value")?, false, ask);
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
