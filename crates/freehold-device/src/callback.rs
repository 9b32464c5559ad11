//! A resource over C function pointers.

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;

use freehold_tensor::Device;

use crate::resource::{dangling, layout_for};
use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// The functions of a [`CallbackMemory`], laid out as a C struct.
///
/// See [`CallbackMemory`].
///
/// ```
/// use std::ffi::c_void;
///
/// use freehold_device::{AllocReason, CallbackMemory, Callbacks, MemoryResource, Stream};
/// use freehold_tensor::{Device, DeviceKind};
///
/// unsafe extern "C" fn nothing(_: *mut c_void, _: usize, _: usize, _: i64) -> *mut c_void {
///     std::ptr::null_mut()
/// }
/// unsafe extern "C" fn never(_: *mut c_void, _: *mut c_void, _: usize, _: usize, _: i64) {}
///
/// let callbacks = Callbacks { allocate: nothing, deallocate: never, user: std::ptr::null_mut(), drop_user: None };
/// // SAFETY: NULL is allowed, from any thread, and nothing else is done.
/// let memory = unsafe { CallbackMemory::new(Device::new(DeviceKind::EXT_DEV, 0), "full", callbacks) };
/// assert_eq!(memory.allocate(64, 8, Stream::NONE).unwrap_err().reason, AllocReason::Refused);
/// ```
#[derive(Copy, Clone, Debug)]
#[repr(C)]
pub struct Callbacks {
    /// Returns `bytes` bytes (never zero) aligned to `align` (a power of two), or NULL.
    pub allocate: unsafe extern "C" fn(user: *mut c_void, bytes: usize, align: usize, stream: i64) -> *mut c_void,
    /// Takes back what `allocate` returned for the same `bytes` and `align`.
    pub deallocate: unsafe extern "C" fn(user: *mut c_void, ptr: *mut c_void, bytes: usize, align: usize, stream: i64),
    /// Passed to every function.
    pub user: *mut c_void,
    /// Called once with `user`, after the last deallocation. May be absent.
    pub drop_user: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

/// Memory from C function pointers: how a caller of the C ABI brings its own allocator or its own device.
///
/// ```
/// use std::ffi::c_void;
/// use std::sync::Arc;
///
/// use freehold_device::{Buffer, CallbackMemory, Callbacks, MemoryResource, Stream};
/// use freehold_tensor::Device;
///
/// unsafe extern "C" fn allocate(_: *mut c_void, bytes: usize, align: usize, _: i64) -> *mut c_void {
///     // SAFETY: `bytes` is not zero, `align` a power of two.
///     unsafe { std::alloc::alloc(std::alloc::Layout::from_size_align_unchecked(bytes, align)) }.cast()
/// }
/// unsafe extern "C" fn deallocate(_: *mut c_void, ptr: *mut c_void, bytes: usize, align: usize, _: i64) {
///     // SAFETY: it came from `allocate` for this size and alignment.
///     unsafe { std::alloc::dealloc(ptr.cast(), std::alloc::Layout::from_size_align_unchecked(bytes, align)) };
/// }
///
/// let callbacks = Callbacks { allocate, deallocate, user: std::ptr::null_mut(), drop_user: None };
/// // SAFETY: the functions are those of an allocator that any thread may call, and need no user.
/// let memory: Arc<dyn MemoryResource> = Arc::new(unsafe { CallbackMemory::new(Device::CPU, "mine", callbacks) });
/// let buffer = Buffer::new(&memory, 100, 64, Stream::NONE)?;
/// assert_eq!(buffer.as_ptr().addr() % 64, 0);
/// assert_eq!(buffer.resource().name(), "mine");
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
pub struct CallbackMemory {
    device: Device,
    name: String,
    callbacks: Callbacks,
}

impl CallbackMemory {
    /// A resource on `device` that calls `callbacks`.
    ///
    /// Requests for zero bytes do not reach the callbacks. An address that is not aligned as asked is given back and
    /// reported as an error.
    ///
    /// # Safety
    ///
    /// * `allocate` returns NULL or memory on `device` that is as large as asked and that nothing else uses until it
    ///   is passed to `deallocate`.
    /// * All three functions may be called from any thread, `allocate` and `deallocate` from several at once.
    /// * No function unwinds (throws) into its caller.
    /// * `user` stays valid for them until `drop_user` has been called with it, or for ever where there is none.
    pub unsafe fn new(device: Device, name: impl Into<String>, callbacks: Callbacks) -> Self {
        Self { device, name: name.into(), callbacks }
    }
}

// SAFETY: the functions may be called from any thread with `user`, as promised to `new`.
unsafe impl Send for CallbackMemory {}
// SAFETY: and from several threads at once.
unsafe impl Sync for CallbackMemory {}

// SAFETY: `new` was promised exclusive memory of the size asked for, which any thread can free; the alignment is
// checked here; zero bytes give a dangling pointer, which nothing may access.
unsafe impl MemoryResource for CallbackMemory {
    fn device(&self) -> Device {
        self.device
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let layout = layout_for(bytes, align, self.device)?;
        if bytes == 0 {
            return Ok(dangling(layout));
        }
        let Callbacks { allocate, user, .. } = self.callbacks;
        // SAFETY: `new` was promised that the function may be called so with `user`, which lives until our drop.
        let ptr = unsafe { allocate(user, bytes, align, stream.0) }.cast::<u8>();
        let error = |reason| AllocError::new(bytes, align, self.device, reason);
        let ptr = NonNull::new(ptr).ok_or(error(AllocReason::Refused))?;
        let address = ptr.addr().get();
        if address % align != 0 {
            // SAFETY: `allocate` returned it just now for this size and alignment, and nobody has seen it.
            unsafe { self.deallocate(ptr, bytes, align, stream) };
            return Err(error(AllocReason::Misaligned { address }));
        }
        Ok(ptr)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        if bytes == 0 {
            return;
        }
        let Callbacks { deallocate, user, .. } = self.callbacks;
        // SAFETY: the caller promises that `ptr` came from `allocate` for this size and alignment; `new` was promised
        // that the function may be called so with `user`.
        unsafe { deallocate(user, ptr.as_ptr().cast(), bytes, align, stream.0) };
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for CallbackMemory {
    fn drop(&mut self) {
        if let Some(drop_user) = self.callbacks.drop_user {
            // SAFETY: `new` was promised that this may be called from any thread; drop runs once, and every buffer
            // holds a reference to its resource, so no deallocation comes after it.
            unsafe { drop_user(self.callbacks.user) };
        }
    }
}

impl fmt::Debug for CallbackMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackMemory").field("device", &self.device).field("name", &self.name).finish_non_exhaustive()
    }
}
