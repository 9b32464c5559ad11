//! Totals.

use freehold_tensor::{Code, Device, Verdict};
use serde::{Deserialize, Serialize};

use super::{Name, form};
use crate::Level;

/// Totals.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HazardStats {
    /// What.
    #[serde(with = "form::word")]
    pub code: Code,
    /// How often.
    pub count: u64,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterStats {
    /// Its name; see [`crate::Counter`].
    #[serde(with = "form::name")]
    pub name: Name,
    /// How often.
    pub count: u64,
}
