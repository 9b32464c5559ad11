//! `cupy.ndarray`s over a tensor's device memory.

use freehold::{Caps, Device, Label, Stream, Tensor};
use pyo3::prelude::*;

use super::offer::{Offer, Reads};
use super::{Framework, Handover};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "cupy",
    modules: &[],
    label: Label::CUPY,
    road: "versioned capsule",
    plain: &Caps::CUPY,
    caps: |_, _, _| &Caps::CUPY,
    stream: Some(work_stream),
    export,
    receive: None,
};

/// The current stream of this thread.
fn work_stream(py: Python<'_>, device: Device) -> Option<Stream> {
    let cuda = py.import("cupy").and_then(|cupy| cupy.getattr("cuda")).ok()?;
    let current = cuda.call_method1("get_current_stream", (device.id,)).ok()?;
    // CuPy's 0 is the legacy default stream, which DLPack calls 1.
    Some(match current.getattr("ptr").and_then(|pointer| pointer.extract()).ok()? {
        0 => Stream::LEGACY_DEFAULT,
        handle => Stream(handle),
    })
}

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    let from_dlpack = handover.py.import("cupy")?.getattr("from_dlpack")?;
    from_dlpack.call1((Offer::new(handover, &tensor, Label::CUPY, Reads::Versioned)?,)).map(Bound::unbind)
}
