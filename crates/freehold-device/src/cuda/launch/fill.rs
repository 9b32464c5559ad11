//! The launch that writes one value everywhere.

use freehold_tensor::copy::{CopyError, Operand};
use freehold_tensor::{FieldError, Layout};
use smallvec::SmallVec;

use super::{Axis, Launch, Module, blocks_of, joined, normal, walk_of};
use crate::cuda::walk::MAX_AXES;

/// Runs that are shorter are filled an element at a time, where elements are aligned.
const SHORTEST_RUN: i64 = 64;

/// The launch that fills `dst` with `value`, the bytes of one element as they lie in memory; `None` for no elements.
///
/// ```
/// use freehold_device::cuda::launch::plan_fill;
/// use freehold_tensor::copy::{Lazy, Operand};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let (data, layout) = (std::ptr::without_provenance_mut(4096), Layout::new(&[100], &[3]));
/// let dst = Operand { data, dtype: DType::F32, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let launch = plan_fill(&dst, &1.5_f32.to_ne_bytes())?.expect("there are elements");
/// assert_eq!(launch.kernel, "fh_fill_elements");
/// let error = plan_fill(&dst, &[0]).unwrap_err();
/// assert_eq!(error.to_string(), "value is 1; it must have as many bytes as an element");
/// # Ok::<(), freehold_tensor::copy::CopyError>(())
/// ```
///
/// # Errors
///
/// [`CopyError::Unsupported`] where no kernel does it: elements that share bytes or are not of 1, 2, 4, 8 or 16 bytes, more
/// than [`MAX_AXES`] axes that do not join; [`CopyError::Shape`] for a value of another size, or a stride of 0.
pub fn plan_fill(dst: &Operand<'_>, value: &[u8]) -> Result<Option<Launch>, CopyError> {
    let unsupported = || CopyError::Unsupported { from: dst.dtype, to: dst.dtype };
    let size = dst.dtype.element_bits() as usize / 8;
    if dst.dtype.is_sub_byte() || !matches!(size, 1 | 2 | 4 | 8 | 16) {
        return Err(unsupported());
    }
    if value.len() != size {
        return Err(FieldError::new("value", value.len() as i64, "have as many bytes as an element").into());
    }
    if dst.layout.is_empty() {
        return Ok(None);
    }
    let none: SmallVec<[i64; MAX_AXES]> = SmallVec::from_elem(0, dst.layout.ndim());
    let source = Operand { layout: Layout::new(dst.layout.shape, &none), ..*dst };
    let (mut axes, (at, _)) = normal(dst, &source)?;
    let last = axes.len() - 1;
    let (run, size) = (axes[last], size as i64);
    let aligned = at.is_multiple_of(size as u64) && axes.iter().all(|axis| axis.dst % size == 0);
    let bytes = if run.n == 1 || run.dst == size { run.n * size } else { size };
    let by_runs = !aligned || axes.len() == 1 && bytes > size || bytes >= SHORTEST_RUN;
    if by_runs {
        // An axis of the 16 bytes that a run touches, with their number where a source would be.
        let touched = Axis { n: (bytes - 1) / 16 + 2, dst: 16, src: 1 };
        if run.n == 1 || run.dst == size {
            axes[last] = touched;
        } else if axes.len() < MAX_AXES {
            axes.push(touched);
        } else {
            return Err(unsupported());
        }
    } else {
        axes = joined(&axes);
    }
    let whole: [u8; 16] = std::array::from_fn(|i| value[i % value.len()]);
    let half = |i: usize| u64::from_ne_bytes(std::array::from_fn(|j| whole[i + j]));
    // The source is a value, and no address.
    let mut walk = walk_of(&axes, (at, half(0)));
    walk.lost = half(8);
    let kernel = if by_runs { "fh_fill_run" } else { "fh_fill_elements" };
    walk.src_kind = if by_runs { ((bytes - 1) % 16 + 1) as u32 } else { size as u32 };
    let blocks = blocks_of(&walk, 1);
    Ok(Some(Launch { module: Module::Fill, kernel: kernel.to_owned(), blocks, walk, checks: false }))
}

/// The bytes of a launch that fills one run with one byte, which the driver does as well: address, byte and how many.
pub(in crate::cuda) fn one_byte(launch: &Launch) -> Option<(u64, u8, usize)> {
    let walk = &launch.walk;
    let byte = walk.src as u8;
    let same = walk.src == walk.lost && walk.src == u64::from_ne_bytes([byte; 8]);
    let bytes = (walk.shape[0] - 2) * 16 + i64::from(walk.src_kind);
    (same && walk.axes == 1 && launch.kernel == "fh_fill_run").then_some((walk.dst, byte, bytes as usize))
}
