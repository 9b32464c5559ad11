//! The CUDA driver: whether there is one, and what it drives.
//!
//! The driver library is opened at run time and stays open for the life of the process: frameworks share it, and code
//! of an unloaded driver would still be called at exit.

mod context;
mod driver;
mod error;
mod event;
pub mod launch;
pub mod memory;
mod module;
mod mutation;
mod pointer;
mod release;
#[cfg(feature = "cudarc")]
pub mod slices;
mod status;
mod symbols;
pub mod sys;
pub mod transfer;
pub mod walk;

pub use context::{Context, Entered, StreamRef, reads_managed, zero};
pub use driver::{DeviceInfo, Driver, Version, is_exiting, probe};
pub use error::CudaError;
pub use event::{Event, order};
pub use module::launch;
pub use pointer::{MemoryKind, Pointer, pointer};
pub use release::{ReleaseStatistics, flush_releases, prepare_release, release_after, release_statistics};
pub use status::{Status, Unavailable};
pub use symbols::{Api, Batch, Core, Memory, Pools, StreamIds, Work};

/// The environment variable that names another driver library, for tests against a stand-in.
pub const LIBRARY_VARIABLE: &str = "FREEHOLD_CUDA_LIBRARY";
