//! The question about devices: under which name the target knows the memory, or whether it must move.

use super::Findings;
use crate::caps::DeviceSet;
use crate::decision::{Decision, Detail, Reason, Sync};
use crate::policy::Policy;
use crate::request::Request;
use crate::{Caps, Code, Device, DeviceKind, Steps, TensorDesc};

/// Where the target's tensor is, and what takes the bytes there.
pub(super) fn check(
    desc: &TensorDesc<'_>,
    request: &Request,
    caps: &Caps,
    policy: &Policy,
    decision: &mut Decision,
    found: &mut Findings,
) -> Result<(), Reason> {
    let managed = desc.device.kind == DeviceKind::CUDA_MANAGED;
    let wanted = match request.device {
        Some(device) => device,
        None if caps.devices.contains(desc.device.kind) => return check_kinds(policy, desc.device, desc.device),
        // Pinned memory is host memory to a target that knows only "cpu"; the bytes stay where they are.
        None if desc.device.kind.is_host() && caps.devices.contains(DeviceKind::CPU) => {
            decision.device = Device::CPU;
            return check_kinds(policy, desc.device, Device::CPU);
        }
        // Managed memory is memory of its device to a target that does not tell them apart.
        None if managed && caps.devices.contains(DeviceKind::CUDA) => Device { kind: DeviceKind::CUDA, ..desc.device },
        None if caps.devices.contains(DeviceKind::CPU) => Device::CPU,
        // A target that has no host memory.
        None => caps.devices.first().map_or(Device::CPU, |kind| Device::new(kind, 0)),
    };
    decision.device = wanted;
    check_kinds(policy, desc.device, wanted)?;
    let carried = caps.devices.contains(wanted.kind);
    // The same bytes under another name: pinned memory is the host's, managed memory is its device's too.
    let host_reads = desc.device.kind.is_host() || (managed && policy.managed_on_host);
    let of_its_device = managed && wanted.kind == DeviceKind::CUDA && wanted.id == desc.device.id;
    if carried && (wanted == desc.device || of_its_device) {
        return Ok(());
    }
    if carried && wanted == Device::CPU && host_reads {
        if managed {
            decision.sync = Sync::Host;
        }
        return Ok(());
    }
    let moving = Detail::Move { from: desc.device, to: wanted };
    if wanted != desc.device && !policy.reaches(wanted) {
        return Err(Reason::new(Code::DV02, moving));
    }
    if !carried {
        return Err(Reason::text(Code::DV01, format!("{} has no tensors on {wanted}", caps.name)));
    }
    // Nothing is planned that `execute` cannot do.
    if !policy.moves(desc.device) || !policy.moves(wanted) {
        return Err(Reason::new(Code::DV01, moving));
    }
    // The host waits for what it will read; a device is told to.
    decision.sync = match (desc.device.kind.is_host(), wanted.kind.is_host()) {
        (false, true) => Sync::Host,
        (false, false) => Sync::Event,
        (true, _) => Sync::None,
    };
    found.need(Steps::DEVICE, Code::DV01, moving);
    Ok(())
}

/// The house rule about kinds of device.
#[inline]
fn check_kinds(policy: &Policy, from: Device, to: Device) -> Result<(), Reason> {
    if policy.devices == DeviceSet::ALL || (policy.devices.contains(from.kind) && policy.devices.contains(to.kind)) {
        return Ok(());
    }
    Err(Reason::text(Code::PO01, format!("devices={} (asked: {from} -> {to})", policy.devices)))
}
