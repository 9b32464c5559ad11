//! Layout algebra: shapes and strides, what bytes they reach, and which orders they are compact in.

use smallvec::SmallVec;

use crate::{DType, FieldError};

/// The most dimensions a tensor may have (NumPy's limit since 2.0; PyTorch's is the same).
pub const MAX_NDIM: usize = 64;

/// A shape or a stride list; up to six dimensions without a heap allocation.
pub type Dims = SmallVec<[i64; 6]>;

/// What one step of a stride is.
///
/// ```
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// // An f32 field in records of 7 bytes: no whole number of elements apart.
/// let field = Layout::new(&[3], &[7]);
/// assert_eq!(field.extent(DType::F32, false, StrideUnit::Bytes)?.len(), 18);
/// # Ok::<(), freehold_tensor::FieldError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StrideUnit {
    /// Elements, as in DLPack.
    #[default]
    Elements,
    /// Bytes: a NumPy field whose stride is not a multiple of its item size.
    Bytes,
}

/// A memory order that a request can ask for.
///
/// ```
/// use freehold_tensor::{Layout, Order};
///
/// assert_eq!(Layout::new(&[2, 3], &[1, 2]).order(), Some(Order::F));
/// assert_eq!(Layout::new(&[2, 3], &[6, 2]).order(), None); // gaps
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Order {
    /// Whatever the source has.
    #[default]
    Any,
    /// Row-major: the last dimension is the fastest.
    C,
    /// Column-major: the first dimension is the fastest.
    F,
}

/// The bytes that a layout reaches, relative to the address of its first element: `lo..hi`.
///
/// ```
/// use freehold_tensor::{DType, Extent, Layout, StrideUnit};
///
/// let reversed = Layout::new(&[4], &[-1]).extent(DType::F32, false, StrideUnit::Elements)?;
/// assert_eq!(reversed, Extent { lo: -12, hi: 4 });
/// assert_eq!(reversed.len(), 16);
/// # Ok::<(), freehold_tensor::FieldError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Lowest byte, zero or negative.
    pub lo: i64,
    /// One past the highest byte.
    pub hi: i64,
}

impl Extent {
    /// Bytes from the lowest to the highest.
    pub const fn len(self) -> u64 {
        self.hi.abs_diff(self.lo)
    }

    /// Whether no byte is reached.
    pub const fn is_empty(self) -> bool {
        self.lo == self.hi
    }
}

/// A borrowed shape with explicit strides.
///
/// Dimensions of size 1 have strides without meaning: producers really write 0, 3 or 777 there (dlpack.h does not
/// forbid it), so every question below ignores them, and every layout with a dimension of size 0 is compact.
///
/// ```
/// use freehold_tensor::{Layout, Order, compact_strides};
///
/// let strides = compact_strides(&[2, 3], Order::C)?;
/// let rows = Layout::new(&[2, 3], &strides);
/// assert!(rows.is_c_contiguous() && rows.numel() == Ok(6));
/// assert!(!Layout::new(&[2, 3], &[1, 2]).is_c_contiguous()); // column-major
/// assert!(Layout::new(&[1, 3], &[777, 1]).is_c_contiguous()); // a stride over one element says nothing
/// assert_eq!(Layout::new(&[2, 3], &[1, 2]).first_not_compact(Order::C), Some((1, 2, 1)));
/// assert_eq!(Layout::new(&[2, 3], &[4, 1]).first_not_packed(), Some((0, 4, 3))); // a gap after each row
/// assert_eq!(Layout::new(&[4], &[-1]).first_negative(), Some((0, -1)));
/// # Ok::<(), freehold_tensor::FieldError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout<'a> {
    /// Elements along each dimension.
    pub shape: &'a [i64],
    /// Steps between neighbours along each dimension.
    pub strides: &'a [i64],
}

/// Compact strides of a shape in elements; [`Order::Any`] counts as C. Sizes of 0 count as 1, so that no stride is 0.
///
/// ```
/// use freehold_tensor::{Order, compact_strides};
///
/// assert_eq!(compact_strides(&[2, 3], Order::C)?[..], [3, 1]);
/// assert_eq!(compact_strides(&[2, 3], Order::F)?[..], [1, 2]);
/// # Ok::<(), freehold_tensor::FieldError>(())
/// ```
pub fn compact_strides(shape: &[i64], order: Order) -> Result<Dims, FieldError> {
    let mut strides: Dims = SmallVec::from_elem(1, shape.len());
    let mut step: i64 = 1;
    let mut visit = |i: usize| -> Result<(), FieldError> {
        strides[i] = step;
        step = step.checked_mul(shape[i].max(1)).ok_or_else(|| FieldError::at("shape", i, shape[i], TOO_LARGE))?;
        Ok(())
    };
    match order {
        Order::F => (0..shape.len()).try_for_each(&mut visit)?,
        Order::C | Order::Any => (0..shape.len()).rev().try_for_each(&mut visit)?,
    }
    Ok(strides)
}

const TOO_LARGE: &str = "keep the tensor's extent below 2^63 bytes";

impl<'a> Layout<'a> {
    /// A layout over a shape and strides of the same length.
    pub fn new(shape: &'a [i64], strides: &'a [i64]) -> Self {
        debug_assert_eq!(shape.len(), strides.len());
        Self { shape, strides }
    }

    /// Number of dimensions.
    #[inline]
    pub fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// Whether some dimension has size 0.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Number of elements; 0 if any dimension is 0, whatever the others are.
    pub fn numel(&self) -> Result<i64, FieldError> {
        numel(self.shape)
    }

    /// Checks the shape and the reach of the strides for an element type. `Ok` means every later computation over
    /// this layout fits in `i64`.
    pub fn validate(&self, dtype: DType, padded: bool, unit: StrideUnit) -> Result<Extent, FieldError> {
        if self.ndim() > MAX_NDIM {
            return Err(FieldError::new("ndim", self.ndim() as i64, "be at most 64"));
        }
        if unit == StrideUnit::Elements
            && let Some(extent) = self.compact_extent(element_bits(dtype, padded))
        {
            return Ok(extent);
        }
        self.numel()?;
        self.extent(dtype, padded, unit)
    }

    /// The extent of what most layouts are: elements one after another in C order, at least one. `None` says nothing.
    #[inline]
    fn compact_extent(&self, bits: i64) -> Option<Extent> {
        let mut step: i64 = 1;
        for (&n, &s) in self.shape.iter().zip(self.strides).rev() {
            if n <= 0 || (s != step && n != 1) {
                return None;
            }
            step = step.checked_mul(n)?;
        }
        Some(Extent { lo: 0, hi: step.checked_mul(bits)?.checked_add(7)? >> 3 })
    }

    /// The bytes reached, relative to the first element; packed sub-byte elements are rounded out to whole bytes.
    pub fn extent(&self, dtype: DType, padded: bool, unit: StrideUnit) -> Result<Extent, FieldError> {
        if self.is_empty() {
            return Ok(Extent { lo: 0, hi: 0 });
        }
        let bits = element_bits(dtype, padded);
        let (mut lo, mut hi) = (0i64, 0i64);
        for (i, (&n, &s)) in self.shape.iter().zip(self.strides).enumerate() {
            if n <= 1 {
                continue;
            }
            let reach = (n - 1).checked_mul(s).ok_or_else(|| FieldError::at("strides", i, s, TOO_LARGE))?;
            let end = if reach < 0 { &mut lo } else { &mut hi };
            *end = end.checked_add(reach).ok_or_else(|| FieldError::at("strides", i, s, TOO_LARGE))?;
        }
        let too_large = || FieldError::new("strides", i128::from(hi) - i128::from(lo), TOO_LARGE);
        let (lo, hi) = match unit {
            StrideUnit::Bytes => (lo, hi.checked_add((bits / 8).max(1)).ok_or_else(too_large)?),
            StrideUnit::Elements => {
                // In i128 for the multiplication by bits, so that a tensor of 2^61 f64 still gives the right answer;
                // shifts round toward negative infinity and cost no call of a 128-bit division.
                let lo = (i128::from(lo) * i128::from(bits)) >> 3;
                let hi = ((i128::from(hi) + 1) * i128::from(bits) + 7) >> 3;
                (i64::try_from(lo).map_err(|_| too_large())?, i64::try_from(hi).map_err(|_| too_large())?)
            }
        };
        hi.checked_sub(lo).ok_or_else(too_large)?;
        Ok(Extent { lo, hi })
    }

    /// Whether elements lie one after another, the last dimension fastest.
    pub fn is_c_contiguous(&self) -> bool {
        self.first_not_compact(Order::C).is_none()
    }

    /// Whether elements lie one after another, the first dimension fastest.
    pub fn is_f_contiguous(&self) -> bool {
        self.first_not_compact(Order::F).is_none()
    }

    /// The first dimension, walking from the fastest, whose stride is not the compact one: `(dimension, stride,
    /// compact stride)`. [`Order::Any`] counts as C.
    pub fn first_not_compact(&self, order: Order) -> Option<(usize, i64, i64)> {
        if self.is_empty() {
            return None;
        }
        let mut step: i64 = 1;
        let mut check = |i: usize| -> Option<(usize, i64, i64)> {
            let (n, s) = (self.shape[i], self.strides[i]);
            if n == 1 {
                return None;
            }
            if s != step {
                return Some((i, s, step));
            }
            step = step.saturating_mul(n);
            None
        };
        match order {
            Order::F => (0..self.ndim()).find_map(&mut check),
            Order::C | Order::Any => (0..self.ndim()).rev().find_map(&mut check),
        }
    }

    /// The first dimension whose stride is not the one that it has in memory without gaps, whatever the order of the
    /// axes: `(dimension, stride, stride without gaps)`. Transposed and column-major tensors have none.
    pub fn first_not_packed(&self) -> Option<(usize, i64, i64)> {
        if self.is_empty() {
            return None;
        }
        let walked = |i: &usize| self.shape[*i] > 1;
        // What lies inside an axis is what has a smaller stride; of equal ones, which overlap, the later.
        let inside = |i: usize, j: usize| (self.strides[j], i) < (self.strides[i], j);
        (0..self.ndim()).filter(walked).find_map(|i| {
            let axes = (0..self.ndim()).filter(walked).filter(|&j| j != i && inside(i, j));
            let want = axes.fold(1_i64, |step, j| step.saturating_mul(self.shape[j]));
            (self.strides[i] != want).then_some((i, self.strides[i], want))
        })
    }

    /// The first dimension with a negative stride that is really walked: `(dimension, stride)`.
    pub fn first_negative(&self) -> Option<(usize, i64)> {
        if self.is_empty() {
            return None;
        }
        (0..self.ndim()).find(|&i| self.strides[i] < 0 && self.shape[i] > 1).map(|i| (i, self.strides[i]))
    }

    /// Whether strides are positive and grow outward past everything inside: rows of any slice of a row-major array, which
    /// nearly every tensor is. No element is reached twice then, and no stride is negative. `false` says nothing.
    #[inline]
    pub fn rows_nest(&self) -> bool {
        let mut reach: i64 = 0;
        for (&n, &s) in self.shape.iter().zip(self.strides).rev() {
            if n > 1 {
                if s <= reach {
                    return false;
                }
                // Validated layouts do not overflow; one that did would only lose the short way.
                reach = reach.saturating_add(s.saturating_mul(n - 1));
            }
        }
        true
    }

    /// Whether two different indices may reach the same element: `(dimension, stride)` of the first that shows it.
    ///
    /// Exact for layouts whose sorted strides nest (every view that slicing, transposing and broadcasting can
    /// make); a layout such as `as_strided((3, 3), (1, 2))` that needs a Diophantine search is answered by
    /// [`crate::overlap`]'s bounded search over the layout against itself.
    ///
    /// ```
    /// use freehold_tensor::Layout;
    ///
    /// assert_eq!(Layout::new(&[4, 3], &[0, 1]).first_self_overlap(), Some((0, 0))); // broadcast rows
    /// assert_eq!(Layout::new(&[3, 4], &[1, 3]).first_self_overlap(), None);
    /// ```
    pub fn first_self_overlap(&self) -> Option<(usize, i64)> {
        if self.rows_nest() || self.is_empty() {
            return None;
        }
        let mut dims: SmallVec<[(u64, i64, usize); 8]> = SmallVec::new();
        for (i, (&n, &s)) in self.shape.iter().zip(self.strides).enumerate() {
            if n > 1 {
                if s == 0 {
                    return Some((i, s));
                }
                let dim = (s.unsigned_abs(), n, i);
                dims.insert(dims.partition_point(|other| *other < dim), dim);
            }
        }
        let mut reach: u64 = 0;
        for &(s, n, i) in &dims {
            if s <= reach {
                return crate::overlap::self_overlaps(self).then(|| (i, self.strides[i]));
            }
            reach = reach.saturating_add(s.saturating_mul(n.unsigned_abs() - 1));
        }
        None
    }

    /// The order the elements are compact in, if any; a layout compact both ways is C.
    pub fn order(&self) -> Option<Order> {
        if self.is_c_contiguous() {
            Some(Order::C)
        } else if self.is_f_contiguous() {
            Some(Order::F)
        } else {
            None
        }
    }
}

/// Number of elements of a shape, checked.
pub(crate) fn numel(shape: &[i64]) -> Result<i64, FieldError> {
    let mut total: i64 = 1;
    let mut overflow = None;
    for (i, &n) in shape.iter().enumerate() {
        if n < 0 {
            return Err(FieldError::at("shape", i, n, "be at least 0"));
        }
        match total.checked_mul(n) {
            Some(t) => total = t,
            None => overflow = overflow.or(Some(i)),
        }
    }
    match overflow {
        Some(i) if !shape.contains(&0) => Err(FieldError::at("shape", i, shape[i], TOO_LARGE)),
        Some(_) => Ok(0),
        None => Ok(total),
    }
}

fn element_bits(dtype: DType, padded: bool) -> i64 {
    if padded { dtype.padded_size() as i64 * 8 } else { i64::from(dtype.element_bits()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_one_and_size_zero_dims_do_not_break_contiguity() {
        // X09: dlpark calls the first two non-compact; NumPy calls all of them C-contiguous.
        for (shape, strides) in [
            (&[1, 3][..], &[1, 1][..]),
            (&[1, 3], &[777, 1]),
            (&[3, 1], &[1, -5]),
            (&[0, 3], &[9, 9]),
            (&[2, 0], &[0, 0]),
            (&[], &[]),
        ] {
            assert!(Layout::new(shape, strides).is_c_contiguous(), "{shape:?} {strides:?}");
        }
        assert!(!Layout::new(&[2, 3], &[1, 2]).is_c_contiguous());
        assert!(Layout::new(&[2, 3], &[1, 2]).is_f_contiguous());
    }

    #[test]
    fn overflow_is_refused_not_wrapped() {
        let huge = 1i64 << 62;
        assert!(Layout::new(&[huge, 8], &[8, 1]).numel().is_err());
        assert!(Layout::new(&[huge, 8, 0], &[8, 1, 1]).numel().is_ok_and(|n| n == 0));
        assert!(Layout::new(&[3], &[i64::MAX]).extent(DType::F32, false, StrideUnit::Elements).is_err());
        assert!(Layout::new(&[3], &[i64::MIN]).extent(DType::U8, false, StrideUnit::Elements).is_err());
        assert!(Layout::new(&[2, 2], &[i64::MAX, i64::MIN + 1]).extent(DType::U8, false, StrideUnit::Bytes).is_err());
        assert_eq!(Layout::new(&[-1], &[1]).numel().unwrap_err().field, "shape");
    }

    #[test]
    fn the_short_way_for_compact_layouts_says_what_the_long_one_does() {
        let sizes = [-1, 0, 1, 2, 3, 1 << 31, 1 << 61, i64::MAX];
        let mut compact = 0;
        for a in sizes {
            for b in sizes {
                let strides = compact_strides(&[a, b], Order::C).unwrap_or_else(|_| Dims::from_slice(&[b, 1]));
                for strides in [&strides[..], &[1, 1], &[7, 1], &[b, 2]] {
                    let shape = [a, b];
                    let layout = Layout::new(&shape, strides);
                    for (dtype, padded) in [(DType::F32, false), (DType::F4_E2M1FN, false), (DType::F4_E2M1FN, true)] {
                        let unit = StrideUnit::Elements;
                        let long = layout.numel().and_then(|_| layout.extent(dtype, padded, unit));
                        assert_eq!(layout.validate(dtype, padded, unit), long, "{layout:?} {dtype}");
                        compact += u32::from(layout.compact_extent(element_bits(dtype, padded)).is_some());
                    }
                }
            }
        }
        assert!(compact > 50);
    }

    #[test]
    fn extent_of_negative_and_packed_layouts() {
        let e = Layout::new(&[4], &[-2]).extent(DType::I16, false, StrideUnit::Elements).expect("fits");
        assert_eq!((e.lo, e.hi), (-12, 2));
        let e = Layout::new(&[3], &[1]).extent(DType::F4_E2M1FN, false, StrideUnit::Elements).expect("fits");
        assert_eq!(e.len(), 2);
        let e = Layout::new(&[3], &[1]).extent(DType::F4_E2M1FN, true, StrideUnit::Elements).expect("fits");
        assert_eq!(e.len(), 3);
    }

    #[test]
    fn self_overlap() {
        assert_eq!(Layout::new(&[3, 4], &[0, 1]).first_self_overlap(), Some((0, 0)));
        assert!(Layout::new(&[3, 3], &[1, 1]).first_self_overlap().is_some());
        assert!(Layout::new(&[3, 4], &[4, 1]).first_self_overlap().is_none());
        assert!(Layout::new(&[3, 4], &[-4, 1]).first_self_overlap().is_none());
        // Strides 2 and 3 over sizes 2 and 2 reach 0, 2, 3, 5: no overlap, though 3 <= the reach of a longer 2.
        assert!(Layout::new(&[3, 2], &[2, 3]).first_self_overlap().is_none());
        assert!(Layout::new(&[4, 3], &[2, 3]).first_self_overlap().is_some());
    }

    #[test]
    fn sixty_four_dims() {
        let shape = [1i64; 64];
        let strides = compact_strides(&shape, Order::C).expect("fits");
        assert!(Layout::new(&shape, &strides).validate(DType::F32, false, StrideUnit::Elements).is_ok());
        assert!(Layout::new(&[1; 65], &[1; 65]).validate(DType::F32, false, StrideUnit::Elements).is_err());
    }
}
