//! Tables of single answers, and the property tests.

mod layouts;
mod levels;
mod oracle;
mod property;
mod tables;

pub(super) use oracle::{nearest_f16, power};
mod turns;
