//! Drivers that are older: copies of the library whose table of names lacks some.
//!
//! `dlsym` finds a function by the hash of its name, then compares the name. In the copy the name is another one with the
//! old hash, so that it is found under neither.

use std::ffi::CStr;
use std::io::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file that this code is in.
pub fn own_file() -> Result<PathBuf> {
    // SAFETY: zeroes are a valid `Dl_info`.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here = own_file as fn() -> Result<PathBuf> as *const libc::c_void;
    // SAFETY: an address, and a place of ours.
    if unsafe { libc::dladdr(here, &raw mut info) } == 0 || info.dli_fname.is_null() {
        return Err(Error::other("the loader does not know where this library is from"));
    }
    // SAFETY: the loader's own text.
    let path = unsafe { CStr::from_ptr(info.dli_fname) };
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

/// Writes a copy of a library in which no function of these names is found.
///
/// # Errors
///
/// A name that is not there, or what the system says.
pub fn write_without(from: &Path, to: &Path, functions: &[&str]) -> Result<()> {
    let mut file = std::fs::read(from)?;
    let (start, len) = names(&file).ok_or_else(|| Error::other("the library has no table of names"))?;
    for function in functions {
        let table = &file[start..start + len];
        let wanted = [b"\0", function.as_bytes(), b"\0"].concat();
        let at = table.windows(wanted.len()).position(|window| window == wanted);
        let at = at.ok_or_else(|| Error::other(format!("the library has no function {function}")))?;
        file[start + at + 1] = b'~';
    }
    std::fs::write(to, file)
}

/// Where the names of a library's dynamic symbols are in its file: the section `.dynstr` of a 64-bit ELF file.
fn names(file: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize, len: usize| {
        let bytes = file.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0_usize, |n, &byte| n << 8 | byte as usize))
    };
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(40, 8)?, number(58, 2)?, number(60, 2)?);
    let section = |i: usize| -> Option<(usize, usize, usize)> {
        let at = table + i * size;
        Some((number(at, 4)?, number(at + 24, 8)?, number(at + 32, 8)?))
    };
    let (_, strings, _) = section(number(62, 2)?)?;
    (0..count).filter_map(section).find_map(|(name, offset, len)| {
        let name = file.get(strings + name..)?;
        let inside = offset.checked_add(len).is_some_and(|end| end <= file.len());
        (name.starts_with(b".dynstr\0") && inside).then_some((offset, len))
    })
}
