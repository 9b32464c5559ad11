//! JAX arrays: immutable, behind legacy capsules that cannot say so; and tracers, which have no values.

use freehold::{Code, Label, Traits};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Adapter, Fail, Kind, protocol};
use crate::names::{imported, type_name};

/// What a type of JAX offers.
pub(super) fn kind(x: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let Some(jax) = imported(x.py(), "jax")? else { return Ok(None) };
    let framework = Label::JAX;
    // While JAX is being imported it has nothing yet.
    let (Some(core), Some(array)) = (jax.getattr_opt("core")?, jax.getattr_opt("Array")?) else { return Ok(None) };
    if let Some(tracer) = core.getattr_opt("Tracer")?
        && class.is_subclass(&tracer)?
    {
        return Ok(Some(Kind { adapter: Adapter::NoStorage, framework }));
    }
    if !x.is_instance(&array)? {
        return Ok(None);
    }
    let versioned = protocol::takes_max_version(x, class)?;
    Ok(Some(Kind { adapter: Adapter::Dlpack { versioned, traits: Traits::IMMUTABLE }, framework }))
}

/// A tracer stands for an array that does not exist yet.
pub(super) fn refuse_tracer(x: &Bound<'_, PyAny>) -> Fail {
    let source = x.str().map_or_else(|_| type_name(x), |text| text.to_string());
    Fail::refused(Code::LY03, source, "inside jit, grad or vmap an array has no values yet")
        .fix("jax.pure_callback(...)  # calls out while the compiled function runs")
}
