//! Bare capsules.

use freehold::dlpack::{
    self, CAPSULE_LEGACY, CAPSULE_LEGACY_USED, CAPSULE_VERSIONED, CAPSULE_VERSIONED_USED, DLManagedTensor,
    DLManagedTensorVersioned, VERSION,
};
use freehold::{Code, ImportOptions, Label, Owner, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;

use super::{Ask, Fail, taken};

/// Takes a capsule over: it is renamed and loses its destructor, so that nobody takes it twice.
pub(crate) fn import(
    x: &Bound<'_, PyAny>,
    framework: Label,
    ask: &Ask<'_, '_>,
    traits: Traits,
) -> Result<Tensor, Fail> {
    // SAFETY: the object is a capsule; its name is NULL or a string that lives as long as the capsule keeps it.
    let name = unsafe { ffi::PyCapsule_GetName(x.as_ptr()) };
    if name.is_null() {
        drop(PyErr::take(x.py()));
        return Err(not_ours("it has no name"));
    }
    // SAFETY: as above.
    let name = unsafe { CStr::from_ptr(name) };
    let options = ask.options(framework, traits, None);
    if ask.quiet && (name == CAPSULE_VERSIONED || name == CAPSULE_LEGACY) {
        // SAFETY: the object is a capsule of this name, and the caller has it.
        return unsafe { peek(x, name, options) };
    }
    let pointer = |expected: &CStr| {
        // SAFETY: the object is a capsule of this name.
        unsafe { ffi::PyCapsule_GetPointer(x.as_ptr(), expected.as_ptr()) }
    };
    let (result, managed) = if name == CAPSULE_VERSIONED {
        let managed = pointer(CAPSULE_VERSIONED).cast::<DLManagedTensorVersioned>();
        // SAFETY: a capsule of this name holds a managed tensor that nobody has taken.
        (unsafe { Tensor::from_versioned(managed, &options) }, managed.addr())
    } else if name == CAPSULE_LEGACY {
        let managed = pointer(CAPSULE_LEGACY).cast::<DLManagedTensor>();
        // SAFETY: as above.
        (unsafe { Tensor::from_legacy(managed, &options) }, managed.addr())
    } else if name == CAPSULE_VERSIONED_USED || name == CAPSULE_LEGACY_USED {
        let mut text = format!("its name is {:?}", name.to_string_lossy());
        text.push_str(&taken::again(x.as_ptr().addr(), pointer(name).addr(), framework, options.site));
        return Err(Fail::refused(Code::CP01, "capsule".to_owned(), text));
    } else {
        return Err(not_ours(&format!("its name is {:?}", name.to_string_lossy())));
    };
    if result.as_ref().is_err_and(|error| error.code() == Code::VE01) {
        taken::refused(framework, options.site);
    }
    // An unknown major version was released by its own deleter: the capsule must not do that again.
    if result.as_ref().map_or_else(|error| error.code() == Code::VE01, |_| true) {
        let used = used_name(name);
        // SAFETY: the object is a capsule; the name is static.
        unsafe {
            ffi::PyCapsule_SetName(x.as_ptr(), used.as_ptr());
            ffi::PyCapsule_SetDestructor(x.as_ptr(), None);
        }
    }
    let tensor = result?;
    taken::note(x.as_ptr().addr(), managed, &tensor);
    Ok(tensor)
}

fn used_name(name: &CStr) -> &'static CStr {
    if name == CAPSULE_VERSIONED { CAPSULE_VERSIONED_USED } else { CAPSULE_LEGACY_USED }
}

/// A capsule's tensor for a look at its metadata: the capsule keeps it, and can still be consumed.
///
/// # Safety
///
/// * `x` is a capsule with this name, one of the two that nobody has consumed.
/// * The tensor's memory is not read after the capsule is gone.
unsafe fn peek(x: &Bound<'_, PyAny>, name: &CStr, mut options: ImportOptions) -> Result<Tensor, Fail> {
    // SAFETY: by the caller's word.
    let pointer = unsafe { ffi::PyCapsule_GetPointer(x.as_ptr(), name.as_ptr()) };
    let tensor = if name == CAPSULE_VERSIONED {
        let managed = pointer.cast::<DLManagedTensorVersioned>();
        // SAFETY: a capsule of this name holds a managed tensor, whose version can be read whatever it is.
        let (major, minor) = unsafe { ((*managed).version.major, (*managed).version.minor) };
        if major != VERSION.0 {
            let text = format!("{major}.{minor}; this build reads {}.x", VERSION.0);
            return Err(Fail::refused(Code::VE01, "capsule".to_owned(), text));
        }
        // SAFETY: the major version is ours, so the flags and the tensor are where we think they are.
        let flags = unsafe { dlpack::flags_of(&*managed) };
        for (bit, flag) in [
            (Traits::READ_ONLY, dlpack::FLAG_READ_ONLY),
            (Traits::IS_COPIED, dlpack::FLAG_IS_COPIED),
            (Traits::PADDED, dlpack::FLAG_SUBBYTE_PADDED),
        ] {
            options.traits.set(bit, options.traits.contains(bit) || flags & flag != 0);
        }
        // SAFETY: as above.
        unsafe { &raw const (*managed).dl_tensor }
    } else {
        options.traits |= Traits::LEGACY;
        // SAFETY: a capsule of this name holds a legacy managed tensor.
        unsafe { &raw const (*pointer.cast::<DLManagedTensor>()).dl_tensor }
    };
    // SAFETY: the capsule keeps the tensor, and the caller the capsule; `quiet` tensors are only described.
    unsafe { Tensor::from_dltensor(tensor, Owner::Borrowed, &options) }.map_err(|(error, _)| error.into())
}

fn not_ours(what: &str) -> Fail {
    Fail::refused(
        Code::OB01,
        "capsule".to_owned(),
        format!("{what}; a tensor's capsule is a \"dltensor\" or \"dltensor_versioned\""),
    )
}
