//! Plain structs that begin with their size: how programs and libraries of different versions understand each other.

use std::mem::MaybeUninit;
use std::ptr;

use crate::args::{invalid, output};
use crate::guard::Outcome;

/// A struct that begins with a `u32` size in bytes.
///
/// # Safety
///
/// * The type is `repr(C)`, its first field is the `u32`, its alignment is 8.
/// * All bits 0 are a value; so are any bits that a C program can write into its fields.
pub(crate) unsafe trait Sized32: Copy {
    /// The name in C, for messages.
    const NAME: &'static str;
}

/// No struct of this interface will be larger; a larger number is an uninitialised one.
const LARGEST: u32 = 4096;

fn check_size<T: Sized32>(size: u32) -> Outcome<usize> {
    // A multiple of the alignment, so that no field is cut in two.
    if !(8..=LARGEST).contains(&size) || !size.is_multiple_of(8) {
        let must = format!("be sizeof({}), {} here", T::NAME, size_of::<T>());
        return Err(invalid(&format!("{}.struct_size", T::NAME), size, &must));
    }
    Ok(size as usize)
}

/// Reads a struct of whatever version: fields that the caller does not have are 0. `None` for NULL.
///
/// # Safety
///
/// * `pointer` is NULL, misaligned, or points to a readable `u32`, and to as many readable bytes as that says if it is
///   a size of at least 8 and at most 4096.
pub(crate) unsafe fn read<T: Sized32>(pointer: *const T) -> Outcome<Option<T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    let from = output(pointer.cast_mut(), T::NAME)?.as_ptr().cast_const().cast::<u8>();
    // SAFETY: forwarded from the caller.
    let size = check_size::<T>(unsafe { from.cast::<u32>().read() })?;
    let known = size.min(size_of::<T>());
    for at in known..size {
        // SAFETY: below `size`, so readable as the caller says.
        if unsafe { from.add(at).read() } != 0 {
            let must = format!("be 0: this library knows {} bytes of it", size_of::<T>());
            return Err(invalid(&format!("byte {at} of {}", T::NAME), "set", &must));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable and fit; every other byte is 0, and the trait says that both are values.
    unsafe {
        ptr::copy_nonoverlapping(from, value.as_mut_ptr().cast::<u8>(), known);
        Ok(Some(value.assume_init()))
    }
}

/// Checks that an output struct can be written, before anything is done.
///
/// # Safety
///
/// As [`read`].
pub(crate) unsafe fn writable<T: Sized32>(pointer: *mut T) -> Outcome<usize> {
    let to = output(pointer, T::NAME)?;
    // SAFETY: forwarded from the caller.
    check_size::<T>(unsafe { to.as_ptr().cast::<u32>().read() })
}

/// Fills an output struct as far as the caller has it; its size becomes the bytes that were filled.
///
/// # Safety
///
/// * `pointer` points to `size` writable bytes, where `size` came from [`writable`].
pub(crate) unsafe fn write<T: Sized32>(pointer: *mut T, size: usize, value: T) {
    let filled = size.min(size_of::<T>());
    // SAFETY: `filled` bytes are writable as the caller says; the first four are the size.
    unsafe {
        ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), pointer.cast::<u8>(), filled);
        pointer.cast::<u32>().write(filled as u32);
    }
}

/// Reserved fields must be 0, so that a later version can give them a meaning.
pub(crate) fn check_reserved(name: &str, fields: &[u64]) -> Outcome {
    match fields.iter().find(|field| **field != 0) {
        None => Ok(()),
        Some(field) => Err(invalid(&format!("a reserved field of {name}"), field, "be 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Probe {
        struct_size: u32,
        a: u32,
        b: u64,
        c: u64,
    }

    // SAFETY: `repr(C)`, the size is first, the alignment is 8, integers only.
    unsafe impl Sized32 for Probe {
        const NAME: &'static str = "probe";
    }

    fn read_words(words: [u64; 5], size: u32) -> Outcome<Option<Probe>> {
        let mut words = words;
        words[0] = words[0] & !0xFFFF_FFFF | u64::from(size);
        // SAFETY: five words, and no test passes a valid size above 40.
        unsafe { read(words.as_ptr().cast::<Probe>()) }
    }

    #[test]
    fn sizes_of_other_versions() {
        let words = [7 << 32, 8, 9, 0, 0];
        let probe = |struct_size, b, c| Some(Probe { struct_size, a: 7, b, c });
        if cfg!(target_endian = "little") {
            assert_eq!(read_words(words, 24).ok().unwrap(), probe(24, 8, 9));
            assert_eq!(read_words(words, 16).ok().unwrap(), probe(16, 8, 0));
            assert_eq!(read_words(words, 8).ok().unwrap(), probe(8, 0, 0));
            assert_eq!(read_words(words, 40).ok().unwrap(), probe(40, 8, 9));
        }
        assert!(read_words([0, 0, 0, 0, 1], 40).is_err());
        for size in [0, 4, 12, 4104, u32::MAX] {
            assert!(read_words(words, size).is_err(), "{size}");
        }
        // SAFETY: NULL is allowed.
        assert!(unsafe { read::<Probe>(ptr::null()) }.ok().unwrap().is_none());
    }

    #[test]
    fn an_old_caller_gets_what_it_has() {
        let mut words = [16u64, 1, 2];
        let value = Probe { struct_size: 0, a: 0, b: 5, c: 6 };
        let to = words.as_mut_ptr().cast::<Probe>();
        // SAFETY: three words, of which two are said to be there.
        unsafe {
            let size = writable(to).ok().unwrap();
            write(to, size, value);
        }
        assert_eq!(words[1..], [5, 2]);
    }
}
