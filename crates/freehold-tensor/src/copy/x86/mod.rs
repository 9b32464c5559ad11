//! Kernels in x86-64 vector intrinsics, for the conversions that the compiler does not vectorise well.

/// Calls a generic function with the one of eight types that stands for the integer of this sign and width.
macro_rules! by_integer {
    ($signed:ident, $bits:ident, $f:ident: $i8:ident $i16:ident $i32:ident $i64:ident $u8:ident $u16:ident $u32:ident
     $u64:ident, $arguments:tt) => {
        match ($signed, $bits) {
            (true, 8) => $f::<$i8> $arguments,
            (true, 16) => $f::<$i16> $arguments,
            (true, 32) => $f::<$i32> $arguments,
            (true, 64) => $f::<$i64> $arguments,
            (false, 8) => $f::<$u8> $arguments,
            (false, 16) => $f::<$u16> $arguments,
            (false, 32) => $f::<$u32> $arguments,
            (false, 64) => $f::<$u64> $arguments,
            _ => return None,
        }
    };
}

/// Calls a function for one of these byte-sized formats, which are numbers of `MINI`.
macro_rules! by_format {
    ($format:ident, $f:ident: $($n:literal)*, $arguments:tt) => {
        match $format {
            $($n => $f::<$n> $arguments,)*
            _ => return None,
        }
    };
}

mod avx2;
mod avx2_double;
mod avx2_half;
mod avx2_int;
mod avx2_loss;
mod avx2_mini;
mod avx2_narrow;
mod avx2_table;
mod avx512;
mod avx512_bf16;
mod avx512_e5m2;
mod avx512_half;
mod avx512_int;
mod avx512_long;
mod avx512_loss;
mod avx512_mini;
mod avx512_small;
pub(super) mod matrix;
mod mini;
mod table;

use super::find::Mode;
use super::kernel::Kernel;
use super::kind::Scalar;
use super::level::Level;

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode, level: Level) -> Option<Kernel> {
    match level {
        Level::Baseline => None,
        Level::Avx2 => bytes_by_avx2(from, to, mode).or_else(|| avx2::direct(from, to, mode)),
        Level::Avx512 => bytes_by_avx2(from, to, mode).or_else(|| avx512::direct(from, to, mode)),
        Level::Avx512Vbmi => table::direct(from, to)
            .or_else(|| avx512_e5m2::direct(from, to, mode))
            .or_else(|| avx512_small::direct(from, to, mode))
            .or_else(|| avx512_mini::direct(from, to, mode))
            .or_else(|| avx512_bf16::direct(from, to, mode))
            .or_else(|| avx512::direct(from, to, mode)),
    }
}

/// Floats of eight bits, where there is no VBMI.
fn bytes_by_avx2(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    avx2_table::direct(from, to).or_else(|| avx2_mini::direct(from, to, mode))
}
