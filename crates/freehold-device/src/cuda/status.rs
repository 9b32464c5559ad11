//! The driver's answers, and why there is no driver to use.

use std::fmt;

/// A `CUresult` as an open set of integers: drivers add codes, and an unknown one must print, not be undefined
/// behaviour.
///
/// ```
/// use freehold_device::cuda::Status;
///
/// assert_eq!(Status::NO_DEVICE.to_string(), "CUDA_ERROR_NO_DEVICE (100)");
/// assert_eq!(Status(4242).name(), None);
/// assert_eq!(Status(4242).to_string(), "CUresult 4242");
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(pub i32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Status = Status($value);)*

            /// The name that `cuda.h` gives the code, where this version knows it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

statuses! {
    /// The call succeeded.
    SUCCESS = 0, "CUDA_SUCCESS";
    /// An argument is not valid.
    INVALID_VALUE = 1, "CUDA_ERROR_INVALID_VALUE";
    /// The device or the driver is out of memory.
    OUT_OF_MEMORY = 2, "CUDA_ERROR_OUT_OF_MEMORY";
    /// `cuInit` was not called, or was called before a fork.
    NOT_INITIALIZED = 3, "CUDA_ERROR_NOT_INITIALIZED";
    /// The driver is shutting down with the process.
    DEINITIALIZED = 4, "CUDA_ERROR_DEINITIALIZED";
    /// The library is the toolkit's stub for linking, not a driver.
    STUB_LIBRARY = 34, "CUDA_ERROR_STUB_LIBRARY";
    /// The device is held by another process.
    DEVICE_UNAVAILABLE = 46, "CUDA_ERROR_DEVICE_UNAVAILABLE";
    /// No device that CUDA can use.
    NO_DEVICE = 100, "CUDA_ERROR_NO_DEVICE";
    /// The index is not that of a device.
    INVALID_DEVICE = 101, "CUDA_ERROR_INVALID_DEVICE";
    /// There is no current context, or it is not valid.
    INVALID_CONTEXT = 201, "CUDA_ERROR_INVALID_CONTEXT";
    /// A handle is not valid, or of another context.
    INVALID_HANDLE = 400, "CUDA_ERROR_INVALID_HANDLE";
    /// A name was not found.
    NOT_FOUND = 500, "CUDA_ERROR_NOT_FOUND";
    /// What was queued is not done yet: no failure.
    NOT_READY = 600, "CUDA_ERROR_NOT_READY";
    /// A kernel touched memory that is not there; the context is lost.
    ILLEGAL_ADDRESS = 700, "CUDA_ERROR_ILLEGAL_ADDRESS";
    /// Access between these two devices was enabled before.
    PEER_ACCESS_ALREADY_ENABLED = 704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED";
    /// A kernel failed; the context is lost.
    LAUNCH_FAILED = 719, "CUDA_ERROR_LAUNCH_FAILED";
    /// The call is not allowed here, such as inside a host function of a stream.
    NOT_PERMITTED = 800, "CUDA_ERROR_NOT_PERMITTED";
    /// The device or the driver does not have this.
    NOT_SUPPORTED = 801, "CUDA_ERROR_NOT_SUPPORTED";
    /// Not possible while a stream is captured into a graph.
    STREAM_CAPTURE_UNSUPPORTED = 900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    /// The capture was broken by an earlier call.
    STREAM_CAPTURE_INVALIDATED = 901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    /// The legacy stream would wait for a stream that is captured.
    STREAM_CAPTURE_IMPLICIT = 906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT";
    /// A call to the operating system failed.
    OPERATING_SYSTEM = 304, "CUDA_ERROR_OPERATING_SYSTEM";
    /// The machine (its fabric manager, say) is not ready.
    SYSTEM_NOT_READY = 802, "CUDA_ERROR_SYSTEM_NOT_READY";
    /// The kernel module and the library are of different versions.
    SYSTEM_DRIVER_MISMATCH = 803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH";
    /// Forward compatibility is installed on hardware that has none.
    COMPAT_NOT_SUPPORTED_ON_DEVICE = 804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE";
    /// An internal error of the driver.
    UNKNOWN = 999, "CUDA_ERROR_UNKNOWN";
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "CUresult {}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why CUDA cannot be used here.
///
/// ```
/// use freehold_device::cuda::{Driver, Unavailable};
///
/// // SAFETY: there is no such library, so nothing of it runs.
/// let why = unsafe { Driver::load("no-such-driver.so") }.unwrap_err();
/// assert!(matches!(why, Unavailable::NoLibrary(_)));
/// assert!(why.to_string().starts_with("the CUDA driver library could not be loaded: no-such-driver.so"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The driver library could not be opened. The text is the loader's.
    NoLibrary(String),
    /// The library lacks functions that every supported driver has.
    MissingSymbol {
        /// The library as it was opened.
        library: String,
        /// Every function that is missing.
        symbols: Vec<&'static str>,
    },
    /// `cuInit` failed.
    InitFailed(Status),
    /// The driver works and has no device to offer.
    NoDevice,
    /// A query failed after `cuInit` had succeeded.
    QueryFailed {
        /// The function of the driver.
        function: &'static str,
        /// What it returned.
        status: Status,
    },
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NoLibrary(text) => write!(f, "the CUDA driver library could not be loaded: {text}"),
            Unavailable::MissingSymbol { library, symbols } => {
                write!(f, "{library} is not a CUDA driver that can be used: it lacks {}", symbols.join(", "))
            }
            Unavailable::InitFailed(status) => write!(f, "the CUDA driver did not start: cuInit returned {status}"),
            Unavailable::NoDevice => f.write_str("the CUDA driver found no device"),
            Unavailable::QueryFailed { function, status } => {
                write!(f, "the CUDA driver failed: {function} returned {status}")
            }
        }
    }
}

impl std::error::Error for Unavailable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_codes_print() {
        assert_eq!(Status::STUB_LIBRARY.to_string(), "CUDA_ERROR_STUB_LIBRARY (34)");
        assert_eq!(Status(-7).to_string(), "CUresult -7");
        assert_eq!(
            Unavailable::InitFailed(Status(4242)).to_string(),
            "the CUDA driver did not start: cuInit returned CUresult 4242"
        );
    }
}
