//! Tensor handles.

use std::ffi::c_char;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use freehold::dlpack::{self, DLDataType, DLDevice, DLTensor};
use freehold::tensor_algebra::{MAX_NDIM, Overlap};
use freehold::{ImportOptions, LastHold, Stream, Tensor};

use crate::args::{invalid, label, output};
use crate::error::{fh_error, fh_status};
use crate::guard::{Failure, Outcome, calm, guard};
use crate::handles::{self, Handle};
use crate::runtime::{fh_runtime, runtime_of};

/// No byte is shared.
pub const FH_OVERLAP_NONE: i32 = 0;
/// A byte is shared.
pub const FH_OVERLAP_SOME: i32 = 1;
/// The search gave up.
pub const FH_OVERLAP_UNKNOWN: i32 = 2;

/// A tensor: one count of `freehold::Tensor`, without a box around it.
#[repr(align(8))]
pub struct fh_tensor([u8; 0]);

// SAFETY: the crate `freehold` says where the kind is, which `handles` compares with where its own head has it; what is there
// lies at multiples of 8.
unsafe impl Handle for fh_tensor {
    const NAME: &'static str = "fh_tensor";
    const KIND: u16 = Tensor::HANDLE_KIND;
}

/// Gives a tensor to the caller.
///
/// # Safety
///
/// * `out` is writable.
#[inline]
pub(crate) unsafe fn hand_out(out: NonNull<*mut fh_tensor>, tensor: Tensor) {
    // SAFETY: forwarded from the caller.
    unsafe { out.write(handles::hand_out(tensor.into_handle().cast())) };
}

/// The tensor behind a handle, whose count stays as it is.
///
/// # Safety
///
/// * `tensor` is NULL, misaligned, or a tensor that lives for as long as the result is used.
#[inline]
pub(crate) unsafe fn tensor_of(tensor: *const fh_tensor, name: &str) -> Outcome<ManuallyDrop<Tensor>> {
    // SAFETY: forwarded from the caller.
    let handle = unsafe { handles::find(tensor, name) }?;
    // SAFETY: the caller holds a count of its own while the result is used, and `ManuallyDrop` gives none back.
    Ok(ManuallyDrop::new(unsafe { Tensor::from_handle(handle.cast()) }))
}

/// As [`tensor_of`], of an address of the right kind; what is wrong with another, another way is to say.
///
/// # Safety
///
/// As [`tensor_of`].
#[inline(always)]
pub(crate) unsafe fn known_tensor(tensor: *const fh_tensor) -> Option<ManuallyDrop<Tensor>> {
    // SAFETY: as in `tensor_of`.
    unsafe { handles::plain(tensor.cast_mut()).map(|handle| ManuallyDrop::new(Tensor::from_handle(handle.cast()))) }
}

/// New memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_new(
    runtime: *mut fh_runtime,
    dtype: DLDataType,
    device: DLDevice,
    ndim: i32,
    shape: *const i64,
    label: *const c_char,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for NULL or a runtime that lives.
        let runtime = unsafe { runtime_of(runtime) }?;
        let ndim = usize::try_from(ndim).ok().filter(|n| *n <= MAX_NDIM);
        let ndim = ndim.ok_or_else(|| invalid("ndim", "out of range", "be 0 to 64"))?;
        let shape = if ndim == 0 {
            &[][..]
        } else {
            let shape = output(shape.cast_mut(), "shape")?;
            // SAFETY: the header asks for `ndim` sizes.
            unsafe { std::slice::from_raw_parts(shape.as_ptr(), ndim) }
        };
        // SAFETY: the header asks for NULL or text.
        let (framework, site) = unsafe { self::label(label) };
        let options = ImportOptions { runtime, framework, site, ..ImportOptions::default() };
        let tensor = Tensor::zeros_on(dlpack::device_from(device), dlpack::dtype_from(dtype), shape, &options)?;
        // SAFETY: checked above.
        unsafe { hand_out(out, tensor) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Another hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_retain(tensor: *mut fh_tensor) -> *mut fh_tensor {
    calm(std::ptr::null_mut(), || {
        // SAFETY: the header asks for NULL or a tensor that lives.
        let Ok(handle) = (unsafe { handles::hold(tensor, "tensor") }) else { return std::ptr::null_mut() };
        // SAFETY: as in `tensor_of`.
        let held = ManuallyDrop::new(unsafe { Tensor::from_handle(handle.cast()) });
        std::mem::forget(Tensor::clone(&held));
        tensor
    })
}

/// Lets go.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_release(tensor: *mut fh_tensor) {
    // SAFETY: the header asks for NULL or a tensor that the caller has a hold on and gives up.
    unsafe {
        let Some(handle) = handles::address(tensor) else { return release_ticket(tensor) };
        if Tensor::release_at_hand(handle.cast()) {
            return;
        }
        let Some(handle) = handles::plain(tensor) else { return release_ticket(tensor) };
        if let Some(last) = Tensor::from_handle(handle.cast()).let_go() {
            end(last);
        }
    }
}

/// A function apart, and of C, so that [`fh_tensor_release`] needs nothing of its own on the stack.
#[inline(never)]
extern "C" fn end(last: LastHold) {
    calm((), || last.end());
}

/// What [`fh_tensor_release`] does with another address than a tensor's.
///
/// # Safety
///
/// * The header's.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_ticket(tensor: *mut fh_tensor) {
    calm((), || {
        // SAFETY: the header asks for NULL or a tensor that the caller has a hold on and gives up.
        drop(unsafe { handles::give_up(tensor).map(|handle| Tensor::from_handle(handle.cast())) });
    });
}

/// The tensor as DLPack describes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_dl(
    tensor: *const fh_tensor,
    out: *mut DLTensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for a tensor that lives; `out` was checked.
        unsafe { out.write(tensor_of(tensor, "tensor")?.as_dltensor()) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_flags(tensor: *const fh_tensor) -> u32 {
    // SAFETY: the header asks for NULL or a tensor that lives.
    calm(0, || unsafe { tensor_of(tensor, "tensor") }.map_or(0, |t| t.traits().bits()))
}

/// Record on the ledger.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_id(tensor: *const fh_tensor) -> u64 {
    // SAFETY: the header asks for NULL or a tensor that lives.
    calm(0, || unsafe { tensor_of(tensor, "tensor") }.map_or(0, |t| t.id().get()))
}

/// Orders a stream after the values, and the end of the memory after the stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_use_on(
    tensor: *const fh_tensor,
    stream: i64,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for a tensor that lives.
        let tensor = unsafe { tensor_of(tensor, "tensor")? };
        tensor.use_on(Some(Stream(stream))).map_err(Failure::from)
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Whether two tensors share a byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_tensor_overlap(
    a: *const fh_tensor,
    b: *const fh_tensor,
    out: *mut i32,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for tensors that live.
        let (a, b) = unsafe { (tensor_of(a, "a")?, tensor_of(b, "b")?) };
        let answer = match a.overlaps(&b) {
            Overlap::None => FH_OVERLAP_NONE,
            Overlap::Some => FH_OVERLAP_SOME,
            Overlap::Unknown => FH_OVERLAP_UNKNOWN,
        };
        // SAFETY: checked above.
        unsafe { out.write(answer) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}
