//! What several test programs share.

use std::alloc::Layout;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use freehold_device::{CallbackMemory, Callbacks};
use freehold_tensor::Device;

/// A C allocator: what its functions were asked to do.
#[derive(Default)]
pub struct CallbackLog {
    pub allocated: AtomicU64,
    pub freed: AtomicU64,
    pub dropped: AtomicU64,
    pub last_stream: AtomicI64,
    /// Added to every address that `allocate` returns, and taken off again at free.
    pub skew: AtomicU64,
}

unsafe extern "C" fn allocate(user: *mut c_void, bytes: usize, align: usize, stream: i64) -> *mut c_void {
    // SAFETY: `user` is the log that `callbacks` made; its reference is given up in `drop_user` only.
    let log = unsafe { &*user.cast::<CallbackLog>() };
    assert!(bytes > 0, "zero bytes must not reach a callback");
    log.last_stream.store(stream, Ordering::SeqCst);
    let skew = log.skew.load(Ordering::SeqCst) as usize;
    let Some(Ok(layout)) = bytes.checked_add(skew).map(|size| Layout::from_size_align(size, align)) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the size is not zero.
    let ptr = unsafe { std::alloc::alloc(layout) };
    if ptr.is_null() {
        return std::ptr::null_mut();
    }
    log.allocated.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the block is `skew` bytes larger than asked.
    unsafe { ptr.add(skew) }.cast()
}

unsafe extern "C" fn deallocate(user: *mut c_void, ptr: *mut c_void, bytes: usize, align: usize, stream: i64) {
    // SAFETY: as in `allocate`.
    let log = unsafe { &*user.cast::<CallbackLog>() };
    log.last_stream.store(stream, Ordering::SeqCst);
    let skew = log.skew.load(Ordering::SeqCst) as usize;
    let layout = Layout::from_size_align(bytes + skew, align).expect("the layout of an allocation");
    // SAFETY: the block began `skew` bytes earlier, with this layout.
    unsafe { std::alloc::dealloc(ptr.cast::<u8>().sub(skew), layout) };
    log.freed.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn drop_user(user: *mut c_void) {
    // SAFETY: `callbacks` made the pointer from an Arc; this gives that reference up.
    let log = unsafe { Arc::from_raw(user.cast_const().cast::<CallbackLog>()) };
    log.dropped.fetch_add(1, Ordering::SeqCst);
}

/// A resource over C callbacks, and the log of what they did.
pub fn callback_memory(device: Device) -> (CallbackMemory, Arc<CallbackLog>) {
    let log = Arc::new(CallbackLog::default());
    let user = Arc::into_raw(Arc::clone(&log)).cast_mut().cast();
    let callbacks = Callbacks { allocate, deallocate, user, drop_user: Some(drop_user) };
    // SAFETY: the functions use atomics and `std::alloc` only, panic on a broken contract only (an abort, in
    // `extern "C"`), and `user` holds a reference until `drop_user`.
    let memory = unsafe { CallbackMemory::new(device, "test callbacks", callbacks) };
    (memory, log)
}
