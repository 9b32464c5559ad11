//! Why memory could not be allocated.

use std::fmt;

use freehold_tensor::Device;

use crate::cuda::Status;

/// An allocation that did not happen: what was asked, where, and why not. Nothing was allocated.
///
/// ```
/// use freehold_device::Buffer;
///
/// let error = Buffer::host_aligned(64, 3).unwrap_err();
/// assert_eq!((error.bytes, error.align, error.limit), (64, 3, None));
/// assert!(!error.is_out_of_memory()); // more memory would not help
/// assert_eq!(error.to_string(), "64 bytes could not be allocated on cpu: an alignment of 3 is not a power of two");
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AllocError {
    /// The bytes asked for.
    pub bytes: usize,
    /// The alignment asked for.
    pub align: usize,
    /// Where the memory should have been.
    pub device: Device,
    /// The limit in force, where one refused.
    pub limit: Option<u64>,
    /// Why.
    pub reason: AllocReason,
}

/// Why an allocation did not happen.
///
/// ```
/// use freehold_device::{AllocReason, Buffer};
///
/// assert_eq!(Buffer::host_aligned(64, 0).unwrap_err().reason, AllocReason::Alignment);
/// assert_eq!(Buffer::host(usize::MAX).unwrap_err().reason, AllocReason::TooLarge);
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocReason {
    /// The allocator of the system or of the device has no such block.
    Refused,
    /// The alignment is not a power of two.
    Alignment,
    /// The size, rounded up to the alignment, is more than any object can have (`isize::MAX`).
    TooLarge,
    /// [`Limit`](crate::Limit) refused: this many bytes were allocated through it already.
    Limit {
        /// The bytes in use under the limit when the request came.
        in_use: u64,
    },
    /// [`FailAfter`](crate::FailAfter) made it fail, for a test.
    Injected,
    /// The CUDA driver refused.
    Driver {
        /// The function of the driver.
        function: &'static str,
        /// What it returned.
        status: Status,
    },
    /// The stream is captured into a graph, which would keep the memory to itself.
    Capturing,
    /// The device cannot be used for it: what is in the way.
    Unusable(&'static str),
    /// A callback returned an address that is not a multiple of the alignment asked for; it was given back.
    Misaligned {
        /// The address returned.
        address: usize,
    },
}

impl AllocError {
    /// An error about a request of `bytes` at `align` on `device`; no limit was involved.
    pub const fn new(bytes: usize, align: usize, device: Device, reason: AllocReason) -> Self {
        Self { bytes, align, device, limit: None, reason }
    }

    /// Whether another attempt, with more memory free, may succeed: the request itself was a valid one.
    pub const fn is_out_of_memory(&self) -> bool {
        match self.reason {
            AllocReason::Refused | AllocReason::Limit { .. } | AllocReason::Injected => true,
            AllocReason::Driver { status, .. } => status.0 == Status::OUT_OF_MEMORY.0,
            _ => false,
        }
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} could not be allocated on {}: ", Size(self.bytes as u64), self.device)?;
        match self.reason {
            AllocReason::Refused => f.write_str("the system refused"),
            AllocReason::Alignment => write!(f, "an alignment of {} is not a power of two", self.align),
            AllocReason::TooLarge => f.write_str("no allocation can be that large"),
            AllocReason::Limit { in_use } => {
                let limit = self.limit.unwrap_or(in_use);
                write!(f, "{} of the limit of {} are in use", Size(in_use), Size(limit))
            }
            AllocReason::Driver { function, status } => write!(f, "{function} returned {status}"),
            AllocReason::Capturing => {
                f.write_str("the stream is captured into a graph, which would keep the memory to itself")
            }
            AllocReason::Unusable(why) => f.write_str(why),
            AllocReason::Injected => f.write_str("a test made this allocation fail"),
            AllocReason::Misaligned { address } => {
                write!(f, "the callback returned {address:#x}, which is not a multiple of {}", self.align)
            }
        }
    }
}

impl std::error::Error for AllocError {}

/// A byte count as people read it, with the exact number after it: `1.5 GiB (1610612736 bytes)`.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Size(bytes) = *self;
        if bytes < 1024 {
            return write!(f, "{bytes} byte{}", if bytes == 1 { "" } else { "s" });
        }
        let power = bytes.ilog2() / 10;
        let unit = UNITS[power as usize - 1];
        // In tenths and rounded down, so that a size just under a limit never prints as the limit.
        let tenths = (u128::from(bytes) * 10) >> (10 * power);
        match (tenths / 10, tenths % 10) {
            (whole, 0) => write!(f, "{whole} {unit} ({bytes} bytes)"),
            (whole, tenth) => write!(f, "{whole}.{tenth} {unit} ({bytes} bytes)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_in_units_and_exactly() {
        let cases: [(u64, &str); 9] = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB (1024 bytes)"),
            (1536, "1.5 KiB (1536 bytes)"),
            ((1 << 20) - 1, "1023.9 KiB (1048575 bytes)"),
            (1 << 20, "1 MiB (1048576 bytes)"),
            (64 << 30, "64 GiB (68719476736 bytes)"),
            (u64::MAX, "15.9 EiB (18446744073709551615 bytes)"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn messages_say_how_much_where_and_why() {
        let error = |reason| AllocError::new(64 << 30, 24, Device::CPU, reason);
        let head = "64 GiB (68719476736 bytes) could not be allocated on cpu: ";
        let cases = [
            (error(AllocReason::Refused), "the system refused"),
            (error(AllocReason::Alignment), "an alignment of 24 is not a power of two"),
            (error(AllocReason::TooLarge), "no allocation can be that large"),
            (
                AllocError { limit: Some(4096), ..error(AllocReason::Limit { in_use: 512 }) },
                "512 bytes of the limit of 4 KiB (4096 bytes) are in use",
            ),
            (error(AllocReason::Injected), "a test made this allocation fail"),
            (
                error(AllocReason::Misaligned { address: 0x1001 }),
                "the callback returned 0x1001, which is not a multiple of 24",
            ),
        ];
        for (error, why) in cases {
            assert_eq!(error.to_string(), format!("{head}{why}"));
        }
    }

    #[test]
    fn only_a_valid_request_can_be_out_of_memory() {
        let error = |reason| AllocError::new(1, 1, Device::CPU, reason).is_out_of_memory();
        assert!(error(AllocReason::Refused) && error(AllocReason::Limit { in_use: 0 }) && error(AllocReason::Injected));
        assert!(!error(AllocReason::Alignment) && !error(AllocReason::TooLarge));
        assert!(!error(AllocReason::Misaligned { address: 1 }));
    }
}
