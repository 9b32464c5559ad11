//! Runtimes, policies, and memory from C functions.

use std::ffi::{c_char, c_void};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold::dlpack::{self, DLDevice};
use freehold::{AliasPolicy, CopiesPolicy, DeviceSet, Dialect, Policy, ReadonlyPolicy, Runtime, SyncPolicy};
use freehold_device::{CallbackMemory, Callbacks};
use freehold_ledger::Level;

use crate::args::{invalid, output, text};
use crate::error::{fh_error, fh_status};
use crate::guard::{Outcome, calm, guard};
use crate::handles::{self, Handle, Head};
use crate::options::{self, Sized32, check_reserved};

/// Read-only memory is copied.
pub const FH_READONLY_COPY: i32 = 0;
/// Read-only memory is refused.
pub const FH_READONLY_REJECT: i32 = 1;
/// Read-only memory is shared as writable.
pub const FH_READONLY_TRUST: i32 = 2;

/// One writer.
pub const FH_ALIAS_ONE_WRITER: i32 = 0;
/// Aliases are trusted.
pub const FH_ALIAS_TRUST: i32 = 1;

/// Copies are made.
pub const FH_COPIES_ALLOW: i32 = 0;
/// Copies are made with a warning.
pub const FH_COPIES_WARN: i32 = 1;
/// Copies are refused.
pub const FH_COPIES_ERROR: i32 = 2;

/// Waiting is allowed.
pub const FH_SYNC_ALLOW: i32 = 0;
/// Waiting is refused.
pub const FH_SYNC_ERROR: i32 = 1;

/// A runtime.
#[cfg_attr(all(), repr(C))]
pub struct fh_runtime {
    head: Head,
    runtime: Runtime,
}

// SAFETY: it begins with its head.
unsafe impl Handle for fh_runtime {
    const NAME: &'static str = "fh_runtime";
    const KIND: u16 = handles::RUNTIME;
}

/// House rules.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_policy {
    pub struct_size: u32,
    pub readonly: i32,
    pub alias: i32,
    pub copies: i32,
    pub sync: i32,
    pub has_max_copy_bytes: u32,
    pub max_copy_bytes: u64,
    pub devices: u32,
    pub threads: u32,
    pub reserved: [u64; 1],
}

/// Memory on a device, as functions.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_device {
    pub struct_size: u32,
    pub reserved0: u32,
    pub device: DLDevice,
    pub name: *const c_char,
    pub allocate:
        Option<unsafe extern "C" fn(user: *mut c_void, bytes: usize, align: usize, stream: i64) -> *mut c_void>,
    pub deallocate:
        Option<unsafe extern "C" fn(user: *mut c_void, memory: *mut c_void, bytes: usize, align: usize, stream: i64)>,
    pub drop_user: Option<unsafe extern "C" fn(user: *mut c_void)>,
    pub user: *mut c_void,
    pub reserved: [u64; 2],
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8, integers only.
unsafe impl Sized32 for fh_policy {
    const NAME: &'static str = "fh_policy";
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8; integers, pointers and nullable functions.
unsafe impl Sized32 for fh_device {
    const NAME: &'static str = "fh_device";
}

/// The runtime behind a handle; the process's for NULL.
///
/// # Safety
///
/// * `runtime` is NULL, misaligned, or a runtime that lives.
#[inline]
pub(crate) unsafe fn runtime_of(runtime: *const fh_runtime) -> Outcome<Runtime> {
    if runtime.is_null() {
        // Only this runtime's ledger is written at exit.
        freehold::exit::face(Dialect::C);
        // Written once, as all threads read it.
        if !PLAIN.load(Ordering::Relaxed) && handles::are_addresses() {
            PLAIN.store(true, Ordering::Relaxed);
        }
        return Ok(Runtime::global());
    }
    // SAFETY: forwarded from the caller.
    unsafe { handles::find(runtime, "runtime").map(|at| at.as_ref().runtime.clone()) }
}

/// Whether [`runtime_of`] has said for the process's own runtime what it has to, and handles are addresses.
static PLAIN: AtomicBool = AtomicBool::new(false);

/// Whether that, and the handle is that of the process's own runtime. `false` says nothing.
#[inline]
pub(crate) fn is_plain(runtime: *const fh_runtime) -> bool {
    // Relaxed: nothing is published with it.
    runtime.is_null() && PLAIN.load(Ordering::Relaxed)
}

pub(crate) fn level_of(level: i32) -> Outcome<Level> {
    let known = u8::try_from(level).ok().and_then(Level::from_number);
    known.ok_or_else(|| invalid("the ledger's level", level, &format!("be 0 to {}", Level::HIGHEST as u8)))
}

fn flag(name: &str, value: u32) -> Outcome<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid(name, value, "be 0 or 1")),
    }
}

/// `available` is not a rule: it is what the runtime found.
fn policy_from(raw: &fh_policy, before: Policy) -> Outcome<Policy> {
    check_reserved("fh_policy", &raw.reserved)?;
    Ok(Policy {
        readonly: match raw.readonly {
            FH_READONLY_COPY => ReadonlyPolicy::Copy,
            FH_READONLY_REJECT => ReadonlyPolicy::Reject,
            FH_READONLY_TRUST => ReadonlyPolicy::Trust,
            other => return Err(invalid("policy.readonly", other, "be one of FH_READONLY_*")),
        },
        alias: match raw.alias {
            FH_ALIAS_ONE_WRITER => AliasPolicy::OneWriter,
            FH_ALIAS_TRUST => AliasPolicy::Trust,
            other => return Err(invalid("policy.alias", other, "be one of FH_ALIAS_*")),
        },
        copies: match raw.copies {
            FH_COPIES_ALLOW => CopiesPolicy::Allow,
            FH_COPIES_WARN => CopiesPolicy::Warn,
            FH_COPIES_ERROR => CopiesPolicy::Error,
            other => return Err(invalid("policy.copies", other, "be one of FH_COPIES_*")),
        },
        sync: match raw.sync {
            FH_SYNC_ALLOW => SyncPolicy::Allow,
            FH_SYNC_ERROR => SyncPolicy::Error,
            other => return Err(invalid("policy.sync", other, "be one of FH_SYNC_*")),
        },
        max_copy_bytes: flag("policy.has_max_copy_bytes", raw.has_max_copy_bytes)?.then_some(raw.max_copy_bytes),
        devices: if raw.devices == 0 { DeviceSet::ALL } else { DeviceSet(raw.devices) },
        threads: NonZeroUsize::new(raw.threads as usize),
        available: before.available,
        managed_on_host: before.managed_on_host,
    })
}

fn policy_to(policy: &Policy) -> fh_policy {
    fh_policy {
        struct_size: size_of::<fh_policy>() as u32,
        readonly: match policy.readonly {
            ReadonlyPolicy::Copy => FH_READONLY_COPY,
            ReadonlyPolicy::Reject => FH_READONLY_REJECT,
            ReadonlyPolicy::Trust => FH_READONLY_TRUST,
        },
        alias: match policy.alias {
            AliasPolicy::OneWriter => FH_ALIAS_ONE_WRITER,
            AliasPolicy::Trust => FH_ALIAS_TRUST,
        },
        copies: match policy.copies {
            CopiesPolicy::Allow => FH_COPIES_ALLOW,
            CopiesPolicy::Warn => FH_COPIES_WARN,
            CopiesPolicy::Error => FH_COPIES_ERROR,
        },
        sync: match policy.sync {
            SyncPolicy::Allow => FH_SYNC_ALLOW,
            SyncPolicy::Error => FH_SYNC_ERROR,
        },
        has_max_copy_bytes: u32::from(policy.max_copy_bytes.is_some()),
        max_copy_bytes: policy.max_copy_bytes.unwrap_or(0),
        devices: if policy.devices == DeviceSet::ALL { 0 } else { policy.devices.0 },
        threads: policy.threads.map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        reserved: [0; 1],
    }
}

/// Makes a runtime.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_runtime_new(
    ledger_level: i32,
    policy: *const fh_policy,
    out: *mut *mut fh_runtime,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        let level = level_of(ledger_level)?;
        // SAFETY: the header asks for NULL or a struct as large as it says.
        let policy = unsafe { options::read(policy) }?;
        let runtime = Runtime::new(level);
        if let Some(raw) = policy {
            runtime.set_policy(policy_from(&raw, runtime.policy())?);
        }
        let made = fh_runtime { head: Head::of::<fh_runtime>(), runtime };
        // SAFETY: checked above.
        unsafe { out.write(handles::hand_out(NonNull::from(Box::leak(Box::new(made))))) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Gives a runtime up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_runtime_free(runtime: *mut fh_runtime) {
    calm((), || {
        // SAFETY: the header asks for NULL or a runtime that was handed out and not freed.
        unsafe { handles::give_up(runtime).map(|at| drop(Box::from_raw(at.as_ptr()))) };
    });
}

/// Puts rules in force.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_runtime_set_policy(
    runtime: *mut fh_runtime,
    policy: *const fh_policy,
    previous: *mut fh_policy,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for NULL or handles and structs that live.
        let (runtime, policy) = unsafe { (runtime_of(runtime)?, options::read(policy)?) };
        // SAFETY: as above.
        let size = if previous.is_null() { 0 } else { unsafe { options::writable(previous) }? };
        let before = runtime.policy();
        if let Some(raw) = policy {
            runtime.set_policy(policy_from(&raw, before)?);
        }
        if !previous.is_null() {
            // SAFETY: checked above.
            unsafe { options::write(previous, size, policy_to(&before)) };
        }
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Allocates results from C functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_runtime_register_device(
    runtime: *mut fh_runtime,
    device: *const fh_device,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for NULL or handles and structs that live.
        let (runtime, raw) = unsafe { (runtime_of(runtime)?, options::read(device)?) };
        let raw = raw.ok_or_else(|| invalid("device", "NULL", "not be NULL"))?;
        check_reserved("fh_device", &raw.reserved)?;
        check_reserved("fh_device", &[u64::from(raw.reserved0)])?;
        let device = dlpack::device_from(raw.device);
        if device.kind.name().is_none() || device.id < 0 {
            return Err(invalid("device.device", device, "be a device that DLPack names"));
        }
        let (Some(allocate), Some(deallocate)) = (raw.allocate, raw.deallocate) else {
            return Err(invalid("device.allocate or device.deallocate", "NULL", "not be NULL"));
        };
        let callbacks = Callbacks { allocate, deallocate, user: raw.user, drop_user: raw.drop_user };
        // SAFETY: the name is NULL or text, and the functions keep what the header asks of them.
        let memory = unsafe {
            let name = text(raw.name, |name| name.unwrap_or("callback").to_owned());
            CallbackMemory::new(device, name, callbacks)
        };
        runtime.register_resource(Arc::new(memory));
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}
