//! The kernels of casts that need nothing but one kernel, by dtype pair: small copies look here first, since to choose a kernel, or
//! to find it among a thread's, takes longer than to convert what they have.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::convert::Convert;
use super::kernel::{Kernel, Values};
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

/// A kernel, or that there is none, in words that are zero until somebody asked: in what it fills, a table costs no file and no
/// memory. What a place holds depends on nothing but its index, so that threads that fill one at a time write the same.
struct Place {
    /// Null where nobody asked yet. Written last.
    convert: AtomicPtr<()>,
    /// Null where nothing can be lost.
    count: AtomicPtr<()>,
    facts: AtomicU64,
}

static KERNELS: [Place; LEVELS * MODES * DTYPES * DTYPES] = [const {
    let null = std::ptr::null_mut;
    Place { convert: AtomicPtr::new(null()), count: AtomicPtr::new(null()), facts: AtomicU64::new(0) }
}; LEVELS * MODES * DTYPES * DTYPES];

/// What [`Place::convert`] is where there is no kernel.
const fn none() -> *mut () {
    std::ptr::without_provenance_mut(1)
}

impl Place {
    /// The kernel, if somebody asked.
    #[inline(always)]
    fn get(&self) -> Option<Option<Kernel>> {
        let convert = self.convert.load(Ordering::Acquire);
        if convert.is_null() {
            return None;
        }
        if convert == none() {
            return Some(None);
        }
        let (count, facts) = (self.count.load(Ordering::Relaxed), self.facts.load(Ordering::Relaxed));
        // SAFETY: `set` alone writes here, in this order: addresses of loops, and null for no `count`, which is what `None` is.
        let (convert, count) = unsafe {
            (std::mem::transmute::<*mut (), Values>(convert), std::mem::transmute::<*mut (), Option<Values>>(count))
        };
        Some(Some(Kernel::from_facts(convert, count, facts)))
    }

    fn set(&self, kernel: Option<Kernel>) {
        if let Some(kernel) = kernel {
            self.count.store(kernel.count.map_or(std::ptr::null_mut(), |count| count as *mut ()), Ordering::Relaxed);
            self.facts.store(kernel.facts(), Ordering::Relaxed);
        }
        self.convert.store(kernel.map_or(none(), |kernel| kernel.convert as *mut ()), Ordering::Release);
    }
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
    place.get().unwrap_or_else(|| ask(place, (from, to), on_loss, saturate))
}

#[cold]
fn ask(place: &Place, (from, to): (DType, DType), on_loss: OnLoss, saturate: bool) -> Option<Kernel> {
    let refused = cast_kind(from, to) == CastKind::TruthOrReal && on_loss == OnLoss::Error;
    let convert = if refused { None } else { Convert::new(from, to, on_loss, saturate) };
    let kernel = convert.and_then(|convert| convert.one());
    place.set(kernel);
    kernel
}
