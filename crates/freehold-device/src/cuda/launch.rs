//! Which kernel copies between two layouts on a device, and what it is given: a plan from metadata alone.
//!
//! Axes are brought into one normal form (axes of size 1 dropped, the destination walked upwards, axes sorted by its strides
//! and joined where both sides allow), then classified: one run of both sides, a transpose, or anything else.

mod blocks;
mod fill;

use std::fmt;

use freehold_tensor::copy::{CastKind, CopyError, CopyOptions, Lazy, OnLoss, Operand, cast_kind};
use freehold_tensor::{DType, FieldError, StrideUnit};
use smallvec::SmallVec;

use super::walk::{Kind, MAX_AXES, Walk};
use blocks::{blocks_of, blocks_of_run, tiles_of};

pub use super::module::Module;
pub(super) use fill::one_byte;
pub use fill::plan_fill;

/// A kernel, and what it is launched with.
///
/// ```
/// # use freehold_tensor::{DType, Layout, StrideUnit, copy::{Lazy, Operand}};
/// # let (data, layout) = (std::ptr::without_provenance_mut(4096), Layout::new(&[100], &[1]));
/// # let dst = Operand { data, dtype: DType::U8, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let launch = freehold_device::cuda::launch::plan_fill(&dst, &[7])?.expect("there are elements");
/// assert_eq!((launch.blocks, launch.to_string()), (1, "a fill of 1 axes by fh_fill_run".to_owned()));
/// # Ok::<(), freehold_tensor::copy::CopyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Where the kernel is.
    pub module: Module,
    /// Its name.
    pub kernel: String,
    /// Blocks of 256 threads.
    pub blocks: u32,
    /// What it is given.
    pub walk: Walk,
    /// Whether a value may be lost, so that the caller must look at `walk.lost` afterwards.
    pub checks: bool,
}

impl fmt::Display for Launch {
    /// `transpose of 2 axes, F32 -> BF16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.module {
            Module::Contiguous => "one run",
            Module::Strided => "a walk",
            Module::Turn => "a transpose",
            Module::Fill => "a fill",
        };
        write!(f, "{way} of {} axes by {}", self.walk.axes, self.kernel)
    }
}

/// One axis of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    n: i64,
    dst: i64,
    src: i64,
}

/// Threads of a block, in every kernel.
pub const THREADS: u32 = 256;

/// The launch that copies `src` into `dst`, both memory that the device reaches; `None` for no elements.
///
/// ```
/// use freehold_device::cuda::launch::{Module, plan};
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let side = |address, dtype| Operand {
///     data: std::ptr::without_provenance_mut(address),
///     dtype,
///     layout: Layout::new(&[1000], &[1]),
///     unit: StrideUnit::Elements,
///     traits: Lazy::empty(),
/// };
/// let launch = plan(&side(4096, DType::BF16), &side(65536, DType::F32), &CopyOptions::default())?.unwrap();
/// assert_eq!((launch.module, &*launch.kernel), (Module::Contiguous, "fh_cast_F32_BF16"));
/// # Ok::<(), freehold_tensor::copy::CopyError>(())
/// ```
///
/// # Errors
///
/// [`CopyError::Unsupported`] where no kernel does it: elements that share bytes, lazy bits of a destination of another
/// dtype, more than [`MAX_AXES`] axes that do not join; [`CopyError::Forbidden`] and shapes that differ as in
/// [`freehold_tensor::copy::copy`].
pub fn plan(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> Result<Option<Launch>, CopyError> {
    let (from, to) = (src.dtype, dst.dtype);
    let unsupported = || CopyError::Unsupported { from, to };
    let kind = cast_kind(from, to);
    match kind {
        CastKind::Unsupported => return Err(unsupported()),
        CastKind::TruthOrReal if options.on_loss == OnLoss::Error => return Err(CopyError::Forbidden { from, to }),
        _ => {}
    }
    if src.layout.shape != dst.layout.shape {
        return Err(FieldError::new("shape", dst.layout.ndim() as i64, "be the same for destination and source").into());
    }
    let lazy = lazy(dst, src, kind).ok_or_else(unsupported)?;
    if from.is_sub_byte() || to.is_sub_byte() {
        return Err(unsupported());
    }
    if src.layout.is_empty() {
        return Ok(None);
    }
    let (mut axes, at) = normal(dst, src)?;
    let mut flags = 0;
    for (bit, flag) in [(Lazy::SWAPPED, Walk::SWAP_SRC), (Lazy::NEG, Walk::NEG)] {
        if lazy.contains(bit) {
            flags |= flag;
        }
    }
    // What is exact keeps its infinities.
    if (options.saturate || options.on_loss == OnLoss::Saturate) && kind != CastKind::Exact {
        flags |= Walk::SATURATE;
    }
    let same = kind == CastKind::Same && lazy.is_empty();
    let size = from.element_bits() as usize / 8;
    if same {
        return Ok(Some(moved(axes, at, size).ok_or_else(unsupported)?));
    }
    let (src_kind, dst_kind) = (Kind::of(from).ok_or_else(unsupported)?, Kind::of(to).ok_or_else(unsupported)?);
    let (src_size, dst_size) = (src_kind.size() as i64, dst_kind.size() as i64);
    let parts = |dtype: DType| if dtype.is_complex() { 2 } else { 1 };
    if from.lanes > 1 {
        axes.push(Axis { n: from.lanes.into(), dst: dst_size * parts(to), src: src_size * parts(from) });
    }
    match (from.is_complex(), to.is_complex()) {
        // The parts are one more axis. Joined with others it has an even length still: odd places stay imaginary parts.
        (true, true) => {
            axes.push(Axis { n: 2, dst: dst_size, src: src_size });
            flags |= if lazy.contains(Lazy::CONJ) { Walk::CONJ } else { 0 };
        }
        (false, true) => {
            axes.push(Axis { n: 2, dst: dst_size, src: 0 });
            flags |= Walk::ZERO_IMAG;
        }
        (true, false) if to.is_bool() => flags |= Walk::ANY_PART,
        // The real part is where the element begins.
        (true, false) | (false, false) => {}
    }
    axes = joined(&axes);
    if axes.len() > MAX_AXES {
        return Err(unsupported());
    }
    let checks = kind == CastKind::MayLose && options.on_loss == OnLoss::Error;
    let mut walk = walk_of(&axes, at);
    (walk.src_kind, walk.dst_kind, walk.flags) = (src_kind as u32, dst_kind as u32, flags);
    let pair = format!("{src_kind:?}_{dst_kind:?}");
    let plain = flags & !Walk::SATURATE == 0 && aligned(&walk, src_kind.size(), dst_kind.size());
    if src_kind == dst_kind {
        // Only what lies between bytes and values.
        let kernel = format!("fh_resolve_{}", src_kind.size());
        return Ok(Some(Launch { module: Module::Strided, kernel, blocks: blocks_of(&walk, 1), walk, checks: false }));
    }
    let run =
        walk.axes == 1 && walk.dst_step[0] == dst_kind.size() as i64 && walk.src_step[0] == src_kind.size() as i64;
    if plain && run && (walk.dst | walk.src).is_multiple_of(16) && CONTIGUOUS.contains(&pair.as_str()) {
        let kernel = format!("fh_cast_{pair}");
        let blocks = blocks_of_run(walk.count, src_kind.size(), dst_kind.size());
        return Ok(Some(Launch { module: Module::Contiguous, kernel, blocks, walk, checks }));
    }
    if plain
        && TURNS.contains(&pair.as_str())
        && let Some(turned) = turned(&axes, dst_kind.size(), src_kind.size())
    {
        let walk = Walk { src_kind: walk.src_kind, dst_kind: walk.dst_kind, flags, ..walk_of(&turned, at) };
        let blocks = tiles_of(&walk, dst_kind.size(), src_kind.size());
        return Ok(Some(Launch { module: Module::Turn, kernel: format!("fh_turn_{pair}"), blocks, walk, checks }));
    }
    let (kernel, each) = if plain && STRIDES.contains(&pair.as_str()) {
        (format!("fh_stride_{pair}"), 4)
    } else {
        (src_kind.walk().to_owned(), 1)
    };
    Ok(Some(Launch { module: Module::Strided, kernel, blocks: blocks_of(&walk, each), walk, checks }))
}

/// The pairs that have a kernel for compact runs: kernels/contiguous.cu.
const CONTIGUOUS: &[&str] = &[
    "F32_F16",
    "F16_F32",
    "F32_BF16",
    "BF16_F32",
    "F32_F64",
    "F64_F32",
    "F32_I32",
    "I32_F32",
    "F32_I64",
    "I64_F32",
    "F32_U8",
    "U8_F32",
    "F32_I8",
    "I8_F32",
    "F32_E4M3FN",
    "E4M3FN_F32",
    "F32_E5M2",
    "E5M2_F32",
    "F16_BF16",
    "BF16_F16",
    "F64_F16",
    "F16_F64",
    "F64_I32",
    "I32_F64",
    "F64_I64",
    "I64_F64",
    "I32_I64",
    "I64_I32",
    "I32_U8",
    "U8_I32",
    "I64_U8",
    "U8_I64",
    "F16_U8",
    "U8_F16",
    "BF16_U8",
    "U8_BF16",
    "F16_E4M3FN",
    "E4M3FN_F16",
    "BF16_E4M3FN",
    "E4M3FN_BF16",
    "BOOL_F32",
    "F32_BOOL",
];

/// The pairs that have a kernel for walks of aligned elements: kernels/strided.cu.
const STRIDES: &[&str] = &[
    "U8_F32",
    "U8_F16",
    "U8_BF16",
    "F32_U8",
    "F32_F16",
    "F16_F32",
    "F32_BF16",
    "BF16_F32",
    "F32_F64",
    "F64_F32",
    "I64_I32",
    "F32_E4M3FN",
];

/// The pairs that have a kernel for transposes: kernels/turn.cu.
const TURNS: &[&str] =
    &["F32_F16", "F16_F32", "F32_BF16", "BF16_F32", "F32_F64", "F64_F32", "F32_U8", "U8_F32", "F32_E4M3FN", "I64_I32"];

type Axes = SmallVec<[Axis; MAX_AXES]>;

/// What has to happen to the bytes of the source so that their values, as the destination has them, come out; `None` where no
/// kernel does it.
fn lazy(dst: &Operand<'_>, src: &Operand<'_>, kind: CastKind) -> Option<Lazy> {
    let signs = Lazy::CONJ | Lazy::NEG;
    let of = |operand: &Operand<'_>| {
        let ignored = if operand.dtype.is_complex() { Lazy::PADDED } else { Lazy::PADDED | Lazy::CONJ };
        operand.traits.difference(ignored)
    };
    let (mut lazy, rest) = (of(src), of(dst));
    if kind == CastKind::Same {
        // What both sides leave undone in the same way cancels out. A sign is changed in the order of the source's bytes.
        lazy ^= rest;
        if rest.contains(Lazy::SWAPPED) && lazy.intersects(signs) {
            return None;
        }
    } else if !rest.is_empty() {
        return None;
    }
    // Some dtypes have no sign to change.
    lazy.resolves(src.dtype).then_some(lazy)
}

/// Both addresses and the axes in normal form: outermost first, the fastest of the destination last.
fn normal(dst: &Operand<'_>, src: &Operand<'_>) -> Result<(Axes, (u64, u64)), CopyError> {
    let (mut to, mut from) = (dst.data.addr() as u64, src.data.addr() as u64);
    let step = |operand: &Operand<'_>, stride: i64| match operand.unit {
        StrideUnit::Bytes => stride,
        StrideUnit::Elements => stride * (operand.dtype.element_bits() as i64 / 8),
    };
    let mut axes: SmallVec<[Axis; 16]> = SmallVec::new();
    for (i, &n) in dst.layout.shape.iter().enumerate() {
        if n == 1 {
            continue;
        }
        let mut axis = Axis { n, dst: step(dst, dst.layout.strides[i]), src: step(src, src.layout.strides[i]) };
        if axis.dst < 0 {
            to = to.wrapping_add_signed(axis.dst * (n - 1));
            from = from.wrapping_add_signed(axis.src * (n - 1));
            (axis.dst, axis.src) = (-axis.dst, -axis.src);
        }
        if axis.dst == 0 {
            return Err(
                FieldError::at("strides", i, 0, "not be 0 in a destination, whose elements it would join").into()
            );
        }
        axes.insert(axes.partition_point(|other| other.dst >= axis.dst), axis);
    }
    let axes = joined(&axes);
    if axes.len() > MAX_AXES {
        return Err(CopyError::Unsupported { from: src.dtype, to: dst.dtype });
    }
    Ok((axes, (to, from)))
}

/// Neighbours that are one axis on both sides become one. There is at least one.
fn joined(axes: &[Axis]) -> Axes {
    let mut out = Axes::new();
    for &axis in axes {
        match out.last_mut() {
            Some(outer) if outer.dst == axis.n * axis.dst && outer.src == axis.n * axis.src => {
                *outer = Axis { n: outer.n * axis.n, ..axis };
            }
            _ => out.push(axis),
        }
    }
    if out.is_empty() {
        out.push(Axis { n: 1, dst: 0, src: 0 });
    }
    out
}

fn walk_of(axes: &[Axis], (dst, src): (u64, u64)) -> Walk {
    let mut walk = Walk {
        dst,
        src,
        count: axes.iter().map(|axis| axis.n.unsigned_abs()).product(),
        lost: 0,
        src_kind: 0,
        dst_kind: 0,
        flags: 0,
        axes: axes.len() as u32,
        shape: [1; MAX_AXES],
        dst_step: [0; MAX_AXES],
        src_step: [0; MAX_AXES],
    };
    for (i, axis) in axes.iter().enumerate() {
        (walk.shape[i], walk.dst_step[i], walk.src_step[i]) = (axis.n, axis.dst, axis.src);
    }
    walk
}

/// Whether every element of both sides is aligned to its size.
fn aligned(walk: &Walk, src: usize, dst: usize) -> bool {
    let (src, dst) = (src as u64, dst as u64);
    walk.src.is_multiple_of(src)
        && walk.dst.is_multiple_of(dst)
        && (0..walk.axes as usize).all(|i| {
            walk.src_step[i].unsigned_abs().is_multiple_of(src) && walk.dst_step[i].unsigned_abs().is_multiple_of(dst)
        })
}

/// The launch that moves bytes without looking at them.
fn moved(mut axes: Axes, at: (u64, u64), size: usize) -> Option<Launch> {
    let mut size = size;
    // Runs of both sides move in larger pieces where addresses and steps allow, and so do elements of odd sizes.
    let last = axes.len() - 1;
    let (run, mut piece) = (axes[last], 16);
    let all = |axes: &[Axis], piece: i64| {
        axes.iter().all(|axis| axis.dst % piece == 0 && axis.src % piece == 0)
            && (at.0 | at.1).is_multiple_of(piece as u64)
    };
    if run.n == 1 || (run.dst == size as i64 && run.src == size as i64) {
        let bytes = run.n * size as i64;
        while piece > 1 && !(bytes % piece == 0 && all(&axes[..last], piece)) {
            piece /= 2;
        }
        axes[last] = Axis { n: bytes / piece, dst: piece, src: piece };
        size = piece as usize;
    } else if !all(&axes, size as i64) || !matches!(size, 1 | 2 | 4 | 8 | 16) {
        // Elements in pieces: what is odd, or not aligned to its size.
        while piece > 1 && !(size as i64 % piece == 0 && all(&axes, piece)) {
            piece /= 2;
        }
        if axes.len() == MAX_AXES {
            return None;
        }
        axes.push(Axis { n: size as i64 / piece, dst: piece, src: piece });
        size = piece as usize;
    } else if let Some(turned) = turned(&axes, size, size) {
        let walk = walk_of(&turned, at);
        let blocks = tiles_of(&walk, size, size);
        return Some(Launch { module: Module::Turn, kernel: format!("fh_turn_{size}"), blocks, walk, checks: false });
    }
    let walk = walk_of(&joined(&axes), at);
    let blocks = blocks_of(&walk, if size == 16 { 4 } else { 8 });
    Some(Launch { module: Module::Strided, kernel: format!("fh_move_{size}"), blocks, walk, checks: false })
}

/// The axes as a transpose wants them, if the copy is one: batches, the source's fastest axis, the destination's.
fn turned(axes: &[Axis], dst: usize, src: usize) -> Option<Axes> {
    let last = axes.len().checked_sub(1)?;
    if axes[last].dst != dst as i64 || axes[last].src == src as i64 || axes[last].n < 16 {
        return None;
    }
    let fast = axes[..last].iter().position(|axis| axis.src == src as i64 && axis.n >= 16)?;
    let mut out: Axes =
        axes.iter().copied().enumerate().filter(|(i, _)| *i != fast && *i != last).map(|(_, a)| a).collect();
    out.push(axes[fast]);
    out.push(axes[last]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the kernels in a module's PTX that begin so.
    fn kernels(module: Module, prefix: &str) -> Vec<String> {
        let text = String::from_utf8(module.ptx().expect("packed by build.rs")).expect("PTX is text");
        let entries = text.lines().filter_map(|line| line.split_once(".entry ").map(|(_, rest)| rest.to_owned()));
        let mut names: Vec<String> =
            entries.filter_map(|rest| Some(rest.split('(').next()?.strip_prefix(prefix)?.to_owned())).collect();
        names.sort();
        names
    }

    #[test]
    #[cfg_attr(miri, ignore = "unpacks the kernels: safe code, and minutes of it where it is interpreted")]
    fn every_pair_that_is_planned_has_its_kernel_and_none_is_there_for_nothing() {
        let sorted = |pairs: &[&str]| {
            let mut names: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(kernels(Module::Contiguous, "fh_cast_"), sorted(CONTIGUOUS));
        assert_eq!(kernels(Module::Strided, "fh_stride_"), sorted(STRIDES));
        let mut turns = sorted(TURNS);
        turns.extend(["1", "16", "2", "4", "8"].map(str::to_owned));
        turns.sort();
        assert_eq!(kernels(Module::Turn, "fh_turn_"), turns);
        assert_eq!(kernels(Module::Strided, "fh_move_"), ["1", "16", "2", "4", "8"]);
        assert_eq!(kernels(Module::Strided, "fh_walk_"), ["double", "float", "integer", "unsigned"]);
        assert_eq!(kernels(Module::Fill, "fh_"), ["fill_elements", "fill_run"]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "unpacks the kernels: safe code, and minutes of it where it is interpreted")]
    fn the_walk_is_as_large_as_the_kernels_parameter() {
        for module in [Module::Contiguous, Module::Strided, Module::Turn, Module::Fill] {
            let text = String::from_utf8(module.ptx().expect("packed by build.rs")).expect("PTX is text");
            let size = format!("_param_0[{}]", size_of::<Walk>());
            let parameters: Vec<&str> = text.lines().filter(|line| line.contains(".param .align")).collect();
            assert!(!parameters.is_empty() && parameters.iter().all(|line| line.contains(&size)), "{parameters:?}");
        }
    }
}
