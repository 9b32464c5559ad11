//! What a real driver might answer otherwise than the driver of the tests.
//!
//! With `FREEHOLD_GPU=1` the machine's own driver is used, and the tests fail where there is none: so they run on a machine
//! with a GPU. Otherwise the same functions run on the driver of the tests, so that they are known to work before they meet
//! a GPU. Small and quick: compute-sanitizer runs them too.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;
mod driver;
mod forgetful;
mod memory;
mod races;
mod transfers;
