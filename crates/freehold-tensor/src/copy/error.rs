//! Why a copy was not made.

use std::fmt;

use crate::{DType, Dims, FieldError};

/// Why a copy was not made, or was not made whole.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum CopyError {
    /// A pair of dtypes, or a sign change, that this engine does not have.
    Unsupported {
        /// Source dtype.
        from: DType,
        /// Destination dtype.
        to: DType,
    },
    /// Complex to real or anything to bool, while losses are errors.
    Forbidden {
        /// Source dtype.
        from: DType,
        /// Destination dtype.
        to: DType,
    },
    /// Values that the destination's dtype cannot hold; the destination's contents are unspecified.
    Loss(Loss),
    /// Metadata that does not fit: shapes that differ, a NULL pointer, an extent beyond all memory.
    Shape(FieldError),
}

/// Values that a dtype could not hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Loss {
    /// How many (lanes count one by one).
    pub count: u64,
    /// Of how many.
    pub total: u64,
    /// Index of the first one in C order.
    pub first_index: Dims,
    /// Its value in the source.
    pub first_value: LossValue,
    /// Source dtype.
    pub from: DType,
    /// The dtype that could not hold it.
    pub to: DType,
}

/// A value of any real dtype.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum LossValue {
    /// Of an integer dtype or bool.
    Int(i128),
    /// Of a float dtype, exact.
    Float(f64),
}

impl fmt::Display for LossValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossValue::Int(value) => value.fmt(f),
            // The shortest text that reads back; exponents where digits would be zeros.
            LossValue::Float(value) => write!(f, "{value:?}"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = if self.count == 1 { "value" } else { "values" };
        write!(
            f,
            "{} of {} {} {values} would change in {}; the first is ",
            self.count, self.total, self.from, self.to
        )?;
        write!(f, "{} at {:?}", self.first_value, &self.first_index[..])
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::Unsupported { from, to } => write!(f, "there is no cast from {from} to {to}"),
            CopyError::Forbidden { from, to } => {
                write!(f, "a cast from {from} to {to} loses values; it must be allowed explicitly")
            }
            CopyError::Loss(loss) => loss.fmt(f),
            CopyError::Shape(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CopyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CopyError::Shape(error) => Some(error),
            _ => None,
        }
    }
}

impl From<FieldError> for CopyError {
    fn from(error: FieldError) -> Self {
        CopyError::Shape(error)
    }
}
