//! What the boundary knows about a tensor before it touches a byte.

use std::fmt;

use crate::{DType, Device, Label, Layout};

bitflags::bitflags! {
    /// Facts about a tensor's memory and values. The low three bits are DLPack's own flags.
    ///
    /// ```
    /// use freehold::{Tensor, Traits};
    ///
    /// let t = Tensor::from(vec![1.0f32]).read_only();
    /// assert!(t.traits().contains(Traits::READ_ONLY) && !t.is_writable());
    /// assert!(!t.traits().intersects(Traits::LAZY)); // the bytes are the values
    /// ```
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Traits: u32 {
        /// The holder must not write (DLPack `READ_ONLY`).
        const READ_ONLY = 1 << 0;
        /// The memory was made for the receiver, who is its only holder (DLPack `IS_COPIED`).
        const IS_COPIED = 1 << 1;
        /// Sub-byte elements fill one byte each (DLPack `IS_SUBBYTE_TYPE_PADDED`).
        const PADDED = 1 << 2;
        /// The producer promises that nobody writes: JAX, Arrow.
        const IMMUTABLE = 1 << 3;
        /// An autograd graph hangs on the tensor.
        const REQUIRES_GRAD = 1 << 4;
        /// A view of a tensor that an autograd graph hangs on; a write would corrupt the backward pass.
        const DETACHED = 1 << 5;
        /// The values are the complex conjugate of the bytes.
        const CONJ = 1 << 6;
        /// The values are the negation of the bytes.
        const NEG = 1 << 7;
        /// The bytes of each element are in the other byte order.
        const SWAPPED = 1 << 8;
        /// Strides count bytes, and some is not a multiple of the item size.
        const BYTE_STRIDES = 1 << 9;
        /// It came through a legacy capsule, which cannot say whether it is read-only.
        const LEGACY = 1 << 10;
        /// The owner may not write while it is lent (`freeze=True`).
        const FROZEN = 1 << 11;
    }
}

impl Traits {
    /// Bits that mean that the bytes are not the values.
    pub const LAZY: Traits = Traits::CONJ.union(Traits::NEG).union(Traits::SWAPPED);
}

/// A tensor's metadata, borrowed: the first argument of [`crate::decide`].
///
/// ```
/// use freehold::{DType, Device, Label, Layout, TensorDesc, Traits};
///
/// let desc = TensorDesc {
///     address: 4096,
///     device: Device::CPU,
///     dtype: DType::F32,
///     layout: Layout::new(&[2, 3], &[3, 1]),
///     traits: Traits::READ_ONLY,
///     framework: Label::NUMPY,
/// };
/// assert_eq!(desc.to_string(), "f32[2,3] numpy cpu ro");
/// assert_eq!(desc.bytes_as(DType::F64), 48);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TensorDesc<'a> {
    /// Address of the first element (the byte offset folded in where the device allows it).
    pub address: u64,
    /// Where the memory is.
    pub device: Device,
    /// Element type.
    pub dtype: DType,
    /// Shape, and strides in elements (in bytes with [`Traits::BYTE_STRIDES`]).
    pub layout: Layout<'a>,
    /// Facts about memory and values.
    pub traits: Traits,
    /// Who produced it.
    pub framework: Label,
}

impl TensorDesc<'_> {
    /// Bytes that a compact copy with this dtype takes; 0 if the count overflows (import refuses such tensors).
    pub fn bytes_as(&self, dtype: DType) -> u64 {
        let n = self.layout.numel().unwrap_or(0).unsigned_abs();
        let bits = if self.traits.contains(Traits::PADDED) && dtype == self.dtype {
            dtype.padded_size() as u64 * 8
        } else {
            u64::from(dtype.element_bits())
        };
        n.saturating_mul(bits).div_ceil(8)
    }
}

impl fmt::Display for TensorDesc<'_> {
    /// The compact notation of messages: `f32[128,10] torch cpu requires_grad`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, n) in self.layout.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{n}")?;
        }
        write!(f, "] {} {}", self.framework.as_str(), self.device)?;
        for (bit, name) in [
            (Traits::READ_ONLY, " ro"),
            (Traits::REQUIRES_GRAD, " requires_grad"),
            (Traits::CONJ, ", conj bit set"),
            (Traits::NEG, ", neg bit set"),
            (Traits::SWAPPED, " byte-swapped"),
        ] {
            if self.traits.contains(bit) {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}
