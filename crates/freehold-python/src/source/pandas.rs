//! `pandas.Series` and `pandas.Index`: the NumPy array inside, where there is one without nulls.

use freehold::{Code, Label};
use pyo3::prelude::*;

use super::{Ask, Fail, Imported, kind_of};
use crate::names::type_name;

/// The values of a series. Columns backed by NumPy share, and those of Arrow's numbers too; masked columns have no dense
/// values until pandas makes some.
pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let py = x.py();
    let array = x.getattr("array")?;
    let kind = array.get_type().name()?.to_string();
    let source = || -> String {
        let dtype = x.getattr("dtype").and_then(|d| d.str()).map_or_else(|_| "?".to_owned(), |d| d.to_string());
        let size = x.len().unwrap_or(0);
        format!("{dtype}[{size}] pandas cpu")
    };
    if matches!(kind.as_str(), "NumpyExtensionArray" | "PandasArray") {
        let values = x.call_method0("to_numpy")?;
        return super::import(&values, kind_of(&values)?, ask);
    }
    if !x.hasattr("isna")? {
        return Err(Fail::refused(Code::OB01, source(), format!("{} has no values to read", type_name(x))));
    }
    let nulls: usize = x.call_method0("isna")?.call_method0("sum")?.extract()?;
    let total = x.len()?;
    if nulls > 0 && ask.fill.is_none() {
        return Err(Fail::refused(Code::NU01, source(), format!("{nulls} of {total} elements are null")));
    }
    if nulls == 0 && kind == "ArrowExtensionArray" {
        return super::arrow::import(&array.call_method0("__arrow_array__")?, Label::PANDAS, ask);
    }
    let filled = match (nulls, ask.fill) {
        (1.., Some(fill)) => x.call_method1("fillna", (fill,))?,
        _ => x.clone(),
    };
    // Extension dtypes name their NumPy dtype; without nulls the conversion is exact.
    let arguments = pyo3::types::PyDict::new(py);
    if let Ok(dtype) = filled.getattr("dtype")?.getattr("numpy_dtype") {
        arguments.set_item("dtype", dtype)?;
    }
    let values = filled.call_method("to_numpy", (), Some(&arguments))?;
    let imported = super::import(&values, kind_of(&values)?, ask)?;
    Ok(Imported { built: true, ..imported })
}
