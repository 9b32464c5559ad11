//! What a kernel is given, as kernels/walk.cuh and kernels/cast.cuh have it.

use freehold_tensor::DType;

/// The most axes that a kernel walks.
pub const MAX_AXES: usize = 8;

/// What a kernel is given, by value: `Walk` in kernels/walk.cuh, at the same offsets.
///
/// ```
/// use freehold_device::cuda::launch::plan;
/// use freehold_device::cuda::walk::{Kind, Walk};
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let (data, layout) = (std::ptr::without_provenance_mut(4096), Layout::new(&[10, 10], &[20, 2]));
/// let dst = Operand { data, dtype: DType::F64, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let src = Operand { dtype: DType::I32, traits: Lazy::SWAPPED, ..dst };
/// let walk = plan(&dst, &src, &CopyOptions::default())?.expect("there are elements").walk;
/// // Both dimensions are one axis, in bytes.
/// assert_eq!((walk.axes, walk.shape[0], walk.dst_step[0], walk.src_step[0]), (1, 100, 16, 8));
/// assert_eq!((walk.src_kind, walk.flags), (Kind::I32 as u32, Walk::SWAP_SRC));
/// # Ok::<(), freehold_tensor::copy::CopyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Walk {
    /// Address of the first element of the destination.
    pub dst: u64,
    /// Address of the first element of the source; of a fill, the first 8 bytes of the value.
    pub src: u64,
    /// Elements.
    pub count: u64,
    /// Address of a `u32` that becomes 1 if a value is lost; 0 where nobody asks; of a fill, the last 8 bytes of the value.
    pub lost: u64,
    /// [`Kind`] of the source; of a fill, a number of bytes (kernels/fill.cu).
    pub src_kind: u32,
    /// [`Kind`] of the destination.
    pub dst_kind: u32,
    /// `Walk::SATURATE` and so on.
    pub flags: u32,
    /// How many axes are used; the last one is the fastest of the destination.
    pub axes: u32,
    /// Elements along each axis.
    pub shape: [i64; MAX_AXES],
    /// Bytes from one element to the next.
    pub dst_step: [i64; MAX_AXES],
    /// Bytes from one element to the next.
    pub src_step: [i64; MAX_AXES],
}

impl Walk {
    /// Overflow to a float goes to its largest finite value.
    pub const SATURATE: u32 = 1;
    /// The source's bytes are in the other order.
    pub const SWAP_SRC: u32 = 2;
    /// The values are the negation of the bytes.
    pub const NEG: u32 = 4;
    /// Every second value along the last axis is negated: imaginary parts.
    pub const CONJ: u32 = 8;
    /// Every second value along the last axis is zero: imaginary parts of what was real.
    pub const ZERO_IMAG: u32 = 16;
    /// A value is true if it or the one behind it is: the parts of a complex one.
    pub const ANY_PART: u32 = 32;
}

/// The dtypes that kernels cast: `Kind` in kernels/cast.cuh.
///
/// ```
/// use freehold_device::cuda::walk::Kind;
/// use freehold_tensor::DType;
///
/// assert_eq!(Kind::of(DType::C64), Some(Kind::F32)); // of each part
/// assert_eq!((Kind::BF16.size(), Kind::BF16.dtype()), (2, DType::BF16));
/// assert_eq!(Kind::of(DType::I4), None); // elements that share bytes
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(missing_docs, reason = "named after the dtypes")]
pub enum Kind {
    BOOL,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    BF16,
    F32,
    F64,
    E3M4,
    E4M3,
    E4M3B11FNUZ,
    E4M3FN,
    E4M3FNUZ,
    E5M2,
    E5M2FNUZ,
    E8M0FNU,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 21] = [
        Kind::BOOL,
        Kind::I8,
        Kind::I16,
        Kind::I32,
        Kind::I64,
        Kind::U8,
        Kind::U16,
        Kind::U32,
        Kind::U64,
        Kind::F16,
        Kind::BF16,
        Kind::F32,
        Kind::F64,
        Kind::E3M4,
        Kind::E4M3,
        Kind::E4M3B11FNUZ,
        Kind::E4M3FN,
        Kind::E4M3FNUZ,
        Kind::E5M2,
        Kind::E5M2FNUZ,
        Kind::E8M0FNU,
    ];

    /// The real dtype of a kind.
    pub fn dtype(self) -> DType {
        match self {
            Kind::BOOL => DType::BOOL,
            Kind::I8 => DType::I8,
            Kind::I16 => DType::I16,
            Kind::I32 => DType::I32,
            Kind::I64 => DType::I64,
            Kind::U8 => DType::U8,
            Kind::U16 => DType::U16,
            Kind::U32 => DType::U32,
            Kind::U64 => DType::U64,
            Kind::F16 => DType::F16,
            Kind::BF16 => DType::BF16,
            Kind::F32 => DType::F32,
            Kind::F64 => DType::F64,
            Kind::E3M4 => DType::F8_E3M4,
            Kind::E4M3 => DType::F8_E4M3,
            Kind::E4M3B11FNUZ => DType::F8_E4M3B11FNUZ,
            Kind::E4M3FN => DType::F8_E4M3FN,
            Kind::E4M3FNUZ => DType::F8_E4M3FNUZ,
            Kind::E5M2 => DType::F8_E5M2,
            Kind::E5M2FNUZ => DType::F8_E5M2FNUZ,
            Kind::E8M0FNU => DType::F8_E8M0FNU,
        }
    }

    /// The kind of a dtype of one lane; of a complex one, of its parts.
    pub fn of(dtype: DType) -> Option<Kind> {
        let part = match (dtype.code, dtype.bits) {
            (DType::CODE_COMPLEX, 32) => DType::F16,
            (DType::CODE_COMPLEX, 64) => DType::F32,
            (DType::CODE_COMPLEX, 128) => DType::F64,
            _ => dtype.with_lanes(1),
        };
        Kind::ALL.into_iter().find(|kind| kind.dtype() == part)
    }

    /// Bytes of a value.
    pub fn size(self) -> usize {
        self.dtype().padded_size()
    }

    /// The kernel of [`Module::Strided`](super::launch::Module::Strided) that reads the kind.
    pub(super) const fn walk(self) -> &'static str {
        match self {
            Kind::U64 => "fh_walk_unsigned",
            Kind::F64 => "fh_walk_double",
            Kind::BOOL | Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 | Kind::U8 | Kind::U16 | Kind::U32 => {
                "fh_walk_integer"
            }
            _ => "fh_walk_float",
        }
    }
}
