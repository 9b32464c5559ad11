//! Which devices are present.

use std::sync::Arc;

use freehold_tensor::{Device, DeviceKind};

use crate::{MemoryResource, cuda, host};

/// The devices present: the host, then the CUDA devices in the driver's order.
///
/// This reads the CUDA driver, see [`cuda::probe`] for what that means.
///
/// ```
/// use freehold_device::{devices, is_present};
/// use freehold_tensor::Device;
///
/// let here = devices();
/// assert_eq!(here[0], Device::CPU);
/// assert!(here.into_iter().all(is_present));
/// ```
pub fn devices() -> Vec<Device> {
    let cuda = cuda_count();
    std::iter::once(Device::CPU).chain((0..cuda).map(|id| Device::new(DeviceKind::CUDA, id))).collect()
}

/// Whether a device is present, and its index one that exists.
///
/// Pinned and managed CUDA memory belong to a CUDA device and are present with it. The driver is read only where the
/// answer depends on it: asking for the host never touches CUDA.
///
/// ```
/// use freehold_device::is_present;
/// use freehold_tensor::{Device, DeviceKind};
///
/// assert!(is_present(Device::CPU));
/// assert!(!is_present(Device::new(DeviceKind::CPU, 1))); // the host is one
/// assert!(!is_present(Device::new(DeviceKind::METAL, 0)));
/// ```
pub fn is_present(device: Device) -> bool {
    match device.kind {
        DeviceKind::CPU => device.id == 0,
        DeviceKind::CUDA | DeviceKind::CUDA_HOST | DeviceKind::CUDA_MANAGED => {
            device.id >= 0 && device.id < cuda_count()
        }
        _ => false,
    }
}

/// The resource that results on a device come from unless somebody chose another; `None` where there is none.
///
/// ```
/// use freehold_device::default_resource;
/// use freehold_tensor::{Device, DeviceKind};
///
/// let memory = default_resource(Device::CPU).expect("there is a host");
/// assert_eq!(memory.device(), Device::CPU);
/// assert!(default_resource(Device::new(DeviceKind::VULKAN, 0)).is_none());
/// ```
pub fn default_resource(device: Device) -> Option<Arc<dyn MemoryResource>> {
    match device.kind {
        DeviceKind::CPU => Some(host().clone()),
        DeviceKind::CUDA => cuda::memory::resource(device.id).ok().cloned(),
        DeviceKind::CUDA_HOST => cuda::memory::pinned().ok().cloned(),
        DeviceKind::CUDA_MANAGED => cuda::memory::managed(device.id).ok().cloned(),
        _ => None,
    }
}

fn cuda_count() -> i32 {
    // The count came from the driver as an `int`, so it fits one.
    cuda::probe().map_or(0, |driver| i32::try_from(driver.devices.len()).unwrap_or(i32::MAX))
}
