//! Versions.

use std::ffi::{CStr, c_char};

use freehold::dlpack::{self, DLPackVersion};

/// The number of this interface.
pub const FH_ABI_VERSION: u32 = 1;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no NUL"),
};

/// The interface's number.
#[unsafe(no_mangle)]
pub extern "C" fn fh_abi_version() -> u32 {
    FH_ABI_VERSION
}

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn fh_version_string() -> *const c_char {
    VERSION.as_ptr()
}

/// The highest DLPack version.
#[unsafe(no_mangle)]
pub extern "C" fn fh_dlpack_version() -> DLPackVersion {
    let (major, minor) = dlpack::VERSION;
    DLPackVersion { major, minor }
}
