//! What each target takes. One row a framework; `tests/interop/test_caps.py` measures the rows against the
//! frameworks themselves.

mod rows;

use crate::{DType, DTypeSet, DeviceKind};

/// Which strides a target takes.
///
/// ```
/// use freehold::{Caps, Order, Policy, Request, StrideRule, Tensor, Verdict, convert, decide};
///
/// let t = Tensor::from_vec(vec![1, 2, 3, 4, 5, 6], &[2, 3])?;
/// let columns = convert(&t, &Request::copy().order(Order::F), &Caps::FREEHOLD, &Policy::default())?;
/// let verdict = |strides| {
///     let caps = Caps { strides, ..Caps::NUMPY };
///     decide(&columns.desc(), &Request::convert(), &caps, &Policy::default()).verdict
/// };
/// assert_eq!((verdict(StrideRule::Packed), verdict(StrideRule::Compact)), (Verdict::Share, Verdict::Copy));
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StrideRule {
    /// Any.
    Any,
    /// Zero and above.
    NonNegative,
    /// Without gaps, the axes in any order.
    Packed,
    /// Compact, in C order.
    Compact,
}

/// A set of device kinds, one bit each.
///
/// ```
/// use freehold::{DeviceKind, DeviceSet};
///
/// let set = DeviceSet::of(&[DeviceKind::CUDA, DeviceKind::CPU]);
/// assert!(set.contains(DeviceKind::CUDA) && !set.contains(DeviceKind::METAL));
/// assert_eq!((set.to_string().as_str(), set.first()), ("cpu+cuda", Some(DeviceKind::CPU)));
/// assert_eq!(set.names().count(), 2);
/// assert_eq!(DeviceSet::ALL.to_string(), "any");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceSet(pub u32);

impl DeviceSet {
    /// Every kind.
    pub const ALL: DeviceSet = DeviceSet(u32::MAX);

    /// The set of these kinds.
    pub const fn of(kinds: &[DeviceKind]) -> DeviceSet {
        let mut bits = 0;
        let mut i = 0;
        while i < kinds.len() {
            bits |= 1 << kinds[i].0;
            i += 1;
        }
        DeviceSet(bits)
    }

    /// Whether a kind is in the set.
    pub const fn contains(self, kind: DeviceKind) -> bool {
        kind.0 >= 0 && kind.0 < 32 && self.0 >> kind.0 & 1 == 1
    }

    /// The kind with the lowest number that has a name here.
    pub fn first(self) -> Option<DeviceKind> {
        (1..32).map(DeviceKind).find(|kind| self.contains(*kind) && kind.name().is_some())
    }

    /// The kinds that have a name here, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (1..32).map(DeviceKind).filter(move |kind| self.contains(*kind)).filter_map(DeviceKind::name)
    }
}

impl std::fmt::Display for DeviceSet {
    /// `cpu+cuda`, or `any`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == DeviceSet::ALL {
            return f.write_str("any");
        }
        f.write_str(&self.names().collect::<Vec<_>>().join("+"))
    }
}

/// What a target takes.
///
/// ```
/// use freehold::{Caps, Code, Policy, Request, Tensor, decide};
///
/// // A target of your own: as NumPy, with memory that begins at multiples of 64 bytes.
/// let mine = Caps { name: "mine", alignment: 64, ..Caps::NUMPY };
/// let t = Tensor::from(vec![1.0f32, 2.0]);
/// let decision = decide(&t.desc(), &Request::convert(), &mine, &Policy::default());
/// assert_eq!(decision.has(Code::AG01), t.data_ptr().addr() % 64 != 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// The target's name, as `to=` spells it.
    pub name: &'static str,
    /// Element types it has.
    pub dtypes: DTypeSet,
    /// Whether it carries dtypes without a name here (vector lanes, opaque handles) as they are.
    pub any_dtype: bool,
    /// Strides it takes.
    pub strides: StrideRule,
    /// Whether it takes strides in bytes that are not multiples of the item size.
    pub byte_strides: bool,
    /// Alignment of the first element that it needs, in bytes.
    pub alignment: u32,
    /// Whether complex elements must be aligned to their own size, because its code loads them as vectors.
    pub aligned_complex: bool,
    /// Whether it has read-only tensors.
    pub read_only: bool,
    /// Whether it promises that its tensors never change.
    pub immutable: bool,
    /// Whether it carries the autograd graph of its own tensors.
    pub grad: bool,
    /// Whether it carries lazy conj and neg bits of its own tensors.
    pub lazy_bits: bool,
    /// Devices its tensors can be on.
    pub devices: DeviceSet,
    /// Whether a byte offset other than 0 is honoured.
    pub byte_offset: bool,
    /// The highest DLPack version it reads; `(0, 8)` is a legacy consumer.
    pub dlpack: (u32, u32),
    /// The dtype it gives to Python floats, for the hint `HT01`.
    pub default_dtype: DType,
    /// The most dimensions it takes.
    pub max_ndim: u32,
    /// Whether its tensors only hold memory that it allocated: everything is copied.
    pub own_memory: bool,
    /// It has 32 bits where others have 64, unless told otherwise: what to type, in Python, to tell it. A 64-bit source is
    /// then cast, in the decision, where the framework would do it silently.
    pub narrows: Option<&'static str>,
}

/// As many dimensions as a tensor can have here.
const ANY_NDIM: u32 = freehold_tensor::MAX_NDIM as u32;

const COMMON: &[DType] = &[
    DType::BOOL,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::C64,
    DType::C128,
];

const HOST: DeviceSet = DeviceSet::of(&[DeviceKind::CPU, DeviceKind::CUDA_HOST, DeviceKind::ROCM_HOST]);

impl Caps {
    /// `fh.Tensor`: carries anything.
    pub const FREEHOLD: Caps = Caps {
        name: "freehold",
        dtypes: DTypeSet::ALL,
        any_dtype: true,
        strides: StrideRule::Any,
        byte_strides: false,
        alignment: 1,
        aligned_complex: false,
        read_only: true,
        immutable: false,
        grad: false,
        lazy_bits: false,
        devices: DeviceSet::ALL,
        byte_offset: true,
        dlpack: crate::dlpack::VERSION,
        default_dtype: DType::F32,
        max_ndim: ANY_NDIM,
        own_memory: false,
        narrows: None,
    };

    /// NumPy 2: negative strides, read-only arrays, host memory only; no bf16, f8, f6, f4 without `ml_dtypes`.
    pub const NUMPY: Caps = Caps {
        name: "numpy",
        dtypes: DTypeSet::of(COMMON),
        any_dtype: false,
        strides: StrideRule::Any,
        byte_strides: true,
        alignment: 1,
        aligned_complex: false,
        read_only: true,
        immutable: false,
        grad: false,
        lazy_bits: false,
        devices: HOST,
        byte_offset: true,
        dlpack: (1, 0),
        default_dtype: DType::F64,
        max_ndim: ANY_NDIM,
        own_memory: false,
        narrows: None,
    };

    /// PyTorch 2: no negative strides, no read-only tensors (it writes through the flag without a warning).
    pub const TORCH: Caps = Caps {
        name: "torch",
        dtypes: DTypeSet::of(COMMON).union(DTypeSet::of(&[
            DType::BF16,
            DType::C32,
            DType::F8_E4M3FN,
            DType::F8_E4M3FNUZ,
            DType::F8_E5M2,
            DType::F8_E5M2FNUZ,
            DType::F8_E8M0FNU,
        ])),
        any_dtype: false,
        strides: StrideRule::NonNegative,
        byte_strides: false,
        alignment: 1,
        // c10::complex<double> is alignas(16), and NumPy's is 8: PyTorch 2.15 crashes (SIGSEGV) on the difference.
        aligned_complex: true,
        read_only: false,
        immutable: false,
        grad: true,
        lazy_bits: true,
        devices: DeviceSet::of(&[DeviceKind::CPU, DeviceKind::CUDA, DeviceKind::ROCM, DeviceKind::METAL]),
        byte_offset: true,
        dlpack: (1, 3),
        default_dtype: DType::F32,
        max_ndim: ANY_NDIM,
        own_memory: false,
        narrows: None,
    };

    /// A consumer of which only the capsule it asked for is known: versioned, and trusted to honour its flags.
    pub const DLPACK: Caps = Caps { name: "dlpack", ..Caps::FREEHOLD };

    /// A consumer of legacy capsules: it cannot be told that memory is read-only.
    pub const DLPACK_LEGACY: Caps = Caps { name: "dlpack-legacy", read_only: false, dlpack: (0, 8), ..Caps::FREEHOLD };

    /// The alignment of the first element that it needs for a dtype, in bytes.
    ///
    /// ```
    /// use freehold::{Caps, DType};
    ///
    /// assert_eq!(Caps::TORCH.alignment_of(DType::C128), 16);
    /// assert_eq!(Caps::NUMPY.alignment_of(DType::C128), 1);
    /// ```
    #[inline]
    pub const fn alignment_of(&self, dtype: DType) -> u32 {
        let own = if self.aligned_complex && dtype.is_complex() { dtype.padded_size() as u32 } else { 1 };
        if own > self.alignment { own } else { self.alignment }
    }

    /// What a target that [`Caps::narrows`] makes of a dtype that it does not have.
    ///
    /// ```
    /// use freehold::{Caps, DType};
    ///
    /// assert_eq!(Caps::JAX.narrowed(DType::F64), Some(DType::F32));
    /// assert_eq!(Caps::JAX_X64.narrowed(DType::F64), None);
    /// ```
    pub fn narrowed(&self, dtype: DType) -> Option<DType> {
        if self.narrows.is_none() || self.dtypes.contains(dtype) {
            return None;
        }
        match dtype {
            DType::I64 => Some(DType::I32),
            DType::U64 => Some(DType::U32),
            DType::F64 => Some(DType::F32),
            DType::C128 => Some(DType::C64),
            _ => None,
        }
    }

    /// The row of a target by its name.
    ///
    /// ```
    /// use freehold::Caps;
    ///
    /// assert_eq!(Caps::for_name("torch"), Some(&Caps::TORCH));
    /// assert_eq!(Caps::for_name("abacus"), None);
    /// ```
    pub fn for_name(name: &str) -> Option<&'static Caps> {
        Self::ROWS.iter().copied().find(|caps| caps.name == name)
    }
}
