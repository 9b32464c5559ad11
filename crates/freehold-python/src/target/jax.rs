//! `jax.Array`s over a tensor's memory.
//!
//! JAX reads legacy capsules, which cannot say that memory is read-only, and never writes to an array: that is what makes the
//! export of read-only memory right. What it would copy or cast without a word (alignment below 64 bytes, gaps, 64 bits
//! without x64) is decided and done here, so that its import always shares.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Offer, Reads};
use super::{Framework, Handover};
use crate::names::Named;

pub(super) static FRAMEWORK: Framework = Framework {
    name: "jax",
    modules: &["jaxlib"],
    label: Label::JAX,
    road: "legacy capsule",
    plain: &Caps::JAX,
    caps,
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
    let from_dlpack = FROM_DLPACK.get(handover.py)?;
    let offer = Offer::new(handover, &tensor, Label::JAX, Reads::LegacyImmutable)?;
    from_dlpack.call1((offer,)).map(Bound::unbind)
}
