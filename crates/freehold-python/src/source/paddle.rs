//! Paddle's tensors, through the C exchange table, which hands out what hangs on a graph, and fails on sparse tensors with an
//! error about dimensions: both are asked first.

use std::ptr::NonNull;

use freehold::dlpack::DLPackExchangeAPI;
use freehold::{Code, Label, Traits};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Adapter, Ask, Fail, Imported, Kind, exchange, protocol};
use crate::names::imported;

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
    let py = x.py();
    if !x.call_method0(pyo3::intern!(py, "is_dense"))?.is_truthy()? {
        return Err(Fail::refused(Code::LY02, notation(x), "a sparse tensor keeps indices and values apart")
            .fix("x.to_dense()"));
    }
    let mut traits = Traits::empty();
    // What stops the gradient can still be an integer, which never has one.
    traits.set(Traits::REQUIRES_GRAD, !x.getattr(pyo3::intern!(py, "stop_gradient"))?.is_truthy()?);
    match table {
        Some(table) => exchange::import(x, table, Label::PADDLE, ask, traits),
        None => {
            // An older Paddle's `__dlpack__` refuses what hangs on a graph.
            let plain = if traits.is_empty() { x.clone() } else { x.call_method0("detach")? };
            protocol::import(&plain, true, Label::PADDLE, ask, traits)
        }
    }
}

/// `float32[3, 3] paddle cpu`
fn notation(x: &Bound<'_, PyAny>) -> String {
    let dtype = x.getattr("dtype").and_then(|value| value.str()).map_or(String::new(), |text| text.to_string());
    let shape = x.getattr("shape").and_then(|shape| shape.extract::<Vec<i64>>()).unwrap_or_default();
    let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{}[{shape}] paddle cpu", dtype.trim_start_matches("paddle."))
}
