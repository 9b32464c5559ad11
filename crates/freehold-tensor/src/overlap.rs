//! Exact overlap of strided views.
//!
//! Whether two strided views share an element is a bounded linear Diophantine problem, NP-hard in general but tiny
//! for real tensors. The search here walks dimensions from the largest stride down, keeps only the index ranges
//! that can still reach the remaining difference, and prunes by the gcd of the strides left; it stops after a
//! fixed number of steps and then says so instead of guessing.

use smallvec::SmallVec;

use crate::{DType, Extent, Layout, StrideUnit};

/// A view as the overlap test sees it: an address, and bytes stepped along each dimension.
///
/// ```
/// use freehold_tensor::{DType, Layout, StrideUnit, Strided, overlap};
///
/// let values = [0_u16; 6];
/// let row = Strided {
///     address: values.as_ptr().addr() as u64,
///     layout: Layout::new(&[3], &[1]),
///     dtype: DType::U16,
///     padded: false,
///     unit: StrideUnit::Elements,
/// };
/// let last = Strided { address: values[5..].as_ptr().addr() as u64, layout: Layout::new(&[3], &[-1]), ..row };
/// assert!(!overlap(&row, &last).may()); // the second row, backwards
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// Address of the first element.
    pub address: u64,
    /// Shape and strides.
    pub layout: Layout<'a>,
    /// Element type; packed sub-byte elements are compared by the whole bytes of their extent.
    pub dtype: DType,
    /// Whether sub-byte elements fill a byte each.
    pub padded: bool,
    /// What the strides count.
    pub unit: StrideUnit,
}

/// The answer of [`overlap`].
///
/// ```
/// use freehold_tensor::Overlap;
///
/// assert!(Overlap::Some.may() && Overlap::Unknown.may());
/// assert!(!Overlap::None.may());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overlap {
    /// No byte is shared.
    None,
    /// At least one byte is shared.
    Some,
    /// The byte ranges intersect and the search gave up: treat as shared.
    Unknown,
}

impl Overlap {
    /// Whether the views must be treated as sharing memory.
    pub fn may(self) -> bool {
        self != Overlap::None
    }
}

const BUDGET: u32 = 20_000;

/// One term of the sum: `step` bytes, taken 0 to `count` times.
#[derive(Clone, Copy)]
struct Term {
    step: i128,
    count: i128,
}

/// Whether two views share a byte. Both layouts must have passed [`Layout::validate`].
///
/// ```
/// use freehold_tensor::{DType, Layout, Overlap, StrideUnit, Strided, overlap};
///
/// // Every other element of one buffer: the even ones, and the odd ones.
/// let even = Strided {
///     address: 4096,
///     layout: Layout::new(&[8], &[2]),
///     dtype: DType::F32,
///     padded: false,
///     unit: StrideUnit::Elements,
/// };
/// let odd = Strided { address: 4100, ..even };
/// assert_eq!(overlap(&even, &odd), Overlap::None);
/// assert_eq!(overlap(&even, &Strided { address: 4104, ..even }), Overlap::Some);
/// ```
pub fn overlap(a: &Strided<'_>, b: &Strided<'_>) -> Overlap {
    let (Some((a_lo, a_hi)), Some((b_lo, b_hi))) = (range(a), range(b)) else { return Overlap::None };
    if a_lo >= b_hi || b_lo >= a_hi {
        return Overlap::None;
    }
    if a.dtype.is_sub_byte() && !a.padded || b.dtype.is_sub_byte() && !b.padded {
        // Packed elements have no byte stride of their own; their extents are exact when compact.
        let exact = |v: &Strided<'_>| v.layout.order().is_some();
        return if exact(a) && exact(b) { Overlap::Some } else { Overlap::Unknown };
    }
    let mut terms: SmallVec<[Term; 16]> = SmallVec::new();
    push_terms(&mut terms, a);
    push_terms(&mut terms, b);
    // a_lo + sum_a + x = b_lo + sum_b + y with 0 <= x < size_a, 0 <= y < size_b. Flipping the terms of b (count
    // minus index) makes every coefficient positive: sum(all) + x + (size_b - 1 - y) = target.
    let (size_a, size_b) = (item_bytes(a), item_bytes(b));
    terms.push(Term { step: 1, count: size_a - 1 + size_b - 1 });
    let b_reach = b_hi - b_lo - size_b;
    let target = b_lo + b_reach + size_b - 1 - a_lo;
    solve(&terms, target)
}

/// Whether two different indices of a layout reach the same element.
pub(crate) fn self_overlaps(layout: &Layout<'_>) -> bool {
    // Two different index vectors meet when sum(d_i * stride_i) = 0 for some d, not all 0, with |d_i| < n_i. Take
    // the first dimension where they differ: d_k >= 1 there, and every later one is free in both directions.
    let dims: SmallVec<[(i128, i128); 8]> = layout
        .shape
        .iter()
        .zip(layout.strides)
        .filter(|(n, _)| **n > 1)
        .map(|(&n, &s)| (i128::from(s.unsigned_abs()), i128::from(n) - 1))
        .collect();
    for k in 0..dims.len() {
        let mut terms: SmallVec<[Term; 16]> = SmallVec::new();
        let mut target = 0;
        let (step, count) = dims[k];
        // d_k * step for d_k in 1..=count, plus the rest shifted by +count*step so that it starts at 0.
        terms.push(Term { step, count: count - 1 });
        target -= step;
        for &(step, count) in &dims[k + 1..] {
            terms.push(Term { step, count: 2 * count });
            target += step * count;
        }
        if target >= 0 && solve(&terms, target).may() {
            return true;
        }
    }
    false
}

fn item_bytes(v: &Strided<'_>) -> i128 {
    v.dtype.padded_size() as i128
}

/// The byte addresses a view reaches, or `None` if it has no element.
fn range(v: &Strided<'_>) -> Option<(i128, i128)> {
    let extent: Extent = v.layout.extent(v.dtype, v.padded, v.unit).ok()?;
    if extent.is_empty() {
        return None;
    }
    Some((i128::from(v.address) + i128::from(extent.lo), i128::from(v.address) + i128::from(extent.hi)))
}

fn push_terms(terms: &mut SmallVec<[Term; 16]>, v: &Strided<'_>) {
    let scale = match v.unit {
        StrideUnit::Bytes => 1,
        StrideUnit::Elements => item_bytes(v),
    };
    for (&n, &s) in v.layout.shape.iter().zip(v.layout.strides) {
        if n > 1 && s != 0 {
            terms.push(Term { step: i128::from(s.unsigned_abs()) * scale, count: i128::from(n) - 1 });
        }
    }
}

/// Whether `sum(step_i * k_i) = target` has a solution with `0 <= k_i <= count_i`.
fn solve(terms: &[Term], target: i128) -> Overlap {
    let mut sorted: SmallVec<[Term; 16]> = SmallVec::new();
    for term in terms.iter().filter(|t| t.count > 0) {
        sorted.insert(sorted.partition_point(|other| other.step >= term.step), *term);
    }
    // Equal steps merge into one term; a step that divides the next larger one and spans it makes it dense.
    let mut merged: SmallVec<[Term; 16]> = SmallVec::new();
    for term in &sorted {
        match merged.last_mut() {
            Some(last) if last.step == term.step => last.count += term.count,
            _ => merged.push(*term),
        }
    }
    // For each suffix: the most it can reach, and the gcd of its steps.
    let mut suffix: SmallVec<[(i128, i128); 16]> = SmallVec::from_elem((0, 0), merged.len() + 1);
    for i in (0..merged.len()).rev() {
        let (reach, g) = suffix[i + 1];
        suffix[i] = (reach + merged[i].step * merged[i].count, gcd(merged[i].step, g));
    }
    let mut budget = BUDGET;
    search(&merged, &suffix, 0, target, &mut budget)
}

fn search(terms: &[Term], suffix: &[(i128, i128)], i: usize, rest: i128, budget: &mut u32) -> Overlap {
    let (reach, g) = suffix[i];
    if rest < 0 || rest > reach {
        return Overlap::None;
    }
    if rest == 0 || rest == reach {
        return Overlap::Some;
    }
    if g == 0 || rest % g != 0 {
        return Overlap::None;
    }
    if i + 1 == terms.len() {
        // One term left, its step divides the rest, and the rest is within its reach.
        return Overlap::Some;
    }
    let Term { step, count } = terms[i];
    // k must leave between 0 and the reach of what follows.
    let low = ((rest - suffix[i + 1].0).max(0) + step - 1) / step;
    let high = (rest / step).min(count);
    let mut unknown = false;
    let mut k = high;
    while k >= low {
        if *budget == 0 {
            return Overlap::Unknown;
        }
        *budget -= 1;
        match search(terms, suffix, i + 1, rest - k * step, budget) {
            Overlap::Some => return Overlap::Some,
            Overlap::Unknown => unknown = true,
            Overlap::None => {}
        }
        k -= 1;
    }
    if unknown { Overlap::Unknown } else { Overlap::None }
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn bytes_of(v: &Strided<'_>) -> HashSet<i128> {
        let scale = match v.unit {
            StrideUnit::Bytes => 1,
            StrideUnit::Elements => item_bytes(v),
        };
        let mut firsts = vec![i128::from(v.address)];
        for (&n, &s) in v.layout.shape.iter().zip(v.layout.strides) {
            firsts = firsts.iter().flat_map(|f| (0..n).map(move |k| f + i128::from(k * s) * scale)).collect();
        }
        firsts.iter().flat_map(|f| (0..item_bytes(v)).map(move |b| f + b)).collect()
    }

    fn view() -> impl Strategy<Value = (u64, Vec<i64>, Vec<i64>, DType)> {
        (0usize..4).prop_flat_map(|ndim| {
            (
                900u64..1000,
                proptest::collection::vec(0i64..4, ndim),
                proptest::collection::vec(-9i64..10, ndim),
                proptest::sample::select(vec![DType::U8, DType::I16, DType::F32, DType::C128]),
            )
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 16 } else { 4096 },
            failure_persistence: None, // Miri has no working directory
            ..ProptestConfig::default()
        })]

        #[test]
        fn agrees_with_the_set_of_bytes(a in view(), b in view(), bytes in any::<bool>()) {
            let unit = if bytes { StrideUnit::Bytes } else { StrideUnit::Elements };
            let a = Strided { address: a.0, layout: Layout::new(&a.1, &a.2), dtype: a.3, padded: false, unit };
            let b = Strided { address: b.0, layout: Layout::new(&b.1, &b.2), dtype: b.3, padded: false, unit };
            let expected = !bytes_of(&a).is_disjoint(&bytes_of(&b));
            prop_assert_eq!(overlap(&a, &b), if expected { Overlap::Some } else { Overlap::None });
        }

        #[test]
        fn self_overlap_agrees_with_counting(v in view()) {
            let layout = Layout::new(&v.1, &v.2);
            let mut seen = HashSet::new();
            let mut firsts = vec![0i64];
            for (&n, &s) in v.1.iter().zip(&v.2) {
                firsts = firsts.iter().flat_map(|f| (0..n).map(move |k| f + k * s)).collect();
            }
            let expected = firsts.iter().any(|f| !seen.insert(*f));
            prop_assert_eq!(layout.first_self_overlap().is_some(), expected);
        }
    }

    #[test]
    fn interleaved_views_do_not_overlap() {
        let even = Strided {
            address: 1000,
            layout: Layout::new(&[1_000_000], &[2]),
            dtype: DType::F32,
            padded: false,
            unit: StrideUnit::Elements,
        };
        let odd = Strided { address: 1004, ..even };
        assert_eq!(overlap(&even, &odd), Overlap::None);
        assert_eq!(overlap(&even, &Strided { address: 1008, ..even }), Overlap::Some);
    }
}
