//! Faults that tests put in, to show that they would see them. Only in builds with debug assertions.

/// Whether waits of a kind are left out: `slot`, a slot of page-locked memory that the device may still use; `order`, one
/// stream for another; `down`, the host for what comes down.
#[cfg(debug_assertions)]
pub(crate) fn drops(kind: &str) -> bool {
    use std::sync::OnceLock;
    static DROPPED: OnceLock<Option<String>> = OnceLock::new();
    let dropped = DROPPED.get_or_init(|| std::env::var("FREEHOLD_TEST_DROP_EVENTS").ok());
    dropped.as_deref() == Some(kind)
}

/// None are.
#[cfg(not(debug_assertions))]
pub(crate) const fn drops(_kind: &str) -> bool {
    false
}
