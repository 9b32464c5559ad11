//! Streams, as DLPack numbers them.

use std::fmt;

/// A stream as DLPack passes it: one integer whose meaning depends on the device.
///
/// | value | CUDA | ROCm | host memory |
/// |---|---|---|---|
/// | -1 | no stream: do not order anything | the same | the only value ([`Stream::NONE`]) |
/// | 0 | not allowed: could be 1 or 2 | the default stream | not allowed |
/// | 1 | the legacy default stream | not allowed | not allowed |
/// | 2 | the per-thread default stream | not allowed | not allowed |
/// | above 2 | a stream handle | a stream handle | not allowed |
///
/// Python's `stream=None` is not a number: it is [`Stream::NONE`] for host memory, and
/// [`Stream::LEGACY_DEFAULT`] for CUDA, as the array API standard says.
///
/// ```
/// use freehold_device::Stream;
///
/// assert!(Stream(-1).is_none() && Stream(-1).is_cuda());
/// assert!(!Stream(0).is_cuda() && Stream(2) == Stream::PER_THREAD_DEFAULT);
/// assert!(Stream(0x7f00).is_handle());
/// assert_eq!([Stream::NONE, Stream(1), Stream(0x7f00)].map(|s| s.to_string()), ["none", "1", "0x7f00"]);
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(transparent)]
pub struct Stream(pub i64);

impl Stream {
    /// No stream. Host memory takes this one; for a device it means that the caller orders the work.
    pub const NONE: Stream = Stream(-1);
    /// The default stream of ROCm. CUDA does not allow this number.
    pub const ROCM_DEFAULT: Stream = Stream(0);
    /// The legacy default stream of CUDA, which waits for every blocking stream.
    pub const LEGACY_DEFAULT: Stream = Stream(1);
    /// The default stream of the calling thread in CUDA.
    pub const PER_THREAD_DEFAULT: Stream = Stream(2);

    /// Whether this is [`Stream::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }

    /// Whether the number is a handle of the device's runtime, not one of the reserved values.
    pub const fn is_handle(self) -> bool {
        self.0 > 2
    }

    /// Whether the number is one that CUDA has: the column of the table.
    pub const fn is_cuda(self) -> bool {
        self.is_none() || self.0 >= Self::LEGACY_DEFAULT.0
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            f.write_str("none")
        } else if self.is_handle() {
            write!(f, "{:#x}", self.0)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_numbers_are_not_handles() {
        for reserved in
            [Stream::NONE, Stream::ROCM_DEFAULT, Stream::LEGACY_DEFAULT, Stream::PER_THREAD_DEFAULT, Stream(i64::MIN)]
        {
            assert!(!reserved.is_handle(), "{reserved}");
        }
        assert!(Stream(3).is_handle());
        assert_eq!([-2, -1, 0, 1, 2, 3].map(|number| Stream(number).is_cuda()), [false, true, false, true, true, true]);
        assert!(Stream::NONE.is_none() && !Stream::LEGACY_DEFAULT.is_none());
        assert_eq!(format!("{} {} {}", Stream::NONE, Stream(1), Stream(0x55aa)), "none 1 0x55aa");
    }
}
