//! The functions of the driver that are used, resolved at once.

use std::error::Error;
use std::ffi::{OsStr, c_char, c_int, c_uint};

use libloading::Library;

use super::{Status, Unavailable};

macro_rules! symbols {
    ($($field:ident = $name:literal: fn($($arg:ty),*);)*) => {
        /// The driver's functions. A table exists only where all of them do.
        #[derive(Copy, Clone)]
        pub(super) struct Symbols {
            $(pub(super) $field: unsafe extern "C" fn($($arg),*) -> Status,)*
        }

        impl Symbols {
            /// Opens a library, for the life of the process, and resolves every function.
            ///
            /// # Safety
            ///
            /// * Running the library's initialisers is sound.
            /// * Where it has functions of these names, they have the signatures of `cuda.h`.
            pub(super) unsafe fn open(path: &OsStr) -> Result<Symbols, Unavailable> {
                // SAFETY: the caller vouches for the initialisers.
                let opened = unsafe { Library::new(path) };
                let library = opened.map_err(|error| Unavailable::NoLibrary(loader_text(path, &error)))?;
                let mut missing = Vec::new();
                // SAFETY: the caller vouches for the signatures.
                $(let $field = unsafe {
                    library.get::<unsafe extern "C" fn($($arg),*) -> Status>(concat!($name, "\0"))
                };
                let $field = $field.map(|symbol| *symbol).map_err(|_| missing.push($name));)*
                // All or none: the table is built only when nothing is missing.
                let ($(Ok($field),)*) = ($($field,)*) else {
                    // The library is a foreign one, but it may have started threads: it stays open too.
                    std::mem::forget(library);
                    return Err(Unavailable::MissingSymbol {
                        library: path.to_string_lossy().into_owned(),
                        symbols: missing,
                    });
                };
                // Never closed: the pointers must stay valid, and so must what the driver registered to run at exit.
                std::mem::forget(library);
                Ok(Symbols { $($field,)* })
            }
        }
    };
}

/// What the system's loader said. `libloading` keeps it as the source of an error that says only "dlopen failed".
fn loader_text(path: &OsStr, error: &libloading::Error) -> String {
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let path = path.to_string_lossy();
    // glibc begins with the path, other loaders do not say it at all.
    if text.contains(&*path) { text } else { format!("{path}: {text}") }
}

// `CUdevice` is an `int`, sizes are `size_t`; `_v2` names are those that `cuda.h` maps the plain ones to.
symbols! {
    init = "cuInit": fn(c_uint);
    driver_get_version = "cuDriverGetVersion": fn(*mut c_int);
    device_get_count = "cuDeviceGetCount": fn(*mut c_int);
    device_get = "cuDeviceGet": fn(*mut c_int, c_int);
    device_get_name = "cuDeviceGetName": fn(*mut c_char, c_int, c_int);
    device_total_mem = "cuDeviceTotalMem_v2": fn(*mut usize, c_int);
}
