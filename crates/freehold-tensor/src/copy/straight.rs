//! The kernels of casts that need nothing but one kernel, by dtype pair: small copies look here first, since to choose a kernel, or
//! to find it among a thread's, takes longer than to convert what they have.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::convert::Convert;
use super::kernel::{Kernel, Loops};
use super::kind::{CastKind, cast_kind};
use super::level::Level;
use super::{CopyOptions, OnLoss};
use crate::{DType, KNOWN_DTYPES};

const DTYPES: usize = 32;
const _: () = assert!(KNOWN_DTYPES.len() <= DTYPES);

/// Values of [`OnLoss`], each saturating or not.
const MODES: usize = 6;

/// Instruction sets: tests change theirs.
const LEVELS: usize = if cfg!(test) { 4 } else { 1 };

/// Null where nobody asked yet, [`none`] where there is no such kernel. What a place holds depends on nothing but its index, so
/// that threads that fill one at a time write the same.
static KERNELS: [AtomicPtr<Loops>; LEVELS * MODES * DTYPES * DTYPES] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; LEVELS * MODES * DTYPES * DTYPES];

/// No kernel's address.
const fn none() -> *mut Loops {
    std::ptr::without_provenance_mut(1)
}

/// Codes, and sizes, that are looked up.
const LIMIT: usize = 32;
const _: () = assert!((DType::CODE_LAST as usize) < LIMIT);

/// [`DType::index`] of scalars of whole bytes by code and size, without a search.
static INDEX: [[u8; LIMIT]; LIMIT] = {
    let mut index = [[u8::MAX; LIMIT]; LIMIT];
    let mut i = 0;
    while i < KNOWN_DTYPES.len() {
        let dtype = KNOWN_DTYPES[i];
        if let Some(size) = dtype.size() {
            index[dtype.code as usize][size] = i as u8;
        }
        i += 1;
    }
    index
};

/// The kernel that is all that a cast takes between dtypes of these sizes; `None` where it takes more, or is refused.
#[inline(always)]
pub(super) fn kernel(
    (to, from): (DType, DType),
    (to_size, from_size): (usize, usize),
    options: &CopyOptions,
) -> Option<Kernel> {
    let known = usize::from(to.code | from.code) | to_size | from_size;
    if known >= LIMIT || to.lanes | from.lanes != 1 {
        return None;
    }
    let index = |dtype: DType, size: usize| usize::from(INDEX[usize::from(dtype.code) % LIMIT][size % LIMIT]);
    let (a, b) = (index(from, from_size), index(to, to_size));
    if a | b >= DTYPES {
        return None;
    }
    let CopyOptions { on_loss, saturate, .. } = *options;
    let mode = on_loss as usize * 2 + usize::from(saturate);
    let level = if cfg!(test) { Level::best() as usize } else { 0 };
    let place = &KERNELS[((level * MODES + mode) * DTYPES + a) * DTYPES + b];
    // Relaxed: the address is all there is, and what is there was before the program began.
    let known = place.load(Ordering::Relaxed);
    if known.is_null() {
        return ask(place, (from, to), on_loss, saturate);
    }
    // SAFETY: `ask` alone writes here, kernels and `none`.
    if known == none() { None } else { Some(unsafe { &*known }) }
}

#[cold]
fn ask(place: &AtomicPtr<Loops>, (from, to): (DType, DType), on_loss: OnLoss, saturate: bool) -> Option<Kernel> {
    let refused = cast_kind(from, to) == CastKind::TruthOrReal && on_loss == OnLoss::Error;
    let convert = if refused { None } else { Convert::new(from, to, on_loss, saturate) };
    let kernel = convert.and_then(|convert| convert.one());
    place.store(kernel.map_or(none(), |kernel| std::ptr::from_ref(kernel).cast_mut()), Ordering::Relaxed);
    kernel
}
