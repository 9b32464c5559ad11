//! Tensors walk out.

use std::ffi::c_char;

use freehold::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion};
use freehold::{Code, Error, ExportOptions, Message};

use crate::args::{known_label, known_output, label, output};
use crate::error::{fh_error, fh_status};
use crate::guard::{Failure, Outcome, guard};
use crate::tensor::{fh_tensor, known_tensor, tensor_of};

/// A versioned capsule.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_export_versioned(
    tensor: *const fh_tensor,
    max_version: DLPackVersion,
    label: *const c_char,
    out: *mut *mut DLManagedTensorVersioned,
    error: *mut *mut fh_error,
) -> fh_status {
    // SAFETY: as in `export_versioned`.
    let body = || unsafe {
        if let Some(out) = known_output(out)
            && max_version.major != 0
            && let Some(tensor) = known_tensor(tensor)
            && let Some(consumer) = known_label(label)
            && let Some(made) = tensor.export_at_hand((max_version.major, max_version.minor), consumer)
        {
            out.write(made.as_ptr());
            return Ok(());
        }
        export_versioned(tensor, max_version, label, out)
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// What [`fh_export_versioned`] does where that takes a call; apart, as the imports are.
///
/// # Safety
///
/// * The header's.
#[cold]
#[inline(never)]
unsafe fn export_versioned(
    tensor: *const fh_tensor,
    max_version: DLPackVersion,
    label: *const c_char,
    out: *mut *mut DLManagedTensorVersioned,
) -> Outcome {
    let out = output(out, "out")?;
    // SAFETY: the header asks for a tensor that lives, and text or NULL.
    let (tensor, (consumer, site)) = unsafe { (tensor_of(tensor, "tensor")?, self::label(label)) };
    let max_version = match (max_version.major, max_version.minor) {
        (0, 0) => dlpack::VERSION,
        (0, minor) => return Err(legacy_only(minor)),
        version => version,
    };
    let options = ExportOptions { consumer, site, max_version, ..ExportOptions::default() };
    let capsule = tensor.to_versioned(&options)?;
    // SAFETY: checked above.
    unsafe { out.write(capsule.into_raw()) };
    Ok(())
}

fn legacy_only(minor: u32) -> Failure {
    let text = format!("export: a consumer of DLPack 0.{minor} reads legacy capsules only.");
    Failure::from(Error::rejected(
        Message::plain(Code::VE01, text, "fh_export_legacy(tensor, label, &out, &error)"),
        None,
    ))
}

/// A legacy capsule.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_export_legacy(
    tensor: *const fh_tensor,
    label: *const c_char,
    out: *mut *mut DLManagedTensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for a tensor that lives, and text or NULL.
        let (tensor, (consumer, site)) = unsafe { (tensor_of(tensor, "tensor")?, self::label(label)) };
        let options = ExportOptions { consumer, site, ..ExportOptions::default() };
        let capsule = tensor.to_legacy(&options)?;
        // SAFETY: checked above.
        unsafe { out.write(capsule.into_raw()) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}
