//! Device identity: a DLPack device type and an index.

use std::fmt;

/// A DLPack device type as an open set of integers (`DLDeviceType`): values this version does not name still
/// travel through and print as `device<N>`.
///
/// ```
/// use freehold_tensor::DeviceKind;
///
/// assert_eq!(DeviceKind::from_name("cuda_host"), Some(DeviceKind::CUDA_HOST));
/// assert!(DeviceKind::CUDA_HOST.is_host() && !DeviceKind::CUDA.is_host());
/// assert_eq!(DeviceKind(99).name(), None);
/// assert_eq!(DeviceKind(99).to_string(), "device<99>");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct DeviceKind(pub i32);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl DeviceKind {
            $($(#[$doc])* pub const $name: DeviceKind = DeviceKind($value);)*

            /// The lower-case name that messages and `device=` arguments use.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }

            /// The kind with this name.
            pub fn from_name(name: &str) -> Option<DeviceKind> {
                match name { $($text => Some(DeviceKind($value)),)* _ => None }
            }
        }
    };
}

kinds! {
    /// Host memory.
    CPU = 1, "cpu";
    /// CUDA device memory.
    CUDA = 2, "cuda";
    /// Page-locked host memory registered with CUDA.
    CUDA_HOST = 3, "cuda_host";
    /// OpenCL buffer handle.
    OPENCL = 4, "opencl";
    /// Vulkan buffer.
    VULKAN = 7, "vulkan";
    /// Metal buffer.
    METAL = 8, "metal";
    /// Verilog simulator buffer.
    VPI = 9, "vpi";
    /// ROCm device memory.
    ROCM = 10, "rocm";
    /// Page-locked host memory registered with ROCm.
    ROCM_HOST = 11, "rocm_host";
    /// Extension device.
    EXT_DEV = 12, "ext_dev";
    /// CUDA managed (unified) memory.
    CUDA_MANAGED = 13, "cuda_managed";
    /// oneAPI unified shared memory.
    ONEAPI = 14, "oneapi";
    /// WebGPU buffer.
    WEBGPU = 15, "webgpu";
    /// Qualcomm Hexagon.
    HEXAGON = 16, "hexagon";
    /// Microsoft MAIA.
    MAIA = 17, "maia";
    /// AWS Trainium.
    TRN = 18, "trn";
}

impl DeviceKind {
    /// Whether a CPU may read this memory through the pointer as it is (pinned host memory included).
    pub const fn is_host(self) -> bool {
        matches!(self.0, 1 | 3 | 11)
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "device<{}>", self.0),
        }
    }
}

impl fmt::Debug for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A device: its type and its index (`DLDevice`).
///
/// ```
/// use freehold_tensor::{Device, DeviceKind};
///
/// assert_eq!(Device::parse("cuda:1"), Some(Device::new(DeviceKind::CUDA, 1)));
/// assert_eq!(Device::CPU.to_string(), "cpu");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Device {
    /// The device type.
    pub kind: DeviceKind,
    /// The index among devices of that type; 0 for host memory.
    pub id: i32,
}

impl Device {
    /// The host.
    pub const CPU: Device = Device { kind: DeviceKind::CPU, id: 0 };

    /// A device of a kind.
    pub const fn new(kind: DeviceKind, id: i32) -> Self {
        Self { kind, id }
    }

    /// Parses `cpu`, `cuda`, `cuda:1`.
    pub fn parse(text: &str) -> Option<Device> {
        let (name, id) = match text.split_once(':') {
            Some((name, id)) => (name, id.parse::<i32>().ok().filter(|id| *id >= 0)?),
            None => (text, 0),
        };
        DeviceKind::from_name(name).map(|kind| Device { kind, id })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The index of the host carries no information, and "cpu:0" is not what any framework prints.
        if self.kind == DeviceKind::CPU && self.id == 0 {
            return f.write_str("cpu");
        }
        write!(f, "{}:{}", self.kind, self.id)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_kinds_print() {
        for kind in (0..32).map(DeviceKind) {
            if let Some(name) = kind.name() {
                assert_eq!(DeviceKind::from_name(name), Some(kind));
            }
        }
        assert_eq!(DeviceKind(99).to_string(), "device<99>");
        assert_eq!(Device::parse("cuda:1"), Some(Device::new(DeviceKind::CUDA, 1)));
        assert_eq!(Device::parse("cuda:-1"), None);
        assert_eq!(Device::parse("gpu"), None);
        assert_eq!(Device::CPU.to_string(), "cpu");
    }
}
