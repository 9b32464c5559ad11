//! Copies a strided tensor into another of the same shape, casting on the way.
//!
//! # Design
//!
//! * **Plan, then run.** Both layouts are brought into one normal form (axes of size 1 dropped, the destination
//!   walked upwards, axes sorted and joined), then walked in tiles. A tile passes through gather, resolve, convert,
//!   resolve, scatter in a block that stays in the L1 cache, and skips each step it does not need: a contiguous
//!   copy of one dtype is one `memcpy`, a contiguous cast one call of a kernel over the whole run.
//! * **What is small takes no plan** (see `short`): one look at both layouts, a kernel from a table, and blocks on the stack where
//!   the sides are no run.
//! * **Kernels are chosen by dtype pair once**, and are plain loops over one pair of types. Narrow floats go by way
//!   of `f32`, which holds all their values; so do NumPy and ml_dtypes (see `format`).
//! * **Losses are found inside the copying pass**: a kernel keeps one flag for its run, and counts only when it is
//!   set. Where the first loss lies is asked in a second pass that ends there.
//! * **Layouts are classified** after normalising, and each class has its walk ([`describe`] names it). Where the sides
//!   are fastest along different axes, lines of the source are turned in a block by vectors (see `turn`), so that both
//!   sides move whole lines of the cache; a cast runs on the narrower side of the turn. Destinations that no cache
//!   would keep are written past it (see `stream`), and large ones by several threads (see `threads`).
//! * **Memory is asked for ahead of time** (see `ahead`): kernels ask a little further on, and long runs for lines of
//!   several pages at once, which a processor in one page does not do by itself.
//! * Nothing is allocated for up to eight dimensions.

mod ahead;
mod batch;
mod convert;
mod crew;
mod describe;
mod error;
mod find;
mod flat;
mod format;
mod kernel;
mod kind;
mod lanes;
mod lazy;
mod level;
mod line;
mod long;
mod loss;
mod ops;
mod packed;
mod pass;
mod plan;
mod repeat;
mod run;
mod short;
mod side;
mod straight;
mod stream;
mod strided;
#[cfg(test)]
mod tests;
mod threads;
mod tiles;
mod turn;
#[cfg(target_arch = "x86_64")]
mod vector;
mod way;
mod whole;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use describe::{Description, describe};
pub use error::{CopyError, Loss, LossValue};
pub use kind::{CastKind, cast_kind};
pub use lazy::Lazy;
pub use level::simd_level;
pub use threads::{num_threads, on_threads, set_num_threads};

use std::num::NonZeroUsize;

use crate::{DType, FieldError, Layout, StrideUnit};
use convert::Known;
use lazy::Resolve;
use plan::{Axes, Plan};
use run::Steps;
use side::Side;

/// One side of a copy.
///
/// ```
/// use freehold_tensor::copy::{Lazy, Operand};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let mut values = [1_i32, 2, 3];
/// let reversed = Operand {
///     data: values[2..].as_mut_ptr().cast(), // element 0 is the last in memory
///     dtype: DType::I32,
///     layout: Layout::new(&[3], &[-1]),
///     unit: StrideUnit::Elements,
///     traits: Lazy::empty(),
/// };
/// assert_eq!(reversed.layout.extent(reversed.dtype, false, reversed.unit)?.lo, -8);
/// # Ok::<(), freehold_tensor::FieldError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Address of element 0 (index 0 along every dimension); negative strides reach below it. Of any alignment.
    /// A source is only read.
    pub data: *mut u8,
    /// Element type.
    pub dtype: DType,
    /// Shape and strides.
    pub layout: Layout<'a>,
    /// What one step of a stride is.
    pub unit: StrideUnit,
    /// How the bytes differ from the values.
    pub traits: Lazy,
}

/// What becomes of a value that the target cannot hold.
///
/// ```
/// # use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, OnLoss, Operand, copy};
/// # use freehold_tensor::{DType, Layout, StrideUnit};
/// # let layout = Layout::new(&[3], &[1]);
/// # let operand = |data, dtype| Operand { data, dtype, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let (floats, mut bytes) = ([-1.0_f32, 2.7, 300.0], [0_u8; 3]);
/// let (src, dst) = (
///     operand(floats.as_ptr().cast_mut().cast(), DType::F32),
///     operand(bytes.as_mut_ptr(), DType::U8),
/// );
/// // SAFETY: each layout reaches the three elements of its own array.
/// let cast = |on_loss| unsafe { copy(&dst, &src, &CopyOptions::new(on_loss)) };
/// assert!(matches!(cast(OnLoss::Error), Err(CopyError::Loss(loss)) if loss.count == 3));
/// cast(OnLoss::Allow)?;
/// assert_eq!(bytes, [0, 2, 255]);
/// # Ok::<(), CopyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum OnLoss {
    /// The copy fails and reports how many there are. Float to float rounds and never counts as a loss.
    #[default]
    Error,
    /// Integers saturate; floats to integers truncate toward zero and saturate, NaN becomes 0; integers to floats
    /// round to nearest even; complex to real keeps the real part; anything to bool is its truth value.
    Allow,
    /// As [`OnLoss::Allow`], and casts to floats saturate as with [`CopyOptions::saturate`].
    Saturate,
}

/// How to cast.
///
/// ```
/// # use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, OnLoss, Operand, copy};
/// # use freehold_tensor::{DType, Layout, StrideUnit};
/// # let layout = Layout::new(&[1], &[1]);
/// # let operand = |data, dtype| Operand { data, dtype, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let (million, mut half) = (1e6_f32, 0_u16);
/// let src = operand((&raw const million).cast_mut().cast(), DType::F32);
/// let dst = operand((&raw mut half).cast(), DType::F16);
/// // SAFETY: each layout reaches one element, which is there.
/// let cast = |options| unsafe { copy(&dst, &src, &options).map(|()| dst.data.cast::<u16>().read()) };
/// assert_eq!(cast(CopyOptions::default())?, 0x7C00); // infinity: a float that rounds is no loss
/// assert_eq!(cast(CopyOptions { saturate: true, ..CopyOptions::new(OnLoss::Allow) })?, 0x7BFF); // 65504
/// # Ok::<(), CopyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CopyOptions {
    /// What becomes of a value that the target cannot hold.
    pub on_loss: OnLoss,
    /// In a cast to a float type that cannot hold every source value, overflow and infinities become the largest
    /// finite value. Otherwise they become infinity where the format has one, else NaN (f8 `fn` and `fnuz`), else the
    /// largest value (f6, f4).
    pub saturate: bool,
    /// The most threads that the copy uses, the calling one included; `None` for [`num_threads`].
    pub threads: Option<NonZeroUsize>,
}

impl CopyOptions {
    /// What becomes of values, all else by default.
    pub const fn new(on_loss: OnLoss) -> CopyOptions {
        CopyOptions { on_loss, saturate: false, threads: None }
    }
}

/// Copies `src` into `dst`, element by element, casting where the dtypes differ.
///
/// Shapes must be equal: a broadcast is a source stride of 0. Copies of one dtype keep all bits, NaN payloads too.
/// After a [`CopyError::Loss`] the destination holds unspecified values; after any other error it is untouched.
///
/// Rounding, overflow and NaN are NumPy's and ml_dtypes' `astype`, bit for bit, where those define the value; where
/// C leaves it undefined (a float out of an integer's range) or NumPy wraps (integers), values saturate instead.
///
/// ```
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand, copy};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let (rows, mut columns) = ([1.5_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0_f64; 6]);
/// let src = Operand {
///     data: rows.as_ptr().cast_mut().cast(),
///     dtype: DType::F32,
///     layout: Layout::new(&[2, 3], &[3, 1]),
///     unit: StrideUnit::Elements,
///     traits: Lazy::empty(),
/// };
/// let layout = Layout::new(&[2, 3], &[1, 2]); // column-major
/// let dst = Operand { data: columns.as_mut_ptr().cast(), dtype: DType::F64, layout, ..src };
/// // SAFETY: each layout reaches the six elements of its own array.
/// unsafe { copy(&dst, &src, &CopyOptions::default()) }?;
/// assert_eq!(columns, [1.5, 4.0, 2.0, 5.0, 3.0, 6.0]);
/// # Ok::<(), freehold_tensor::copy::CopyError>(())
/// ```
///
/// # Safety
///
/// * Every element that `src` reaches by its layout is readable and initialised, and every element that `dst`
///   reaches is writable. No pointer is used if the shape has a dimension of size 0.
/// * What lies between two neighbouring elements of `src` that are at most four elements apart is readable too: vectors
///   read over it, and nothing comes of it. (Elements so close lie in one allocation.)
/// * No element of `dst` overlaps an element of `src`, or another element of `dst`.
/// * No other thread writes what is read here, or reads or writes what is written here, during the call.
/// * The bytes that a packed sub-byte destination touches are initialised: bits of neighbours in a shared byte, and
///   those after the last element, are kept.
pub unsafe fn copy(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> Result<(), CopyError> {
    // SAFETY: the caller's guarantees.
    if unsafe { short::copy(dst, src, options) } {
        return Ok(());
    }
    // SAFETY: the caller's guarantees.
    unsafe { planned(dst, src, options) }
}

/// [`copy`] by a plan, with room for it that small copies need not take.
///
/// # Safety
///
/// As for [`copy`].
#[inline(never)]
unsafe fn planned(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> Result<(), CopyError> {
    let job = Job::check(dst, src, options)?;
    if src.layout.is_empty() {
        return Ok(());
    }
    for operand in [src, dst] {
        if operand.data.is_null() {
            return Err(FieldError::new("data", 0, "not be NULL for a tensor that has elements").into());
        }
    }
    let mut plan = Plan::new(&job.axes);
    let wide = job.steps.widen(&mut plan);
    let steps = wide.as_ref().unwrap_or(&job.steps);
    // SAFETY: the plan walks exactly the elements of both layouts, which were validated to be addressable and for
    // which the caller answers.
    let lost = unsafe { threads::run(steps, dst.data, src.data, &plan, options.threads) };
    if lost == 0 {
        return Ok(());
    }
    // SAFETY: reads the source as the copy did.
    Err(CopyError::Loss(unsafe { loss::describe(&job, src, dst.dtype, lost) }))
}

/// A copy whose metadata is checked: its axes in the order of the shape, and what to do with elements.
struct Job {
    axes: Axes,
    steps: Steps,
    /// Lanes that became the last axis; 1 where they did not.
    lanes: usize,
    /// The dtype that is read: the source's, or its real part's.
    from: DType,
}

fn check_shapes(dst: &Operand<'_>, src: &Operand<'_>) -> Result<(), FieldError> {
    for operand in [src, dst] {
        if operand.layout.strides.len() != operand.layout.ndim() {
            return Err(FieldError::new("strides", operand.layout.strides.len() as i64, "have one entry a dimension"));
        }
        operand.layout.validate(operand.dtype, operand.traits.contains(Lazy::PADDED), operand.unit)?;
    }
    if dst.layout.ndim() != src.layout.ndim() {
        return Err(FieldError::new("ndim", dst.layout.ndim() as i64, "be the same for destination and source"));
    }
    for (i, (&d, &s)) in dst.layout.shape.iter().zip(src.layout.shape).enumerate() {
        if d != s {
            return Err(FieldError::at("shape", i, d, "be the same for destination and source"));
        }
        if d > 1 && dst.layout.strides[i] == 0 && !dst.layout.is_empty() {
            return Err(FieldError::at("strides", i, 0, "not be 0 in a destination, whose elements it would join"));
        }
    }
    Ok(())
}

impl Job {
    /// Checks operands and options, and decides what to do with elements.
    #[inline]
    fn check(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> Result<Job, CopyError> {
        let kind = cast_kind(src.dtype, dst.dtype);
        let (from, to) = (src.dtype, dst.dtype);
        match kind {
            CastKind::Unsupported => return Err(CopyError::Unsupported { from, to }),
            CastKind::TruthOrReal if options.on_loss == OnLoss::Error => return Err(CopyError::Forbidden { from, to }),
            _ => {}
        }
        check_shapes(dst, src)?;
        Job::new(dst, src, kind, options)
    }

    #[inline]
    fn new(dst: &Operand<'_>, src: &Operand<'_>, kind: CastKind, options: &CopyOptions) -> Result<Job, CopyError> {
        let (to, mut from) = (dst.dtype, src.dtype);
        let unsupported = CopyError::Unsupported { from, to };
        let scalar = |dtype: DType| DType { lanes: 1, ..dtype };
        let (mut src_traits, mut dst_traits) = (src.traits, dst.traits);
        if kind == CastKind::Same {
            // What both sides leave undone in the same way cancels out: their bytes mean the same.
            let signs = (src_traits ^ dst_traits) & (Lazy::CONJ | Lazy::NEG);
            src_traits.set(Lazy::CONJ | Lazy::NEG, false);
            src_traits |= signs;
            dst_traits.remove(Lazy::CONJ | Lazy::NEG);
            if signs.is_empty() && src_traits.contains(Lazy::SWAPPED) == dst_traits.contains(Lazy::SWAPPED) {
                src_traits.remove(Lazy::SWAPPED);
                dst_traits.remove(Lazy::SWAPPED);
            }
        }
        // Elements of several lanes move whole, unless something happens to their values.
        let touched = Lazy::SWAPPED | Lazy::CONJ | Lazy::NEG;
        let whole = kind == CastKind::Same && !(src_traits | dst_traits).intersects(touched);
        let (src_side, dst_side) = (Side::new(src, whole)?, Side::new(dst, whole)?);
        let mut src_unit = src_side.unit;
        if from.is_complex() && !to.is_complex() && !to.is_bool() {
            // The real parts are a real tensor with the same strides.
            let bits = from.bits / 2;
            from = DType { code: DType::CODE_FLOAT, bits, lanes: from.lanes };
            src_unit = run::Unit::Bytes(usize::from(bits) / 8);
            src_traits.remove(Lazy::CONJ);
        }
        let convert = if from == to {
            None
        } else {
            let convert = Known::of(scalar(from), scalar(to), options.on_loss, options.saturate).convert;
            Some(convert.ok_or_else(|| unsupported.clone())?)
        };
        let resolve = |dtype, traits, unit: run::Unit| {
            Resolve::new(dtype, traits, unit.block_size()).ok_or_else(|| unsupported.clone())
        };
        let steps = Steps {
            src_unit,
            dst_unit: dst_side.unit,
            decode: resolve(from, src_traits, src_unit)?,
            convert,
            encode: resolve(to, dst_traits, dst_side.unit)?,
            level: level::Level::best(),
            group: 1,
        };
        let mut job = Job { axes: Axes::new(), steps, lanes: src_side.lanes, from };
        side::push_axes(&mut job.axes, &dst_side, &src_side, dst, src)?;
        Ok(job)
    }
}
