//! Tensors walk in.

use std::ffi::{c_char, c_void};
use std::ptr;

use freehold::dlpack::{DLManagedTensor, DLManagedTensorVersioned, DLTensor};
use freehold::{ImportOptions, Label, Owner, Runtime, Tensor, Traits};

use crate::args::{are_places, invalid, known_label, known_output, label, output};
use crate::error::{FH_OK, fh_error, fh_status};
use crate::guard::{Failure, Outcome, guard};
use crate::options::{self, Sized32, check_reserved};
use crate::runtime::{fh_runtime, is_plain, runtime_of};
use crate::tensor::{fh_tensor, hand_out};

/// Who keeps the memory of a raw tensor alive.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_owner {
    pub struct_size: u32,
    pub flags: u32,
    pub release: Option<unsafe extern "C" fn(context: *mut c_void)>,
    pub context: *mut c_void,
    pub allocation: u64,
    pub allocation_bytes: u64,
    pub reserved: [u64; 2],
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8; integers, a pointer and a nullable function.
unsafe impl Sized32 for fh_owner {
    const NAME: &'static str = "fh_owner";
}

/// What a caller may say of a tensor: the rest Freehold finds out, or does itself.
const CLAIMS: Traits = Traits::all().difference(Traits::LEGACY.union(Traits::FROZEN));

fn traits_of(name: &str, flags: u32) -> Outcome<Traits> {
    let bad = || invalid(name, format!("{flags:#x}"), "be made of the FH_FLAG_* that are inputs");
    Traits::from_bits(flags).filter(|traits| CLAIMS.contains(*traits)).ok_or_else(bad)
}

/// # Safety
///
/// * `text` is NULL or text.
unsafe fn options_of(runtime: Runtime, text: *const c_char) -> ImportOptions {
    // SAFETY: forwarded from the caller.
    let (framework, site) = unsafe { label(text) };
    ImportOptions { runtime, framework, site, ..ImportOptions::default() }
}

/// Takes over a versioned capsule.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_import_versioned(
    runtime: *mut fh_runtime,
    managed: *mut DLManagedTensorVersioned,
    label: *const c_char,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    // SAFETY: as in `import_versioned`.
    let body = || unsafe {
        if is_plain(runtime)
            && let Some(out) = known_output(out)
            && let Some(framework) = known_label(label)
            && let Some(tensor) = Tensor::versioned_at_hand(managed, framework)
        {
            out.write(tensor.into_handle().cast().as_ptr());
            return Ok(());
        }
        import_versioned(runtime, managed, label, out)
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// What [`fh_import_versioned`] does where that takes a call: apart, so that what is usual keeps nothing across one.
///
/// # Safety
///
/// * The header's.
#[cold]
#[inline(never)]
unsafe fn import_versioned(
    runtime: *mut fh_runtime,
    managed: *mut DLManagedTensorVersioned,
    label: *const c_char,
    out: *mut *mut fh_tensor,
) -> Outcome {
    let out = output(out, "out")?;
    // SAFETY: the header asks for a runtime that lives or NULL, text or NULL, and a capsule that the caller owns.
    let tensor = unsafe { Tensor::from_versioned(managed, &options_of(runtime_of(runtime)?, label))? };
    // SAFETY: checked above.
    unsafe { hand_out(out, tensor) };
    Ok(())
}

/// Takes over a legacy capsule.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_import_legacy(
    runtime: *mut fh_runtime,
    managed: *mut DLManagedTensor,
    label: *const c_char,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: as in `fh_import_versioned`.
        let tensor = unsafe {
            let options = options_of(runtime_of(runtime)?, label);
            Tensor::from_legacy(managed, &options)?
        };
        // SAFETY: checked above.
        unsafe { hand_out(out, tensor) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Wraps memory that has no capsule.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_import_raw(
    runtime: *mut fh_runtime,
    tensor: *const DLTensor,
    owner: *const fh_owner,
    label: *const c_char,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for NULL or handles, structs and text that live.
        let (mut options, raw) = unsafe { (options_of(runtime_of(runtime)?, label), options::read(owner)?) };
        let mut owner = Owner::Borrowed;
        if let Some(raw) = raw {
            check_reserved("fh_owner", &raw.reserved)?;
            options.traits = traits_of("owner.flags", raw.flags)?;
            if raw.allocation.checked_add(raw.allocation_bytes).is_none() {
                return Err(invalid("owner.allocation_bytes", raw.allocation_bytes, "end inside the address space"));
            }
            options.alloc = (raw.allocation != 0).then_some((raw.allocation, raw.allocation_bytes));
            owner = match raw.release {
                None => Owner::Borrowed,
                release => Owner::Callback { context: raw.context, drop: release },
            };
        }
        // SAFETY: the header asks for a tensor that is readable, and for an owner that keeps the memory valid until it
        // is released, which may be on any thread.
        let tensor = unsafe { adopt(tensor, owner, &options) }?;
        // SAFETY: checked above.
        unsafe { hand_out(out, tensor) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Looks at somebody else's tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_view_borrow(
    runtime: *mut fh_runtime,
    tensor: *const DLTensor,
    flags: u32,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    // SAFETY: as in `view_borrow`. What makes no call cannot panic.
    unsafe {
        if !runtime.is_null() {
            return view_borrow(runtime, tensor, flags, out, error);
        }
        // What `runtime_of` would ask was asked when the view was made that the thread kept, and its handle was an address.
        if are_places(out, tensor)
            && flags & !LOOK == 0
            && let Some(view) = Tensor::borrowed_at_hand(tensor, Traits::from_bits_retain(flags))
        {
            out.write(view.into_handle().cast().as_ptr());
            return FH_OK;
        }
        // Not `runtime`, which would be kept until here.
        view_borrow(ptr::null_mut(), tensor, flags, out, error)
    }
}

/// What a caller may say of a tensor that is only looked at, as far as it is usual: see [`Tensor::borrowed_at_hand`].
const LOOK: u32 = CLAIMS.difference(Traits::PADDED.union(Traits::BYTE_STRIDES)).bits();

/// What [`fh_view_borrow`] does where that takes a call; see [`import_versioned`]. Of C, so that [`fh_view_borrow`] ends with it.
///
/// # Safety
///
/// * The header's.
#[cold]
#[inline(never)]
unsafe extern "C" fn view_borrow(
    runtime: *mut fh_runtime,
    tensor: *const DLTensor,
    flags: u32,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for NULL or a runtime that lives.
        let runtime = unsafe { runtime_of(runtime) }?;
        let traits = traits_of("flags", flags)?;
        // A look opens no record.
        let options = ImportOptions { runtime, framework: Label::C, traits, quiet: true, ..ImportOptions::default() };
        // SAFETY: the header asks for a tensor whose memory outlives the handle and all that shares with it.
        let tensor = unsafe { adopt(tensor, Owner::Borrowed, &options) }?;
        // SAFETY: checked above.
        unsafe { hand_out(out, tensor) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// # Safety
///
/// As [`Tensor::from_dltensor`].
unsafe fn adopt(tensor: *const DLTensor, owner: Owner, options: &ImportOptions) -> Outcome<Tensor> {
    // SAFETY: forwarded from the caller.
    unsafe { Tensor::from_dltensor(tensor, owner, options) }.map_err(|(error, owner)| {
        // The caller keeps the memory, so its release function is not called.
        std::mem::forget(owner);
        Failure::from(error)
    })
}
