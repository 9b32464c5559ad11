//! Time: one cheap clock for records, one exact clock for what is rare.
//!
//! Reading an exact clock would be half of what a record may cost (17 ns for [`Instant`], 7 ns for the processor's
//! counter, where this was measured), so records take the kernel's time of its last tick: 3 ns, and up to 4 ms old.
//! Both clocks count from the same moment.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Nanoseconds on the exact clock.
pub(crate) fn exact() -> u64 {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    if let Some(now) = linux::now(linux::CLOCK_MONOTONIC) {
        return now;
    }
    since_origin()
}

/// Nanoseconds on the cheap clock.
#[inline]
pub(crate) fn coarse() -> u64 {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    if let Some(now) = linux::now(linux::CLOCK_MONOTONIC_COARSE) {
        return now;
    }
    since_origin()
}

#[cold]
fn since_origin() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed: Duration = ORIGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod linux {
    use std::ffi::{c_int, c_long};

    pub(super) const CLOCK_MONOTONIC: c_int = 1;
    pub(super) const CLOCK_MONOTONIC_COARSE: c_int = 6;

    #[repr(C)]
    struct Timespec {
        seconds: c_long,
        nanoseconds: c_long,
    }

    unsafe extern "C" {
        fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    }

    #[inline]
    pub(super) fn now(clock: c_int) -> Option<u64> {
        let mut time = Timespec { seconds: 0, nanoseconds: 0 };
        // SAFETY: `time` is a `struct timespec` of this platform (both fields are `long` where `time_t` is one) that
        // the call may write.
        let status = unsafe { clock_gettime(clock, &mut time) };
        (status == 0).then_some(time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_count_from_the_same_moment() {
        let mut last = 0;
        for _ in 0..10 {
            let (before, cheap, after) = (exact(), coarse(), exact());
            assert!(last <= before && before <= after);
            // A tick is 10 ms at most (CONFIG_HZ=100).
            assert!(cheap <= after && cheap + 20_000_000 >= before, "{before} {cheap} {after}");
            last = after;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
