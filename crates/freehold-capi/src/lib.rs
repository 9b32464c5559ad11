//! The C interface: `include/freehold/freehold.h`, which is also the documentation of every function here.
//!
//! For programs in C and C++, and for languages that call C. Rust programs use the crate `freehold`.
//!
//! # Design
//!
//! * Nothing but translation: pointers and plain structs are checked and turned into the types of `freehold`, results
//!   and errors are turned back. What a call means is decided there.
//! * The header is written by hand. `tests/header.rs` compares it with the declarations that cbindgen reads from this
//!   source, so that the two cannot drift; [`layout`] pins the layouts here and in `tests/abi/layout.c`.
//! * Every body runs inside [`guard`](crate::guard): a panic becomes `FH_INTERNAL`, never an unwinding C frame.
//! * An opaque handle has one kind of ownership: `fh_tensor` is a count, the others are boxes. [`handles`] tells a wrong one.

#![expect(non_camel_case_types, reason = "the types carry the names that C programs use")]

mod args;
mod decide;
mod error;
mod execute;
mod export;
mod guard;
mod handles;
mod import;
mod layout;
mod ledger;
mod log;
mod options;
mod request;
mod runtime;
mod tensor;
mod torch;
mod version;
