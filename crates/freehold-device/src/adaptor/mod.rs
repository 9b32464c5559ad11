//! Resources over another resource: each adds one behaviour and passes the rest on.

mod fail_after;
mod limit;
mod log;
mod retry;
mod statistics;

pub use fail_after::FailAfter;
pub use limit::Limit;
pub use log::Log;
pub use retry::Retry;
pub use statistics::{AllocStatistics, Statistics};
