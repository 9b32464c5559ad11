//! `jax.Array`s over a tensor's memory.
//!
//! JAX reads legacy capsules, which cannot say that memory is read-only, and never writes to an array: that is what makes the
//! export of read-only memory right. What it would copy or cast without a word (alignment below 64 bytes, gaps, 64 bits
//! without x64) is decided and done here, so that its import always shares.

use freehold::{Caps, Device, DeviceKind, Label, Tensor};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::offer::{Offer, Reads, capsule};
use super::{Framework, Handover};
use crate::names::{Named, Sought};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "jax",
    modules: &["jaxlib"],
    label: Label::JAX,
    road: "legacy capsule",
    plain: &Caps::JAX,
    caps,
    stream: None,
    export,
    receive: None,
};

/// The row for how the process has configured JAX: the setting can change, and differ from thread to thread. It is only
/// read; where JAX cannot be imported, the export says so.
fn caps(py: Python<'_>, _tensor: &Tensor, _ndim: usize) -> &'static Caps {
    static CONFIG: Named = Named::new("jax", &["config"]);
    let wide = || CONFIG.get(py)?.getattr(pyo3::intern!(py, "jax_enable_x64"))?.is_truthy();
    if wide().unwrap_or(false) { &Caps::JAX_X64 } else { &Caps::JAX }
}

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    static FROM_DLPACK: Named = Named::new("jax.dlpack", &["from_dlpack"]);
    let capsule = capsule(handover, &tensor, Label::JAX, Reads::LegacyImmutable)?;
    if tensor.device() == Device::CPU
        && let Some(array) = on_the_host(&capsule)
    {
        return Ok(array.unbind());
    }
    let offer = Offer::of(handover, &tensor, capsule)?;
    FROM_DLPACK.get(handover.py)?.call1((offer,)).map(Bound::unbind)
}

/// What `jax.dlpack.from_dlpack` calls in the end for memory of the host. The rest of its time, four fifths, goes into
/// finding out what was decided before: no copy, no cast, that device. `None` if this release of JAX has another function;
/// then the capsule is as it was, and what JAX has against it is heard from `from_dlpack`.
fn on_the_host<'py>(capsule: &Bound<'py, PyCapsule>) -> Option<Bound<'py, PyAny>> {
    static TAKE: Sought = Sought::new("jax._src.lib", &["_jax", "dlpack_managed_tensor_to_buffer"]);
    static BACKEND: Sought = Sought::new("jax._src.xla_bridge", &["get_backend"]);
    static VERSION: Sought = Sought::new("jax._src.lib", &["jaxlib_extension_version"]);
    /// From this one on, it is told the device's kind, too.
    const TOLD_THE_KIND: i64 = 467;
    let py = capsule.py();
    let (take, backend, version) = (TAKE.get(py)?, BACKEND.get(py)?, VERSION.get(py)?);
    // Not kept: JAX can be told to make its backends anew.
    let backend = backend.call1((pyo3::intern!(py, "cpu"),)).ok()?;
    let device = backend.call_method1(pyo3::intern!(py, "device_from_local_hardware_id"), (0,)).ok()?;
    let none = py.None();
    if version.extract::<i64>().ok()? >= TOLD_THE_KIND {
        take.call1((capsule, device, &none, &none, DeviceKind::CPU.0)).ok()
    } else {
        take.call1((capsule, device, &none, &none)).ok()
    }
}
