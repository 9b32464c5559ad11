//! The one error of this crate: a field whose value breaks a rule.

use std::fmt;

/// A metadata field whose value breaks a rule, named so that a message can say which, what and why.
///
/// ```
/// use freehold_tensor::Layout;
///
/// let error = Layout::new(&[2, -3], &[3, 1]).numel().unwrap_err();
/// assert_eq!((error.field, error.index, error.value), ("shape", Some(1), -3));
/// assert_eq!(error.to_string(), "shape[1] is -3; it must be at least 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field as DLPack spells it: `shape`, `strides`, `ndim`, `dtype.lanes`, `byte_offset`...
    pub field: &'static str,
    /// The dimension, where the field is an array.
    pub index: Option<u32>,
    /// The value found.
    pub value: i128,
    /// The rule it breaks, as the end of "must ...".
    pub rule: &'static str,
}

impl FieldError {
    /// An error about a scalar field.
    pub fn new(field: &'static str, value: impl Into<i128>, rule: &'static str) -> Self {
        Self { field, index: None, value: value.into(), rule }
    }

    /// An error about one entry of an array field.
    pub fn at(field: &'static str, index: usize, value: impl Into<i128>, rule: &'static str) -> Self {
        Self { field, index: u32::try_from(index).ok(), value: value.into(), rule }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(i) => write!(f, "{}[{i}] is {}; it must {}", self.field, self.value, self.rule),
            None => write!(f, "{} is {}; it must {}", self.field, self.value, self.rule),
        }
    }
}

impl std::error::Error for FieldError {}
