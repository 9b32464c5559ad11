//! Kernels in x86-64 vector intrinsics, for the conversions that the compiler does not vectorise well.

mod avx2;
mod avx2_half;
mod avx2_int;
mod avx512;
mod avx512_half;
mod avx512_int;
mod avx512_loss;
mod table;

use super::find::Mode;
use super::kernel::Kernel;
use super::kind::Scalar;
use super::level::Level;

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode, level: Level) -> Option<Kernel> {
    match level {
        Level::Baseline => None,
        Level::Avx2 => avx2::direct(from, to, mode),
        Level::Avx512 => avx512::direct(from, to, mode),
        Level::Avx512Vbmi => table::direct(from, to).or_else(|| avx512::direct(from, to, mode)),
    }
}
