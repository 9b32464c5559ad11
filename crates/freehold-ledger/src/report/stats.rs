//! Totals.

use freehold_tensor::{Code, Device, Verdict};
use serde::{Deserialize, Serialize};

use super::{Name, form};
use crate::Level;

/// Totals.
///
/// ```
/// use freehold_ledger::{Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// ledger.close(array);
/// let stats = ledger.stats();
/// assert_eq!((stats.opened, stats.closed, stats.live.holders), (1, 1, 0));
/// assert_eq!(stats.level, Level::Records);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The level in force.
    #[serde(with = "form::word")]
    pub level: Level,
    /// Holders that came to be since the ledger began, recorded or only counted.
    pub opened: u64,
    /// Records closed. In a forked child this counts records of the parent too.
    pub closed: u64,
    /// What is live now.
    pub live: LiveStats,
    /// Handovers by pair of frameworks and verdict.
    pub handovers: Vec<HandoverStats>,
    /// Copies by the first reason.
    pub copied: Vec<CopiedStats>,
    /// Refusals.
    pub refused: Vec<RefusedStats>,
    /// Hazards by code.
    pub hazards: Vec<HazardStats>,
    /// Other events; those that never happened are left out.
    pub counters: Vec<CounterStats>,
    /// Copies that were made but are no longer listed.
    pub copies_dropped: u64,
    /// Hazards that were recorded but are no longer listed.
    pub hazards_dropped: u64,
}

/// What is live.
///
/// ```
/// use freehold_ledger::{HolderDesc, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let view = ledger.open(&HolderDesc { role: Role::Holder, ..ARRAY }, None);
/// let live = ledger.stats().live;
/// assert_eq!((live.holders, live.buffers, live.bytes), (2, 1, 12));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveStats {
    /// Open records.
    pub holders: u64,
    /// Buffers that they hold.
    pub buffers: u64,
    /// Bytes of those buffers.
    pub bytes: u64,
    /// The same for each device.
    pub by_device: Vec<DeviceStats>,
}

/// What is live on one device.
///
/// ```
/// use freehold_ledger::{DeviceStats, Ledger, Level};
/// use freehold_tensor::Device;
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// ledger.open(&ARRAY, None);
/// let on = DeviceStats { device: Device::CPU, holders: 1, buffers: 1, bytes: 12 };
/// assert_eq!(ledger.stats().live.by_device, [on]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceStats {
    /// The device.
    #[serde(with = "form::word")]
    pub device: Device,
    /// Open records.
    pub holders: u64,
    /// Buffers that they hold.
    pub buffers: u64,
    /// Bytes of those buffers.
    pub bytes: u64,
}

/// Handovers of one kind.
///
/// ```
/// use freehold_ledger::{HandoverStats, Ledger, Level};
/// use freehold_tensor::Verdict;
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::SHARE;
/// let ledger = Ledger::new(Level::Records);
/// for _ in 0..2 { // NumPy to PyTorch
///     ledger.open(&ARRAY, Some(&SHARE));
/// }
/// let shared = HandoverStats { from: "numpy", to: "torch", verdict: Verdict::Share, count: 2 };
/// assert_eq!(ledger.stats().handovers, [shared]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandoverStats {
    /// From this framework.
    #[serde(with = "form::name")]
    pub from: Name,
    /// To this one.
    #[serde(with = "form::name")]
    pub to: Name,
    /// How.
    #[serde(with = "form::word")]
    pub verdict: Verdict,
    /// How often.
    pub count: u64,
}

/// Copies for one reason.
///
/// ```
/// use freehold_ledger::{CopiedStats, HolderId, Ledger, Level};
/// use freehold_tensor::Code;
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::COPY;
/// let ledger = Ledger::new(Level::Records);
/// ledger.copied(HolderId::NONE, &ARRAY, &COPY); // 24 B, for CA01
/// assert_eq!(ledger.stats().copied, [CopiedStats { code: Some(Code::CA01), count: 1, bytes: 24 }]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopiedStats {
    /// The first reason; `None` for copies that were asked for.
    #[serde(with = "form::word_or_null")]
    pub code: Option<Code>,
    /// How many copies.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Refusals of one kind.
///
/// ```
/// use freehold_ledger::{Label, Ledger, Level, RefusedStats};
/// use freehold_tensor::Code;
///
/// let ledger = Ledger::new(Level::Counters);
/// ledger.reject(Label::NUMPY, Label::TORCH, Code::RO01);
/// let refused = RefusedStats { from: "numpy", to: "torch", code: Code::RO01, count: 1 };
/// assert_eq!(ledger.stats().refused, [refused]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedStats {
    /// From this framework.
    #[serde(with = "form::name")]
    pub from: Name,
    /// To this one.
    #[serde(with = "form::name")]
    pub to: Name,
    /// Why.
    #[serde(with = "form::word")]
    pub code: Code,
    /// How often.
    pub count: u64,
}

/// Hazards of one kind.
///
/// ```
/// use freehold_ledger::{HazardStats, Ledger, Level};
/// use freehold_tensor::Code;
///
/// let ledger = Ledger::new(Level::Counters);
/// ledger.hazard(Code::AL01, &[], "it changed while it was lent".to_owned());
/// assert_eq!(ledger.stats().hazards, [HazardStats { code: Code::AL01, count: 1 }]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HazardStats {
    /// What.
    #[serde(with = "form::word")]
    pub code: Code,
    /// How often.
    pub count: u64,
}

/// One counter.
///
/// ```
/// use freehold_ledger::{Counter, CounterStats, Ledger, Level};
///
/// let ledger = Ledger::new(Level::Counters);
/// ledger.count(Counter::PanicsCaught);
/// assert_eq!(ledger.stats().counters, [CounterStats { name: "panics_caught", count: 1 }]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterStats {
    /// Its name; see [`crate::Counter`].
    #[serde(with = "form::name")]
    pub name: Name,
    /// How often.
    pub count: u64,
}
