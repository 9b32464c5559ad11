//! Tables of single answers, and the property tests.

mod oracle;
mod property;
mod tables;

pub(super) use oracle::{nearest_f16, power};
