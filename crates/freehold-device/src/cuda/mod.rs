//! The CUDA driver: whether there is one, and what it drives.
//!
//! The driver library is opened at run time and stays open for the life of the process: frameworks share it, and code
//! of an unloaded driver would still be called at exit.

mod driver;
mod status;
mod symbols;

pub use driver::{DeviceInfo, Driver, Version, probe};
pub use status::{Status, Unavailable};

/// The environment variable that names another driver library, for tests against a stand-in.
pub const LIBRARY_VARIABLE: &str = "FREEHOLD_CUDA_LIBRARY";
