//! JAX arrays: immutable, behind legacy capsules that cannot say so; and tracers, which have no values.

use freehold::{Code, Label, Traits};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyType};

use super::{Adapter, Ask, Fail, Imported, Kind, capsule, protocol};
use crate::names::{Sought, imported, type_name};

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
    // Arrays of keys have no `__dlpack__`.
    let versioned = class.hasattr("__dlpack__")? && protocol::takes_max_version(x, class)?;
    Ok(Some(Kind { adapter: Adapter::Jax { versioned }, framework }))
}

/// An array. The function behind its `__dlpack__` is asked first, which takes a tenth of the time; what it refuses, because
/// of the array or because this release of JAX has another one, `__dlpack__` is asked for.
pub(super) fn import(x: &Bound<'_, PyAny>, versioned: bool, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    static TO_CAPSULE: Sought = Sought::new("jax._src.lib", &["_jax", "buffer_to_dlpack_managed_tensor"]);
    if ask.stream.is_none()
        && is_on_one_device(x)
        && let Some(to_capsule) = TO_CAPSULE.get(x.py())
        && let Ok(made) = to_capsule.call1((x, x.py().None()))
        && made.is_instance_of::<PyCapsule>()
    {
        return capsule::import(&made, Label::JAX, ask, Traits::IMMUTABLE).map(Imported::from);
    }
    protocol::import(x, versioned, Label::JAX, ask, Traits::IMMUTABLE).map_err(|fail| explain(x, fail))
}

/// Whether an array is whole on one device: of one in parts, the function behind `__dlpack__` gives the first part.
fn is_on_one_device(x: &Bound<'_, PyAny>) -> bool {
    static SINGLE: Sought = Sought::new("jax.sharding", &["SingleDeviceSharding"]);
    let py = x.py();
    SINGLE.get(py).is_some_and(|single| {
        x.getattr(pyo3::intern!(py, "sharding")).is_ok_and(|sharding| sharding.get_type().is(single))
    })
}

/// Why JAX would not describe an array, in the terms of the catalogue. What it raises itself speaks of its insides.
#[cold]
fn explain(x: &Bound<'_, PyAny>, fail: Fail) -> Fail {
    let Fail::Python(_) = &fail else { return fail };
    let text =
        |name: &str| x.getattr(name).and_then(|value| value.str()).map_or(String::new(), |text| text.to_string());
    let shape = x.getattr("shape").and_then(|shape| shape.extract::<Vec<i64>>()).unwrap_or_default();
    let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let source = format!("{}[{shape}] jax", text("dtype"));
    let yes = |name: &str| x.call_method0(name).and_then(|value| value.is_truthy()).unwrap_or(false);
    if yes("is_deleted") {
        return Fail::refused(Code::LY03, source, "the array was deleted, or donated to a computation")
            .fix("x = jax.numpy.copy(x)  # before what deletes it; or leave it out of donate_argnums");
    }
    let devices = x.call_method0("devices").and_then(|devices| devices.len()).unwrap_or(1);
    if devices > 1 {
        let what = format!("the array lies on {devices} devices");
        return Fail::refused(Code::DV01, source, what)
            .fix("jax.device_put(x, jax.devices()[0])  # gathers it on one")
            .fix("x.addressable_shards[0].data  # one part of it");
    }
    if text("dtype").starts_with("key<") {
        return Fail::refused(Code::DT03, source, "its elements are keys of a random generator")
            .fix("jax.random.key_data(x)  # the integers behind them");
    }
    if text("dtype").trim_start_matches('u').starts_with("int") {
        return Fail::refused(Code::DT03, source, format!("JAX gives no capsule of {}", text("dtype")))
            .fix("x.astype(\"int8\")");
    }
    fail
}

/// A tracer stands for an array that does not exist yet.
pub(super) fn refuse_tracer(x: &Bound<'_, PyAny>) -> Fail {
    let source = x.str().map_or_else(|_| type_name(x), |text| text.to_string());
    Fail::refused(Code::LY03, source, "inside jit, grad or vmap an array has no values yet")
        .fix("jax.pure_callback(...)  # calls out while the compiled function runs")
}
