//! Paddle's tensors, through the C exchange table, which hands out what hangs on a graph, and fails on sparse tensors with an
//! error about dimensions: the first is asked before, the second after.

use std::ptr::NonNull;

use freehold::dlpack::DLPackExchangeAPI;
use freehold::{Code, Label, Traits};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::torch::Flag;
use super::{Adapter, Ask, Fail, Imported, Kind, exchange, protocol};
use crate::names::{Named, imported};

/// What a type of Paddle offers.
pub(super) fn kind(x: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let Some(paddle) = imported(x.py(), "paddle")? else { return Ok(None) };
    let Some(tensor) = paddle.getattr_opt("Tensor")? else { return Ok(None) };
    if !class.is_subclass(&tensor)? {
        return Ok(None);
    }
    Ok(Some(Kind { adapter: Adapter::Paddle(exchange::table_of(class)?), framework: Label::PADDLE }))
}

/// A tensor of Paddle.
pub(super) fn import(
    x: &Bound<'_, PyAny>,
    table: Option<NonNull<DLPackExchangeAPI>>,
    ask: &Ask<'_, '_>,
) -> Result<Imported, Fail> {
    static STOPS: PyOnceLock<Flag> = PyOnceLock::new();
    static CLASS: Named = Named::new("paddle", &["Tensor"]);
    let py = x.py();
    let stops = STOPS.get_or_try_init(py, || Flag::find(CLASS.get(py)?, "stop_gradient"))?;
    let mut traits = Traits::empty();
    // What stops the gradient can still be an integer, which never has one.
    traits.set(Traits::REQUIRES_GRAD, !stops.of(x)?);
    match table {
        // It fails on what is sparse, with an error about dimensions.
        Some(table) => exchange::import(x, table, Label::PADDLE, ask, traits).map_err(|fail| match fail {
            Fail::Python(error) => if_sparse(x).unwrap_or(Fail::Python(error)),
            fail => fail,
        }),
        None => {
            if let Some(refusal) = if_sparse(x) {
                return Err(refusal);
            }
            // An older Paddle's `__dlpack__` refuses what hangs on a graph.
            let plain = if traits.is_empty() { x.clone() } else { x.call_method0("detach")? };
            protocol::import(&plain, true, Label::PADDLE, ask, traits)
        }
    }
}

/// The refusal of a tensor that is not dense.
#[cold]
fn if_sparse(x: &Bound<'_, PyAny>) -> Option<Fail> {
    let dense = x.call_method0("is_dense").and_then(|answer| answer.is_truthy()).unwrap_or(true);
    let refusal =
        || Fail::refused(Code::LY02, notation(x), "a sparse tensor keeps indices and values apart").fix("x.to_dense()");
    (!dense).then(refusal)
}

/// `float32[3, 3] paddle cpu`
fn notation(x: &Bound<'_, PyAny>) -> String {
    let dtype = x.getattr("dtype").and_then(|value| value.str()).map_or(String::new(), |text| text.to_string());
    let shape = x.getattr("shape").and_then(|shape| shape.extract::<Vec<i64>>()).unwrap_or_default();
    let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{}[{shape}] paddle cpu", dtype.trim_start_matches("paddle."))
}
