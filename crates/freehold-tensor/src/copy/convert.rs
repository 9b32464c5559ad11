//! The conversion of a compact run: one kernel, or two with a type between, lifted to complex where asked.

use std::cell::Cell;
use std::mem::MaybeUninit;

use super::find::{Mode, direct};
use super::kernel::Kernel;
use super::kind::Scalar;
use super::level::Level;
use super::{CastKind, OnLoss, cast_kind};
use crate::DType;

/// Values that pass through the type between two kernels at once: two buffers of it stay in the L1 cache.
const CHUNK: usize = 512;

/// From the start of a line of the cache, where kernels have nothing to align.
#[repr(align(64))]
struct Between([MaybeUninit<u32>; CHUNK]);

/// How one run of scalars becomes another.
#[derive(Clone, Copy)]
enum Route {
    /// The same scalar on both sides, of this many bytes.
    Same(usize),
    One(Kernel),
    /// By way of a type of at most 4 bytes that holds every value of one side.
    Two {
        first: Kernel,
        second: Kernel,
        from: usize,
        to: usize,
    },
}

/// What happens to complex values around the scalar route.
#[derive(Clone, Copy)]
enum Lift {
    Real,
    /// Both components by the same route.
    Pairs,
    /// Real to complex: each value followed by a zero of this many bytes.
    ZeroImag {
        from: usize,
        to: usize,
    },
    /// Complex to bool: true if either component is; a component has this many bytes.
    AnyPart {
        from: usize,
    },
}

/// A cast that a thread asked for before: to choose its kernels takes as long as to convert some hundred values.
#[derive(Clone, Copy)]
pub(super) struct Known {
    asked: (DType, DType, OnLoss, bool, Level),
    pub kind: CastKind,
    pub convert: Option<Convert>,
}

/// How many casts a thread remembers; each has one place.
const PLACES: usize = 32;

thread_local!(static KNOWN: [Cell<Option<Known>>; PLACES] = const { [const { Cell::new(None) }; PLACES] });

impl Known {
    /// What there is to know of a cast.
    #[inline]
    pub(super) fn of(from: DType, to: DType, on_loss: OnLoss, saturate: bool) -> Known {
        let asked = (from, to, on_loss, saturate, Level::best());
        // A mixture in which common dtypes have places of their own.
        let place = usize::from(from.code) + usize::from(from.bits) / 8 * 3 + usize::from(to.code) * 5;
        let place = (place + usize::from(to.bits) / 8 * 7) % PLACES;
        let known = KNOWN.with(|known| known[place].get());
        match known {
            Some(known) if known.asked == asked => known,
            _ => Known::ask(asked, place),
        }
    }

    #[cold]
    fn ask(asked: (DType, DType, OnLoss, bool, Level), place: usize) -> Known {
        let (from, to, on_loss, saturate, _) = asked;
        let convert = Convert::new(from, to, on_loss, saturate);
        let known = Known { asked, kind: cast_kind(from, to), convert };
        KNOWN.with(|all| all[place].set(Some(known)));
        known
    }
}

/// A conversion between two dtypes, for compact runs in native byte order with one byte for a sub-byte value.
#[derive(Clone, Copy)]
pub(super) struct Convert {
    route: Route,
    lift: Lift,
}

impl Convert {
    /// The conversion between two dtypes of the same lanes, or `None` where the engine has none. Complex to real
    /// is not one: the caller reads the real parts as a strided real tensor instead.
    pub(super) fn new(from: DType, to: DType, on_loss: OnLoss, saturate: bool) -> Option<Convert> {
        let kind = cast_kind(from, to);
        let (a, b, lift) = match (Scalar::of_component(from), Scalar::of_component(to)) {
            (Some(a), Some(b)) => (a, b, Lift::Pairs),
            (None, Some(b)) => {
                let a = Scalar::of(from)?;
                (a, b, Lift::ZeroImag { from: a.size(), to: b.size() })
            }
            (Some(a), None) if Scalar::of(to)? == Scalar::Bool => (a, Scalar::Bool, Lift::AnyPart { from: a.size() }),
            (Some(_), None) => return None,
            (None, None) => (Scalar::of(from)?, Scalar::of(to)?, Lift::Real),
        };
        let counted = on_loss == OnLoss::Error && kind == CastKind::MayLose;
        let saturate = (saturate || on_loss == OnLoss::Saturate) && kind != CastKind::Exact;
        let route = Route::new(a, b, Mode { checked: counted, saturate }, Level::best())?;
        Some(Convert { route, lift })
    }

    /// The kernel that is all there is to it, where it is one.
    pub(super) fn one(&self) -> Option<Kernel> {
        match (self.lift, self.route) {
            (Lift::Real, Route::One(kernel)) => Some(kernel),
            _ => None,
        }
    }

    /// Converts `n` elements and returns how many lost something.
    ///
    /// # Safety
    ///
    /// * `src` is readable for `n` compact elements, initialised, at any alignment.
    /// * `dst` is writable for `n` compact elements, at any alignment, and does not overlap `src`.
    pub(super) unsafe fn run(&self, dst: *mut u8, src: *const u8, n: usize) -> usize {
        match self.lift {
            // SAFETY: the caller's guarantees, unchanged.
            Lift::Real => unsafe { self.route.run(dst, src, n) },
            // SAFETY: a complex element is two components next to each other, on both sides.
            Lift::Pairs => unsafe { self.route.run(dst, src, n * 2) },
            Lift::ZeroImag { from, to } => {
                let mut real = [MaybeUninit::<u64>::uninit(); CHUNK];
                let real = real.as_mut_ptr().cast::<u8>();
                let mut lost = 0;
                for start in (0..n).step_by(CHUNK) {
                    let m = CHUNK.min(n - start);
                    // SAFETY: `start + m <= n` elements are readable in `src`; `real` holds CHUNK values of at most
                    // 8 bytes, and `dst` has two components for each element.
                    unsafe {
                        lost += self.route.run(real, src.add(start * from), m);
                        let out = dst.add(start * to * 2);
                        match to {
                            2 => interleave_zeros::<2>(out, real, m),
                            4 => interleave_zeros::<4>(out, real, m),
                            _ => interleave_zeros::<8>(out, real, m),
                        }
                    }
                }
                lost
            }
            Lift::AnyPart { from } => {
                let mut parts = [MaybeUninit::<u8>::uninit(); CHUNK];
                let parts = parts.as_mut_ptr().cast::<u8>();
                for start in (0..n).step_by(CHUNK / 2) {
                    let m = (CHUNK / 2).min(n - start);
                    // SAFETY: `2 * m` components of `src` are readable, `parts` holds CHUNK bytes of which the
                    // route writes `2 * m`, and `dst` has a byte for each element.
                    unsafe {
                        self.route.run(parts, src.add(start * from * 2), m * 2);
                        for i in 0..m {
                            dst.add(start + i).write(parts.add(2 * i).read() | parts.add(2 * i + 1).read());
                        }
                    }
                }
                0
            }
        }
    }
}

/// # Safety
///
/// `src` is readable for `n` values of `N` bytes, `dst` writable for twice as many, without overlap.
unsafe fn interleave_zeros<const N: usize>(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: the caller's guarantee; byte arrays have alignment 1.
    let (dst, src) = unsafe {
        (
            std::slice::from_raw_parts_mut(dst.cast::<[MaybeUninit<[u8; N]>; 2]>(), n),
            std::slice::from_raw_parts(src.cast::<[u8; N]>(), n),
        )
    };
    for (d, s) in dst.iter_mut().zip(src) {
        *d = [MaybeUninit::new(*s), MaybeUninit::new([0; N])];
    }
}

impl Route {
    fn new(from: Scalar, to: Scalar, mode: Mode, level: Level) -> Option<Route> {
        if from == to {
            return Some(Route::Same(from.size()));
        }
        if let Some(kernel) = direct(from, to, mode, level) {
            return Some(Route::One(kernel));
        }
        let narrow = |s: Scalar| matches!(s, Scalar::F16 | Scalar::BF16 | Scalar::Mini(_));
        // Every value of a narrow float is an f32, and NumPy and ml_dtypes go through f32 to reach one.
        let mid = if narrow(from) || narrow(to) {
            Scalar::F32
        } else if matches!(from, Scalar::Bits(..)) || matches!(to, Scalar::Bits(..)) {
            Scalar::Int(true, 32)
        } else {
            Scalar::Int(false, 8)
        };
        Some(Route::Two {
            first: direct(from, mid, mode, level)?,
            second: direct(mid, to, mode, level)?,
            from: from.size(),
            to: to.size(),
        })
    }

    /// # Safety
    ///
    /// As for [`Convert::run`], in scalars.
    unsafe fn run(&self, dst: *mut u8, src: *const u8, n: usize) -> usize {
        match *self {
            // SAFETY: the caller guarantees `n` scalars of `size` bytes on each side, without overlap.
            Route::Same(size) => unsafe {
                std::ptr::copy_nonoverlapping(src, dst, n * size);
                0
            },
            // SAFETY: the caller's guarantees are the kernel's.
            Route::One(kernel) => unsafe { kernel.run(dst, src, n) },
            Route::Two { first, second, from, to } => {
                let mut between = Between([MaybeUninit::uninit(); CHUNK]);
                let mid = between.0.as_mut_ptr().cast::<u8>();
                let mut lost = 0;
                for start in (0..n).step_by(CHUNK) {
                    let m = CHUNK.min(n - start);
                    // SAFETY: `start + m <= n`, so both runs lie inside the caller's; `mid` holds CHUNK values of at
                    // most 4 bytes, `first` writes `m` of them before `second` reads them.
                    unsafe {
                        let (src, dst) = (src.add(start * from), dst.add(start * to));
                        let a = first.run(mid, src, m);
                        let b = second.run(dst, mid, m);
                        lost += if a != 0 && b != 0 {
                            recount(first, second, (dst, mid, src), (from, to), m)
                        } else {
                            a + b
                        };
                    }
                }
                lost
            }
        }
    }
}

/// Counts elements that lose in either step once: both steps found some, perhaps the same ones.
///
/// # Safety
///
/// As for [`Convert::run`]; `mid` has room for one value of the type between.
#[cold]
unsafe fn recount(
    first: Kernel,
    second: Kernel,
    (dst, mid, src): (*mut u8, *mut u8, *const u8),
    (from, to): (usize, usize),
    n: usize,
) -> usize {
    let lost = |i: &usize| {
        // SAFETY: one element of the caller's runs.
        unsafe { (first.run(mid, src.add(i * from), 1) | second.run(dst.add(i * to), mid, 1)) != 0 }
    };
    (0..n).filter(lost).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KNOWN_DTYPES;

    #[test]
    fn every_pair_that_cast_kind_promises_has_a_route_and_no_other() {
        for &from in KNOWN_DTYPES {
            for &to in KNOWN_DTYPES {
                for on_loss in [OnLoss::Error, OnLoss::Allow] {
                    let complex_to_real = from.is_complex() && !to.is_complex() && !to.is_bool();
                    let promised = cast_kind(from, to) != CastKind::Unsupported && !complex_to_real;
                    assert_eq!(Convert::new(from, to, on_loss, false).is_some(), promised, "{from} -> {to}");
                }
            }
        }
    }
}
