//! The results of `cuda.h` that this driver gives.

/// A `CUresult`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Status(pub i32);

/// What the body of a driver function gives.
pub type Outcome<T = ()> = Result<T, Status>;

macro_rules! statuses {
    ($($name:ident = $value:literal: $says:literal;)*) => {
        impl Status {
            $(
                #[doc = $says]
                pub const $name: Status = Status($value);
            )*

            /// The name in `cuda.h`, ended by a NUL, and a sentence about it.
            pub fn text(self) -> Option<(&'static str, &'static str)> {
                match self.0 {
                    0 => Some(("CUDA_SUCCESS\0", "no error\0")),
                    $($value => Some((concat!("CUDA_ERROR_", stringify!($name), "\0"), concat!($says, "\0"))),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    INVALID_VALUE = 1: "invalid argument";
    OUT_OF_MEMORY = 2: "out of memory";
    NOT_INITIALIZED = 3: "initialization error";
    DEINITIALIZED = 4: "driver shutting down";
    STUB_LIBRARY = 34: "CUDA driver is a stub library";
    NO_DEVICE = 100: "no CUDA-capable device is detected";
    INVALID_DEVICE = 101: "invalid device ordinal";
    INVALID_IMAGE = 200: "device kernel image is invalid";
    INVALID_CONTEXT = 201: "invalid device context";
    NO_BINARY_FOR_GPU = 209: "no kernel image is available for execution on the device";
    INVALID_PTX = 218: "a PTX JIT compilation failed";
    UNSUPPORTED_PTX_VERSION = 222: "the provided PTX was compiled with an unsupported toolchain";
    OPERATING_SYSTEM = 304: "OS call failed or operation not supported on this OS";
    INVALID_HANDLE = 400: "invalid resource handle";
    ILLEGAL_STATE = 401: "the operation cannot be performed in the present state";
    NOT_FOUND = 500: "named symbol not found";
    NOT_READY = 600: "device not ready";
    ILLEGAL_ADDRESS = 700: "an illegal memory access was encountered";
    LAUNCH_OUT_OF_RESOURCES = 701: "too many resources requested for launch";
    LAUNCH_TIMEOUT = 702: "the launch timed out and was terminated";
    PEER_ACCESS_ALREADY_ENABLED = 704: "peer access is already enabled";
    PEER_ACCESS_NOT_ENABLED = 705: "peer access has not been enabled";
    CONTEXT_IS_DESTROYED = 709: "context is destroyed";
    MISALIGNED_ADDRESS = 716: "misaligned address";
    LAUNCH_FAILED = 719: "unspecified launch failure";
    NOT_PERMITTED = 800: "operation not permitted";
    NOT_SUPPORTED = 801: "operation not supported";
    STREAM_CAPTURE_UNSUPPORTED = 900: "operation not permitted when stream is capturing";
    STREAM_CAPTURE_INVALIDATED = 901: "operation failed due to a previous error during capture";
    STREAM_CAPTURE_MERGE = 902: "operation would result in a merge of separate capture sequences";
    STREAM_CAPTURE_UNMATCHED = 903: "capture was not ended in the same stream as it began";
    STREAM_CAPTURE_UNJOINED = 904: "capturing stream has unjoined work";
    STREAM_CAPTURE_ISOLATION = 905: "dependency created on uncaptured work in another stream";
    STREAM_CAPTURE_IMPLICIT = 906: "operation would make the legacy stream depend on a capturing blocking stream";
    CAPTURED_EVENT = 907: "operation not permitted on an event last recorded in a capturing stream";
    STREAM_CAPTURE_WRONG_THREAD = 908: "attempt to terminate a thread-local capture sequence from another thread";
    UNKNOWN = 999: "unknown error";
}
