//! `pandas.Series`, `pandas.Index` and pandas' own arrays: the NumPy array inside, where there is one without nulls.

use freehold::{Code, Label};
use pyo3::prelude::*;

use super::{Ask, Fail, Imported, kind_of};
use crate::names::type_name;

/// The values of a series. Columns backed by NumPy share, and those of Arrow's numbers too; masked columns have no dense
/// values until pandas makes some.
pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let py = x.py();
    let source = || -> String {
        let dtype = x.getattr("dtype").and_then(|d| d.str()).map_or_else(|_| "?".to_owned(), |d| d.to_string());
        let size = x.len().unwrap_or(0);
        format!("{dtype}[{size}] pandas cpu")
    };
    let refused = |code, text: &str| Fail::refused(code, source(), text.to_owned());
    if x.get_type().name()? == "MultiIndex" {
        return Err(refused(Code::LY01, "it has several levels").fix("x.get_level_values(0)  # a level at a time"));
    }
    // An array of pandas is what a series or an index has inside.
    let array = x.getattr_opt("array")?.unwrap_or_else(|| x.clone());
    let kind = array.get_type().name()?.to_string();
    let index = type_name(x).ends_with("Index");
    match kind.as_str() {
        "NumpyExtensionArray" | "PandasArray" => {
            let values = x.call_method0("to_numpy")?;
            return super::import(&values, kind_of(&values)?, ask);
        }
        "DatetimeArray" | "TimedeltaArray" | "PeriodArray" => {
            let text = format!("{} counts time, which a tensor cannot say", x.getattr("dtype")?.str()?);
            return Err(refused(Code::DT03, &text).fix("x.astype(\"int64\")  # the numbers behind them"));
        }
        "Categorical" => {
            let codes = if index || x.is(&array) { "x.codes" } else { "x.cat.codes" };
            return Err(refused(Code::DT03, "a categorical's elements are codes of its categories")
                .fix(format!("{codes}  # the codes")));
        }
        "IntervalArray" => {
            let left = if index || x.is(&array) { "x.left" } else { "x.array.left" };
            return Err(refused(Code::DT03, "an interval is two numbers").fix(format!("{left}  # one end of each")));
        }
        "SparseArray" => {
            let dense = if x.is(&array) { "x.to_dense()" } else { "x.sparse.to_dense()" };
            return Err(refused(Code::LY02, "a sparse column keeps indices and values apart").fix(dense));
        }
        _ => {}
    }
    if !x.hasattr("isna")? {
        return Err(refused(Code::OB01, &format!("{} has no values to read", type_name(x))));
    }
    let nulls: usize = x.call_method0("isna")?.call_method0("sum")?.extract()?;
    let total = x.len()?;
    if nulls > 0 && ask.fill.is_none() {
        return Err(refused(Code::NU01, &format!("{nulls} of {total} elements are null")));
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
