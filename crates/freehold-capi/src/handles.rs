//! Handles: what a caller holds of us, and how a wrong one is told from a right one.
//!
//! A handle is the address of what it names, and everything that one may name has its kind at one place: a handle of
//! another kind is refused for the price of a load. Whether it was given back already cannot be told from an address.
//! So with `FREEHOLD_CHECK_HANDLES=1`, and in builds with debug assertions unless it is 0, handles are *tickets*: a number of
//! the table below, and how often that number was given out before. A ticket is odd, which an address never is, so that
//! looking for one costs nothing where there are none.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use freehold::Tensor;

use crate::args::{are_places, bad_pointer, invalid};
use crate::guard::Outcome;

/// What a handle may name.
///
/// # Safety
///
/// * The type begins with a [`Head`] of its kind, or with bytes that can be read as one, and its alignment is at least 8.
///   To C it is opaque: `cfg_attr(all(), repr(C))` says the order of its fields to rustc, and nothing to cbindgen, whose reading
///   `tests/header.rs` compares with the headers.
pub(crate) unsafe trait Handle: Sized {
    /// The name in C, for messages.
    const NAME: &'static str;
    /// No two types have the same.
    const KIND: u16;
}

/// The first eight bytes behind every handle.
#[repr(C, align(8))]
pub(crate) struct Head {
    others: [u16; 3],
    kind: u16,
}

impl Head {
    pub(crate) const fn of<T: Handle>() -> Head {
        Head { others: [0; 3], kind: T::KIND }
    }
}

const _: () = assert!(std::mem::offset_of!(Head, kind) == Tensor::HANDLE_KIND_OFFSET && size_of::<usize>() == 8);

/// The kinds, and their names in messages. That of a tensor is the crate `freehold`'s.
pub(crate) const ERROR: u16 = 0x4652;
pub(crate) const DECISION: u16 = 0x4644;
pub(crate) const RUNTIME: u16 = 0x4655;
const NAMES: [(u16, &str); 4] = [
    (Tensor::HANDLE_KIND, "an fh_tensor"),
    (ERROR, "an fh_error"),
    (DECISION, "an fh_decision"),
    (RUNTIME, "an fh_runtime"),
];

fn name_of(kind: u16) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

/// What is to become of a handle's hold.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Look,
    Hold,
    GiveUp,
}

/// A number of the table.
struct Place {
    /// How often it was given out.
    generation: u32,
    kind: u16,
    /// How many must give it up; 0: it is free.
    holds: u32,
    at: *mut c_void,
}

struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
}

// SAFETY: the addresses are of handles, which may be used on any thread.
unsafe impl Send for Table {}

static TABLE: Mutex<Table> = Mutex::new(Table { places: Vec::new(), free: Vec::new() });

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

const UNASKED: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;
static CHECKS: AtomicU8 = AtomicU8::new(UNASKED);

/// Whether handles are tickets. The first handle decides for the life of the process.
#[inline]
fn checked() -> bool {
    // Relaxed: nothing is published with it, and who asks twice gets one answer.
    CHECKS.load(Ordering::Relaxed) != OFF && ask() == ON
}

/// Whether the first handle, which decides, was an address. `false` says nothing.
#[inline]
pub(crate) fn are_addresses() -> bool {
    CHECKS.load(Ordering::Relaxed) == OFF
}

#[cold]
#[inline(never)]
fn ask() -> u8 {
    static ANSWER: OnceLock<u8> = OnceLock::new();
    let answer = *ANSWER.get_or_init(|| match std::env::var("FREEHOLD_CHECK_HANDLES").as_deref().map(str::trim) {
        Ok("1") => ON,
        Ok("0") => OFF,
        _ if cfg!(debug_assertions) => ON,
        _ => OFF,
    });
    CHECKS.store(answer, Ordering::Relaxed);
    answer
}

impl Table {
    fn insert(&mut self, kind: u16, at: *mut c_void) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, kind, holds: 0, at: ptr::null_mut() });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[number as usize];
        *place = Place { generation: place.generation + 1, kind, holds: 1, at };
        (place.generation as usize) << 32 | (number as usize) << 1 | 1
    }

    /// What a ticket names, or what is wrong with it.
    fn find(&mut self, ticket: usize, kind: u16, what: Use) -> Result<*mut c_void, String> {
        let (number, generation) = ((ticket & 0xFFFF_FFFF) >> 1, (ticket >> 32) as u32);
        let place = self.places.get_mut(number).filter(|place| ticket & 1 == 1 && generation <= place.generation);
        let Some(place) = place.filter(|_| generation != 0) else {
            return Err(format!("{ticket:#x}, which no call gave out"));
        };
        if generation != place.generation || place.holds == 0 {
            return Err(format!("{ticket:#x}, which was given back"));
        }
        if place.kind != kind {
            return Err(name_of(place.kind).unwrap_or("another handle").to_owned());
        }
        match what {
            Use::Look => {}
            Use::Hold => place.holds = place.holds.saturating_add(1),
            Use::GiveUp => {
                place.holds -= 1;
                // A generation is not used twice: a place that has none left stays empty.
                if place.holds == 0 && place.generation < u32::MAX {
                    self.free.push(number as u32);
                }
            }
        }
        Ok(self.places[number].at)
    }
}

/// A handle on what is there from now on; its first hold is the caller's.
#[inline]
pub(crate) fn hand_out<T: Handle>(at: NonNull<T>) -> *mut T {
    if checked() { ticket(T::KIND, at.cast()).cast() } else { at.as_ptr() }
}

#[cold]
#[inline(never)]
fn ticket(kind: u16, at: NonNull<c_void>) -> *mut c_void {
    ptr::without_provenance_mut(table().insert(kind, at.as_ptr()))
}

/// What a handle names.
///
/// # Safety
///
/// * A handle that is an address (neither NULL nor misaligned) points to something of ours that lives.
#[inline]
pub(crate) unsafe fn find<T: Handle>(handle: *const T, name: &str) -> Outcome<NonNull<T>> {
    // SAFETY: forwarded from the caller.
    unsafe { seek(handle.cast_mut(), name, Use::Look) }
}

/// The same, for a caller who makes another hold on it.
///
/// # Safety
///
/// As [`find`].
#[inline]
pub(crate) unsafe fn hold<T: Handle>(handle: *const T, name: &str) -> Outcome<NonNull<T>> {
    // SAFETY: forwarded from the caller.
    unsafe { seek(handle.cast_mut(), name, Use::Hold) }
}

/// What the caller of a `_free` or `_release` gives up; nothing for NULL. What is wrong with it goes to the log, as these
/// return nothing.
///
/// # Safety
///
/// As [`find`].
#[inline]
pub(crate) unsafe fn give_up<T: Handle>(handle: *mut T) -> Option<NonNull<T>> {
    // SAFETY: forwarded from the caller.
    unsafe { plain(handle).or_else(|| give_up_slowly(handle.cast(), T::KIND, T::NAME).map(NonNull::cast)) }
}

/// # Safety
///
/// As [`find`].
#[cold]
#[inline(never)]
unsafe fn give_up_slowly(handle: *mut c_void, kind: u16, type_name: &str) -> Option<NonNull<c_void>> {
    if handle.is_null() {
        return None;
    }
    // SAFETY: forwarded from the caller.
    let found = unsafe { seek_ticket(handle, kind, type_name, type_name, Use::GiveUp) };
    found.inspect_err(misuse).ok()
}

#[cold]
#[inline(never)]
fn misuse(failure: &crate::guard::Failure) {
    let text = failure.error.to_string();
    tracing::warn!(target: "freehold", note = text.lines().next().unwrap_or_default(), "freehold.misuse");
}

/// A handle that is the address of something of ours, of whatever kind, if it is not used wrongly; `None` says nothing.
#[inline(always)]
pub(crate) fn address<T: Handle>(handle: *mut T) -> Option<NonNull<T>> {
    if !are_places(handle, handle) {
        return None;
    }
    // SAFETY: NULL is no place.
    let at = unsafe { NonNull::new_unchecked(handle) };
    if align_of::<T>() > 8 && !at.is_aligned() {
        return None;
    }
    // In builds with debug assertions an address is not taken for a handle where there are tickets.
    if cfg!(debug_assertions) && checked() { None } else { Some(at) }
}

/// What an address of the right kind names; `None` says nothing.
///
/// # Safety
///
/// As [`find`].
#[inline]
pub(crate) unsafe fn plain<T: Handle>(handle: *mut T) -> Option<NonNull<T>> {
    let at = address(handle)?;
    // SAFETY: the caller says that something of ours is there, and all of that begins with its kind.
    let kind = unsafe { at.cast::<u8>().add(Tensor::HANDLE_KIND_OFFSET).cast::<u16>().read() };
    (kind == T::KIND).then_some(at)
}

/// # Safety
///
/// As [`find`].
#[inline]
unsafe fn seek<T: Handle>(handle: *mut T, name: &str, what: Use) -> Outcome<NonNull<T>> {
    // SAFETY: forwarded from the caller.
    match unsafe { plain(handle) } {
        Some(at) => Ok(at),
        // SAFETY: forwarded from the caller.
        None => unsafe { seek_ticket(handle.cast(), T::KIND, T::NAME, name, what) }.map(NonNull::cast),
    }
}

/// # Safety
///
/// As [`find`].
#[cold]
#[inline(never)]
unsafe fn seek_ticket(
    handle: *mut c_void,
    kind: u16,
    type_name: &str,
    name: &str,
    what: Use,
) -> Outcome<NonNull<c_void>> {
    let must = format!("be a live {type_name}");
    let address = handle.addr();
    if address == 0 {
        return Err(bad_pointer(address, 8, name));
    }
    if checked() {
        let found = table().find(address, kind, what);
        // Of a place in use, so not NULL.
        return found.map(|at| NonNull::new(at).expect("given out")).map_err(|wrong| invalid(name, wrong, &must));
    }
    if !address.is_multiple_of(8) {
        return Err(bad_pointer(address, 8, name));
    }
    // SAFETY: the caller says that something of ours is there.
    let other = unsafe { handle.byte_add(Tensor::HANDLE_KIND_OFFSET).cast::<u16>().read() };
    // An address above 2^63 (memory whose addresses carry tags) comes here with the right kind.
    if other == kind
        && let Some(at) = NonNull::new(handle)
    {
        return Ok(at);
    }
    let wrong = name_of(other).map_or_else(|| format!("{address:#x}, which is none"), str::to_owned);
    Err(invalid(name, wrong, &must))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: usize) -> *mut c_void {
        ptr::without_provenance_mut(n * 8)
    }

    #[test]
    fn a_ticket_is_good_for_as_long_as_it_is_held() {
        let mut table = Table { places: Vec::new(), free: Vec::new() };
        let first = table.insert(ERROR, place(1));
        let other = table.insert(DECISION, place(2));
        assert!(first % 2 == 1 && other % 2 == 1 && first != other);
        assert_eq!(table.find(first, ERROR, Use::Look), Ok(place(1)));
        assert_eq!(table.find(other, ERROR, Use::GiveUp), Err("an fh_decision".to_owned()));
        assert_eq!(table.find(first, ERROR, Use::Hold), Ok(place(1)));
        assert_eq!(table.find(first, ERROR, Use::GiveUp), Ok(place(1)));
        assert_eq!(table.find(first, ERROR, Use::GiveUp), Ok(place(1)));
        for what in [Use::Look, Use::Hold, Use::GiveUp] {
            assert!(table.find(first, ERROR, what).unwrap_err().contains("was given back"));
        }
        // The place is used again, and the old ticket is none for it.
        let second = table.insert(ERROR, place(3));
        assert_eq!(second & 0xFFFF_FFFF, first & 0xFFFF_FFFF);
        assert!(table.find(first, ERROR, Use::Look).unwrap_err().contains("was given back"));
        assert_eq!(table.find(second, ERROR, Use::Look), Ok(place(3)));
        for wrong in [1, 2, second + 1, second + (1 << 32), 99 << 33 | 1, usize::MAX] {
            assert!(table.find(wrong, ERROR, Use::Look).unwrap_err().contains("no call gave out"), "{wrong:#x}");
        }
    }

    #[test]
    fn a_place_without_generations_is_not_used_again() {
        let mut table = Table { places: Vec::new(), free: Vec::new() };
        table.insert(ERROR, place(1));
        table.places[0].generation = u32::MAX;
        let last = (u32::MAX as usize) << 32 | 1;
        assert_eq!(table.find(last, ERROR, Use::GiveUp), Ok(place(1)));
        assert_eq!(table.insert(ERROR, place(2)) & 0xFFFF_FFFF, 3);
    }
}
