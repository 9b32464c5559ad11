//! Device arguments.

use freehold::{Device, DeviceKind, Error};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::error::raise;
use crate::names::{shown, top_module};

/// A `device=` argument: "cpu", "cuda:1", a DLPack pair, or a framework's own device object.
pub(crate) fn argument(value: &Bound<'_, PyAny>) -> PyResult<Device> {
    let unknown = || {
        raise(
            value.py(),
            Error::argument("device", shown(value), "be like \"cpu\", \"cuda:0\", or a DLPack pair (1, 0)"),
        )
    };
    if let Ok(text) = value.cast::<PyString>() {
        return Device::parse(text.to_str()?).ok_or_else(unknown);
    }
    if let Ok(pair) = value.cast::<PyTuple>() {
        if pair.len() != 2 {
            return Err(unknown());
        }
        let (kind, id) = (pair.get_item(0)?, pair.get_item(1)?);
        let kind: i32 = kind.extract().or_else(|_| kind.getattr("value")?.extract()).map_err(|_| unknown())?;
        let id: Option<i32> = id.extract().map_err(|_| unknown())?;
        return Ok(Device::new(DeviceKind(kind), id.unwrap_or(0)));
    }
    // torch.device("cuda:1") prints as that; JAX prints "cuda:0" or "TFRT_CPU_0" and has `platform` and `id`.
    if let Some(device) = value.str().ok().and_then(|text| Device::parse(text.to_str().ok()?)) {
        return Ok(device);
    }
    let platform = value.getattr("platform").and_then(|p| p.extract::<String>());
    let id = value.getattr("id").and_then(|id| id.extract::<i32>());
    // CuPy's has a number and nothing else: its devices are all of one kind.
    if let (Err(_), Ok(id)) = (&platform, &id)
        && top_module(&value.get_type()) == "cupy"
    {
        return Ok(Device::new(DeviceKind::CUDA, *id));
    }
    match (platform, id) {
        (Ok(platform), Ok(id)) => {
            let kind = if platform == "gpu" { "cuda" } else { platform.as_str() };
            let kind = DeviceKind::from_name(kind).ok_or_else(unknown)?;
            Ok(Device::new(kind, if kind == DeviceKind::CPU { 0 } else { id }))
        }
        _ => Err(unknown()),
    }
}
