//! Holders and edges that tests are made of.

#![allow(dead_code, reason = "each test file uses its own part")]

use freehold_ledger::{Edge, HolderDesc, HolderFlags, HolderId, Label, Ledger, Level, Role, Sync};
use freehold_tensor::{Code, DType, Device, Steps, StrideUnit, Verdict};

/// A ledger of its own at level 2.
pub fn ledger() -> Ledger {
    Ledger::new(Level::Records)
}

/// A one-dimensional float64 view of `n` elements at `address`, whose allocation begins there.
pub fn array(framework: Label, address: u64, shape: &[i64; 1]) -> HolderDesc<'_> {
    HolderDesc {
        role: Role::Owner,
        framework,
        site: Label::NONE,
        device: Device::CPU,
        address,
        dtype: DType::F64,
        padded: false,
        unit: StrideUnit::Elements,
        shape,
        strides: &[1],
        alloc: Some((address, shape[0] as u64 * 8)),
        flags: HolderFlags::empty(),
    }
}

/// The same view, held by another framework.
pub fn held_by<'a>(framework: Label, of: &HolderDesc<'a>) -> HolderDesc<'a> {
    HolderDesc { role: Role::Holder, framework, ..*of }
}

pub fn share<'a>(from: HolderId, from_framework: Label, reasons: &'a [Code]) -> Edge<'a> {
    Edge {
        from,
        from_framework,
        to: Label::NONE,
        verdict: Verdict::Share,
        steps: Steps::empty(),
        reasons,
        bytes: 0,
        sync: Sync::None,
    }
}

pub fn copy<'a>(from: HolderId, from_framework: Label, steps: Steps, reasons: &'a [Code], bytes: u64) -> Edge<'a> {
    Edge { from, from_framework, to: Label::NONE, verdict: Verdict::Copy, steps, reasons, bytes, sync: Sync::None }
}
