//! Resources over another resource: each adds one behaviour and passes the rest on.

mod fail_after;
mod limit;
mod statistics;

pub use fail_after::FailAfter;
pub use limit::Limit;
pub use statistics::{AllocStatistics, Statistics};
