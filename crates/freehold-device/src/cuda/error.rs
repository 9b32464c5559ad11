//! A call of the driver that failed.

use std::fmt;

use super::{Status, Unavailable};

/// A function of the driver and what it returned.
///
/// ```
/// use freehold_device::cuda::{Context, CudaError, Status};
///
/// // With a driver, and without one.
/// let error = Context::of(-1).unwrap_err();
/// assert!(matches!(error, CudaError::NoDevice { ordinal: -1, .. } | CudaError::Unavailable(_)));
///
/// let full = CudaError::Failed { function: "cuMemAlloc_v2", status: Status::OUT_OF_MEMORY };
/// assert!(full.is_out_of_memory());
/// assert_eq!(full.to_string(), "the CUDA driver failed: cuMemAlloc_v2 returned CUDA_ERROR_OUT_OF_MEMORY (2)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no driver to call.
    Unavailable(Unavailable),
    /// A call failed. After some codes (an illegal address, say) the context is lost to the whole process.
    Failed {
        /// The function of the driver, by its name in `cuda.h`.
        function: &'static str,
        /// What it returned.
        status: Status,
    },
    /// There is no device of this index.
    NoDevice {
        /// The index asked for.
        ordinal: i32,
        /// How many devices there are.
        count: usize,
    },
    /// The process was forked after CUDA was started, and the driver does not work in a child.
    Forked,
    /// The process is exiting; the driver may be gone.
    Exiting,
    /// The number is not that of a CUDA stream (0 is ambiguous in DLPack, negative ones other than -1 mean nothing).
    BadStream(i64),
    /// It would have to wait for the device, and the stream is being captured into a graph.
    Capturing {
        /// What cannot be captured.
        what: &'static str,
    },
    /// The driver is too old for it.
    TooOld {
        /// What is asked of it.
        what: &'static str,
        /// The version of CUDA that has it.
        since: &'static str,
    },
}

impl CudaError {
    /// What the driver returned, where it was called.
    pub fn status(&self) -> Option<Status> {
        match self {
            CudaError::Failed { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        self.status() == Some(Status::OUT_OF_MEMORY)
    }
}

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CudaError::Unavailable(why) => why.fmt(f),
            CudaError::Failed { function, status } => write!(f, "the CUDA driver failed: {function} returned {status}"),
            CudaError::NoDevice { ordinal, count } => {
                write!(f, "there is no cuda:{ordinal}; the CUDA driver has {count} device(s)")
            }
            CudaError::Forked => {
                f.write_str("CUDA was started before this process was forked, and works in the parent only")
            }
            CudaError::Exiting => f.write_str("the process is exiting, and the CUDA driver with it"),
            CudaError::BadStream(number) => write!(
                f,
                "{number} is not a CUDA stream: 1 is the legacy default stream, 2 the thread's own, a handle is above 2"
            ),
            CudaError::Capturing { what } => {
                write!(f, "{what} is not possible while the stream is captured into a graph")
            }
            CudaError::TooOld { what, since } => write!(f, "{what} needs a driver for CUDA {since} or newer"),
        }
    }
}

impl std::error::Error for CudaError {}

impl From<&Unavailable> for CudaError {
    fn from(why: &Unavailable) -> CudaError {
        CudaError::Unavailable(why.clone())
    }
}

/// The result of a call, by name.
#[inline]
pub(crate) fn check(function: &'static str, status: Status) -> Result<(), CudaError> {
    if status == Status::SUCCESS { Ok(()) } else { Err(CudaError::Failed { function, status }) }
}
