//! The functions of `cuda.h`, by subject.

pub mod context;
pub mod copy;
pub mod device;
pub mod error;
pub mod event;
pub mod graph;
pub mod memory;
pub mod module;
pub mod pointer;
pub mod pool;
pub mod stream;
