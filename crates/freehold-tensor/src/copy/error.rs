//! Why a copy was not made.

use std::fmt;

use crate::{DType, Dims, FieldError};

/// Why a copy was not made, or was not made whole.
///
/// ```
/// use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, Operand, describe};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let side = |dtype, shape| Operand {
///     data: std::ptr::null_mut(),
///     dtype,
///     layout: Layout::new(shape, &[1]),
///     unit: StrideUnit::Elements,
///     traits: Lazy::empty(),
/// };
/// let why = |dst, src| describe(&dst, &src, &CopyOptions::default()).unwrap_err();
/// assert!(matches!(why(side(DType::BOOL, &[2]), side(DType::F32, &[2])), CopyError::Forbidden { .. }));
/// let error = why(side(DType::F32, &[2]), side(DType::F32, &[3]));
/// assert_eq!(error.to_string(), "shape[0] is 2; it must be the same for destination and source");
/// ```
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
///
/// ```
/// # use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, LossValue, Operand, copy};
/// # use freehold_tensor::{DType, Layout, StrideUnit};
/// # let layout = Layout::new(&[2, 2], &[2, 1]);
/// # let operand = |data, dtype| Operand { data, dtype, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let (wide, mut narrow) = ([1_i32, 2, 300, -1], [0_u8; 4]);
/// let src = operand(wide.as_ptr().cast_mut().cast(), DType::I32);
/// let dst = operand(narrow.as_mut_ptr(), DType::U8);
/// // SAFETY: each layout reaches the four elements of its own array.
/// let result = unsafe { copy(&dst, &src, &CopyOptions::default()) };
/// let Err(CopyError::Loss(loss)) = result else { panic!("300 fits no byte") };
/// assert_eq!((loss.count, loss.total, &loss.first_index[..]), (2, 4, &[1, 0][..]));
/// assert_eq!(loss.first_value, LossValue::Int(300));
/// assert_eq!(loss.to_string(), "2 of 4 i32 values would change in u8; the first is 300 at [1, 0]");
/// ```
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
///
/// ```
/// use freehold_tensor::copy::LossValue;
///
/// assert_eq!(LossValue::Int(-1).to_string(), "-1");
/// assert_eq!(LossValue::Float(1e300).to_string(), "1e300");
/// ```
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
