//! What `python -m freehold doctor` asks of the native half: the machine, and the road that each framework's tensors take.

use freehold::tensor_algebra::copy::{num_threads, simd_level};
use freehold::{Policy, Runtime, device, dlpack};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::source::{Adapter, kind_of};
use crate::target::Target;

/// What is in force in this process, as plain data. Asks the CUDA driver.
#[pyfunction]
pub(crate) fn _system(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let system = PyDict::new(py);
    let level = Runtime::global().ledger().level();
    let pool = device::host_pool();
    let statistics = pool.statistics();
    system.set_item("dlpack", dlpack::VERSION)?;
    system.set_item("simd", simd_level())?;
    system.set_item("threads", num_threads())?;
    system.set_item("host_cache", pool.limit())?;
    system.set_item("host_kept", statistics.kept_bytes)?;
    system.set_item("host_in_use", statistics.current_bytes)?;
    system.set_item("ledger", (level as u8, level.name()))?;
    let cuda = PyDict::new(py);
    match device::cuda::probe() {
        Ok(driver) => {
            cuda.set_item("version", driver.version.to_string())?;
            let devices = driver.devices.iter().map(|device| (device.name.as_str(), device.total_memory));
            cuda.set_item("devices", devices.collect::<Vec<_>>())?;
        }
        Err(unavailable) => cuda.set_item("missing", unavailable.to_string())?,
    }
    system.set_item("cuda", cuda)?;
    // The runtime says so on stderr, once, where nobody may be looking.
    let wrong = std::env::var("FREEHOLD_POLICY").ok().and_then(|text| Policy::parse(&text).err());
    system.set_item("policy_error", wrong.map(|(entry, must)| format!("{entry} must {must}")))?;
    Ok(system)
}

/// The way into an object's memory, in words.
#[pyfunction]
pub(crate) fn _road(x: &Bound<'_, PyAny>) -> PyResult<&'static str> {
    Ok(match kind_of(x)?.adapter {
        Adapter::Freehold => "its own tensor",
        Adapter::Numpy | Adapter::Masked | Adapter::NumpyScalar => "C struct",
        Adapter::Torch | Adapter::Exchange(_) | Adapter::Paddle(Some(_)) => "exchange table",
        Adapter::Dlpack { versioned: true, .. }
        | Adapter::OwnDlpack { versioned: true }
        | Adapter::Jax { versioned: true }
        | Adapter::TensorFlow { .. }
        | Adapter::Paddle(None) => "__dlpack__",
        Adapter::Dlpack { .. } | Adapter::OwnDlpack { .. } | Adapter::Jax { .. } | Adapter::OrtValue => {
            "__dlpack__ without max_version"
        }
        Adapter::Capsule => "capsule",
        Adapter::Pandas | Adapter::Frame => "by column",
        Adapter::Buffer => "buffer protocol",
        Adapter::ArrayInterface | Adapter::OwnArrayInterface => "__array_interface__",
        Adapter::CudaArrayInterface | Adapter::OwnCudaArrayInterface => "__cuda_array_interface__",
        Adapter::Arrow | Adapter::ArrowNumbers => "Arrow C data",
        Adapter::Scalar | Adapter::Sequence => "values",
        Adapter::TorchWrapper | Adapter::NoStorage | Adapter::None => "none",
    })
}

/// How a target gets its tensors, in words.
#[pyfunction]
pub(crate) fn _road_to(to: &Bound<'_, PyAny>) -> PyResult<&'static str> {
    Ok(Target::parse(Some(to))?.road())
}
