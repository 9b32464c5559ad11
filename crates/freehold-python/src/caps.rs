//! What each target takes, for `fh.targets()`, and the flowchart.

use freehold::tensor_algebra::KNOWN_DTYPES;
use freehold::{Caps, DeviceKind, Error, StrideRule};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::raise;

/// The row of a target, as plain data; `extended` adds what `ml_dtypes` gives NumPy, if it is installed.
#[pyfunction]
#[pyo3(signature = (name, extended=false))]
pub(crate) fn _caps<'py>(py: Python<'py>, name: &str, extended: bool) -> PyResult<Bound<'py, PyDict>> {
    let caps = row(py, name)?;
    let caps = if extended && name == "numpy" { &crate::dtype::extended_caps(py)[1] } else { caps };
    let dict = PyDict::new(py);
    let dtypes: Vec<&str> =
        KNOWN_DTYPES.iter().filter(|d| caps.dtypes.contains(**d)).filter_map(|d| d.name()).collect();
    dict.set_item("dtypes", dtypes)?;
    dict.set_item(
        "strides",
        match caps.strides {
            StrideRule::Any => "any",
            StrideRule::NonNegative => "not negative",
            StrideRule::Packed => "without gaps",
            StrideRule::Compact => "compact",
        },
    )?;
    dict.set_item("byte_strides", caps.byte_strides)?;
    dict.set_item("alignment", caps.alignment)?;
    dict.set_item("aligned_complex", caps.aligned_complex)?;
    dict.set_item("read_only", caps.read_only)?;
    dict.set_item("immutable", caps.immutable)?;
    dict.set_item("byte_offset", caps.byte_offset)?;
    dict.set_item("dlpack", caps.dlpack)?;
    dict.set_item("max_ndim", caps.max_ndim)?;
    dict.set_item("own_memory", caps.own_memory)?;
    dict.set_item("default_dtype", caps.default_dtype.name())?;
    let kinds: Vec<&str> =
        (1..32).map(DeviceKind).filter(|kind| caps.devices.contains(*kind)).filter_map(DeviceKind::name).collect();
    dict.set_item("device_kinds", kinds)?;
    Ok(dict)
}

/// The decision flowchart from a source framework to a target, computed by asking.
#[pyfunction]
pub(crate) fn _flowchart(py: Python<'_>, source: &str, target: &str) -> PyResult<String> {
    Ok(freehold::flowchart(source, row(py, target)?))
}

fn row(py: Python<'_>, name: &str) -> PyResult<&'static Caps> {
    Caps::for_name(name)
        .ok_or_else(|| raise(py, Error::argument("target", name, "name a target: fh.targets() lists them")))
}
