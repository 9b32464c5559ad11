//! The rows of the frameworks that are reached through Python. What each takes was asked of it: `tests/interop` has a file
//! a framework, which measures its row again.

use super::{ANY_NDIM, COMMON, Caps, StrideRule};
use crate::caps::DeviceSet;
use crate::{DType, DTypeSet, DeviceKind};

/// What JAX has without 64 bits.
const JAX_32: &[DType] = &[
    DType::BOOL,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::C64,
    DType::F8_E3M4,
    DType::F8_E4M3,
    DType::F8_E4M3B11FNUZ,
    DType::F8_E4M3FN,
    DType::F8_E4M3FNUZ,
    DType::F8_E5M2,
    DType::F8_E5M2FNUZ,
    DType::F8_E8M0FNU,
];

const WIDE: &[DType] = &[DType::I64, DType::U64, DType::F64, DType::C128];

/// Arrow's numbers: no booleans (it packs them into bits), no bfloat16, nothing complex.
const ARROW: &[DType] = &[
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
];

const GPUS: DeviceSet = DeviceSet::of(&[DeviceKind::CPU, DeviceKind::CUDA, DeviceKind::ROCM]);

/// A target of which nothing is special: each row below says in what it differs.
const PLAIN: Caps = Caps {
    name: "",
    dtypes: DTypeSet::of(COMMON),
    any_dtype: false,
    strides: StrideRule::Any,
    byte_strides: false,
    alignment: 1,
    aligned_complex: false,
    read_only: false,
    immutable: false,
    grad: false,
    lazy_bits: false,
    devices: DeviceSet::of(&[DeviceKind::CPU]),
    byte_offset: true,
    dlpack: (1, 3),
    default_dtype: DType::F32,
    max_ndim: ANY_NDIM,
    own_memory: false,
    narrows: None,
};

impl Caps {
    /// Every row that has a name.
    pub(super) const ROWS: &[&Caps] = &[
        &Caps::FREEHOLD,
        &Caps::NUMPY,
        &Caps::TORCH,
        &Caps::JAX,
        &Caps::TENSORFLOW,
        &Caps::PADDLE,
        &Caps::MLX,
        &Caps::PYARROW,
        &Caps::TVM_FFI,
        &Caps::CUPY,
        &Caps::DLPACK,
        &Caps::DLPACK_LEGACY,
    ];

    /// JAX as it starts, without 64-bit types. Measured on 0.10.2: shares what is aligned to 64 bytes and without gaps, in
    /// any order of the axes; copies silently below that alignment, and casts 64 bits to 32 silently.
    pub const JAX: Caps = Caps {
        name: "jax",
        dtypes: DTypeSet::of(JAX_32),
        strides: StrideRule::Packed,
        alignment: 64,
        // Nothing can be written through its arrays, so a read-only owner is safe, though no capsule of its version says so.
        read_only: true,
        immutable: true,
        devices: GPUS,
        dlpack: (0, 8),
        narrows: Some("jax.config.update(\"jax_enable_x64\", True)"),
        ..PLAIN
    };

    /// JAX with `jax_enable_x64`.
    pub const JAX_X64: Caps = Caps { dtypes: Caps::JAX.dtypes.union(DTypeSet::of(WIDE)), narrows: None, ..Caps::JAX };

    /// TensorFlow 2. Measured on 2.21: takes row-major tensors without a byte offset. It takes them at any alignment too, and
    /// then aborts the process in the first operation on one that is not aligned to 64 bytes. Its operations never write to a
    /// buffer that it did not allocate, not even where they reuse their input's.
    pub const TENSORFLOW: Caps = Caps {
        name: "tensorflow",
        dtypes: DTypeSet::of(COMMON).union(DTypeSet::of(&[DType::BF16])),
        strides: StrideRule::Compact,
        alignment: 64,
        read_only: true,
        immutable: true,
        devices: GPUS,
        byte_offset: false,
        dlpack: (0, 8),
        ..PLAIN
    };

    /// `PaddlePaddle` 3. Measured on 3.3.1: ignores the read-only flag and the byte offset, takes negative strides and
    /// fails when they are used, reads uint16 as bfloat16, and has nine dimensions.
    pub const PADDLE: Caps = Caps {
        name: "paddle",
        dtypes: DTypeSet::of(&[
            DType::BOOL,
            DType::I8,
            DType::I16,
            DType::I32,
            DType::I64,
            DType::U8,
            DType::U32,
            DType::U64,
            DType::F16,
            DType::BF16,
            DType::F32,
            DType::F64,
            DType::C64,
            DType::C128,
            DType::F8_E4M3FN,
            DType::F8_E5M2,
        ]),
        strides: StrideRule::NonNegative,
        // Measured: a sum of complex128 at an address that is no multiple of 16 crashes (SIGSEGV), as in PyTorch.
        aligned_complex: true,
        grad: true,
        devices: DeviceSet::of(&[DeviceKind::CPU, DeviceKind::CUDA]),
        byte_offset: false,
        max_ndim: 9,
        ..PLAIN
    };

    /// Paddle for memory of which it has a tensor already: it finds deleters by their address, so that of two imports of one
    /// address only one is ever given back.
    pub const PADDLE_AGAIN: Caps = Caps { own_memory: true, ..Caps::PADDLE };

    /// MLX. Measured on 0.32.4 for the CPU: its import always copies, and casts f64 and c128 to half their width silently.
    /// Its own arrays have f64, so that is what is filled here.
    pub const MLX: Caps = Caps {
        name: "mlx",
        dtypes: DTypeSet::of(&[
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
            DType::BF16,
            DType::F32,
            DType::F64,
            DType::C64,
        ]),
        strides: StrideRule::Compact,
        dlpack: (0, 8),
        own_memory: true,
        ..PLAIN
    };

    /// A `pyarrow.Array`, for what has one dimension. Measured on 26.0.1.
    pub const PYARROW: Caps = Caps {
        name: "pyarrow",
        dtypes: DTypeSet::of(ARROW),
        strides: StrideRule::Compact,
        read_only: true,
        immutable: true,
        default_dtype: DType::F64,
        max_ndim: 1,
        ..PLAIN
    };

    /// A `pyarrow.Tensor`, for every other number of dimensions: strided, and read-only or not as the owner is.
    pub const PYARROW_TENSOR: Caps =
        Caps { strides: StrideRule::NonNegative, immutable: false, max_ndim: ANY_NDIM, ..Caps::PYARROW };

    /// `tvm_ffi.Tensor`: carries anything, and cannot say that it is read-only.
    pub const TVM_FFI: Caps =
        Caps { name: "tvm_ffi", dtypes: DTypeSet::ALL, any_dtype: true, devices: DeviceSet::ALL, ..PLAIN };

    /// `CuPy`, from its source (`cupy/_core/dlpack.pyx`): device memory only, the read-only flag ignored, no 8-bit floats.
    pub const CUPY: Caps = Caps {
        name: "cupy",
        dtypes: DTypeSet::of(COMMON).union(DTypeSet::of(&[DType::BF16])),
        devices: DeviceSet::of(&[DeviceKind::CUDA, DeviceKind::CUDA_MANAGED, DeviceKind::ROCM]),
        default_dtype: DType::F64,
        dlpack: (1, 0),
        ..PLAIN
    };
}
