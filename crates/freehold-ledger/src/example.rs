//! What the examples of this reference open records of; nothing else uses it.

use freehold_tensor::{Code, DType, Device, Steps, StrideUnit, Verdict};

use crate::{Edge, HolderDesc, HolderFlags, HolderId, Label, Role, Sync};

/// An array of NumPy's: `f32[3]` at 0x1000, which owns its 12 bytes.
pub const ARRAY: HolderDesc<'_> = HolderDesc {
    role: Role::Owner,
    framework: Label::NUMPY,
    site: Label::NONE,
    device: Device::CPU,
    address: 0x1000,
    dtype: DType::F32,
    padded: false,
    unit: StrideUnit::Elements,
    shape: &[3],
    strides: &[1],
    alloc: Some((0x1000, 12)),
    flags: HolderFlags::empty(),
};

/// A hand-over from NumPy to PyTorch that shares; whose, an example says.
pub const SHARE: Edge<'_> = Edge {
    from: HolderId::NONE,
    from_framework: Label::NUMPY,
    to: Label::TORCH,
    verdict: Verdict::Share,
    steps: Steps::empty(),
    reasons: &[],
    bytes: 0,
    sync: Sync::None,
};

/// One that casts 24 bytes.
pub const COPY: Edge<'_> =
    Edge { verdict: Verdict::Copy, steps: Steps::CAST, reasons: &[Code::CA01], bytes: 24, ..SHARE };
