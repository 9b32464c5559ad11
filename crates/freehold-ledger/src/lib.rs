//! Who owns which buffer, who holds a view of it, and what was copied and why.
//!
//! The boundary opens a record here for every tensor that enters or leaves it, and closes it when the tensor is let
//! go. In return the ledger says at any moment who owns the memory at an address, who else sees it, what aliases what
//! by exact overlap, what was lent and never came back, and which copies were made for which reason. It is for the
//! boundary to write and for people to read; it decides nothing and frees nothing.
//!
//! # Design
//!
//! * **On by default, so cheap.** At [`Level::Records`] a handover costs [`Ledger::open`] and [`Ledger::close`]:
//!   loads and stores in memory that one thread writes, no lock, no hash table, no allocation once warm, and no
//!   atomic read-modify-write unless another thread closes the record.
//! * **Buffers are found, not declared.** A record says which bytes it reaches and, where the caller knows it, which
//!   allocation they are in. That several records of three frameworks are one buffer is worked out when somebody
//!   asks.
//! * **Callable from anywhere.** Deleters run on any thread, without the interpreter's lock, while a thread or the
//!   process ends, after a panic, in a forked child. No call here runs foreign code under a lock, waits for a lock
//!   that is not the ledger's own, or panics on what it is given.
//! * **Bounded.** Copies, hazards, names and what is kept of closed holders (from [`Level::Sites`] on) have a limit, and
//!   what is dropped is counted.
//!
//! What a fork leaves in the child is described at [`Ledger::before_fork`]. Handovers that are not through Freehold
//! are not seen: what a framework does with its own tensors is its own affair.
//!
//! ```
//! use freehold_ledger::{Edge, HolderDesc, HolderFlags, Label, Ledger, Level, Role, Sync};
//! use freehold_tensor::{DType, Device, Steps, StrideUnit, Verdict};
//!
//! static LEDGER: Ledger = Ledger::new(Level::Records);
//!
//! let array = HolderDesc {
//!     role: Role::Owner,
//!     framework: Label::NUMPY,
//!     site: Label::NONE,
//!     device: Device::CPU,
//!     address: 0x1000,
//!     dtype: DType::F32,
//!     padded: false,
//!     unit: StrideUnit::Elements,
//!     shape: &[3],
//!     strides: &[1],
//!     alloc: Some((0x1000, 12)),
//!     flags: HolderFlags::empty(),
//! };
//! let owner = LEDGER.open(&array, None);
//! let edge = Edge {
//!     from: owner,
//!     from_framework: Label::NUMPY,
//!     to: Label::NONE,
//!     verdict: Verdict::Share,
//!     steps: Steps::empty(),
//!     reasons: &[],
//!     bytes: 0,
//!     sync: Sync::None,
//! };
//! let tensor = LEDGER.open(&HolderDesc { role: Role::Holder, framework: Label::TORCH, ..array }, Some(&edge));
//!
//! let buffer = LEDGER.owner(Device::CPU, 0x1004).expect("somebody holds it");
//! assert_eq!(buffer.owner.expect("the owner's record is open").framework, "numpy");
//! assert_eq!(buffer.holders[0].framework, "torch");
//! assert!(LEDGER.close(tensor) && LEDGER.close(owner));
//! ```

mod advice;
mod chain;
mod clock;
mod conflict;
mod counter;
#[doc(hidden)]
pub mod example;
mod findings;
mod history;
mod holder;
mod index;
mod label;
mod lanes;
mod ledger;
mod level;
mod lock;
mod order;
mod past;
mod query;
mod read;
mod record;
mod report;
mod shard;
mod slab;
#[doc(hidden)]
pub mod slot;
mod sync;
mod tally;
mod text;
mod thread;
mod write;

pub use advice::Dialect;
pub use chain::{ChainLink, Derivation};
pub use conflict::Conflict;
pub use counter::Counter;
pub use holder::{Edge, HolderDesc, HolderFlags, HolderId, Party, Role, Sync};
pub use label::{Label, MAX_LABEL_BYTES, MAX_LABELS};
pub use ledger::{Describe, HAZARDS_KEPT, Ledger, Mark};
pub use level::Level;
pub use report::{
    AliasReport, BufferReport, ClosedReport, CopiedStats, CopyGroup, CopyReport, CounterStats, DeviceStats, Findings,
    FrameworkStats, HandoverStats, HazardHolder, HazardReport, HazardStats, History, HolderReport, LaneReport, Lent,
    LentReport, LiveStats, Name, PeakHolder, PeakReport, PinnedHolder, PinnedReport, RefusedStats, SCHEMA, Snapshot,
    Stats, WaitGroup,
};
pub use text::TextOptions;
pub use write::Format;
