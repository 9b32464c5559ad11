//! What a tensor is, without owning one: element types, devices, layout algebra, and the CPU kernels that copy
//! and cast between strided layouts.
//!
//! This is the bottom crate: it does no I/O, allocates no tensor memory and knows no framework. It also holds the
//! vocabulary that every layer above shares, the reason codes and verdicts of [`code`], so that the boundary, the
//! ledger, C and Python name a reason in one way.
//!
//! # Design
//!
//! * Numbers that arrive from a foreign struct are integer newtypes ([`DType`], [`DeviceKind`]), never closed
//!   enums: DLPack adds values with minor versions, and an unknown one must be refused by name, not be undefined
//!   behaviour.
//! * Every size computation is checked; a layout whose byte extent overflows `isize` is refused before use.
//! * Strides are in elements, as DLPack has them, except where an operand says [`StrideUnit::Bytes`] (a field of
//!   a packed record in NumPy).
//!
//! # Example
//!
//! ```
//! use freehold_tensor::copy::{CastKind, cast_kind};
//! use freehold_tensor::{DType, Layout, Order, StrideUnit, compact_strides};
//!
//! let strides = compact_strides(&[480, 640, 3], Order::C)?;
//! let image = Layout::new(&[480, 640, 3], &strides);
//! assert_eq!(image.validate(DType::U8, false, StrideUnit::Elements)?.len(), 921_600);
//! assert_eq!(cast_kind(DType::U8, DType::F16), CastKind::Exact);
//! # Ok::<(), freehold_tensor::FieldError>(())
//! ```

pub mod code;
pub mod copy;
mod device;
mod dtype;
mod error;
mod layout;
mod overlap;

pub use code::{Code, Steps, Verdict};
pub use device::{Device, DeviceKind};
pub use dtype::{DType, DTypeSet, KNOWN_DTYPES};
pub use error::FieldError;
pub use layout::{Dims, Extent, Layout, MAX_NDIM, Order, StrideUnit, compact_strides};
pub use overlap::{Overlap, Strided, overlap};
