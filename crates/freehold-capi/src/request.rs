//! Requests and caps: what is asked of a tensor.

use std::ffi::{CStr, c_char};

use freehold::dlpack::{self, DLDataType, DLDevice, DLPackVersion};
use freehold::{
    Asked, Caps, CopyRule, DTypeSet, DeviceSet, Dialect, Label, OnLoss, Order, Policy, Request, Stream, StrideRule,
    Tensor, TensorDesc,
};

use crate::args::{invalid, text};
use crate::error::{fh_error, fh_status};
use crate::guard::{Outcome, calm, guard};
use crate::options::{self, Sized32, check_reserved};

/// Share when it can, else copy.
pub const FH_COPY_IF_NEEDED: i32 = 0;
/// Share or refuse.
pub const FH_COPY_NEVER: i32 = 1;
/// Always new memory.
pub const FH_COPY_ALWAYS: i32 = 2;

/// Whatever the memory allows.
pub const FH_WRITABLE_ANY: i32 = 0;
/// The result must be writable.
pub const FH_WRITABLE_YES: i32 = 1;
/// The result must be read-only.
pub const FH_WRITABLE_NO: i32 = 2;

/// Lost values are refused.
pub const FH_ON_LOSS_ERROR: i32 = 0;
/// Lost values are truncated and saturate.
pub const FH_ON_LOSS_ALLOW: i32 = 1;
/// As [`FH_ON_LOSS_ALLOW`], and floats beyond the target's range become its largest finite value.
pub const FH_ON_LOSS_SATURATE: i32 = 2;

/// The order stays.
pub const FH_ORDER_ANY: i32 = 0;
/// Row-major.
pub const FH_ORDER_C: i32 = 1;
/// Column-major.
pub const FH_ORDER_F: i32 = 2;

/// Any strides.
pub const FH_STRIDES_ANY: i32 = 0;
/// No negative strides.
pub const FH_STRIDES_NON_NEGATIVE: i32 = 1;
/// Compact strides.
pub const FH_STRIDES_COMPACT: i32 = 2;
pub const FH_STRIDES_PACKED: i32 = 3;

/// Dtypes without a bit.
pub const FH_CAPS_ANY_DTYPE: u32 = 1 << 0;
/// Strides in bytes.
pub const FH_CAPS_BYTE_STRIDES: u32 = 1 << 1;
/// Read-only tensors.
pub const FH_CAPS_READ_ONLY: u32 = 1 << 2;
/// Tensors that never change.
pub const FH_CAPS_IMMUTABLE: u32 = 1 << 3;
/// Its own graph.
pub const FH_CAPS_GRAD: u32 = 1 << 4;
/// Its own lazy bits.
pub const FH_CAPS_LAZY_BITS: u32 = 1 << 5;
/// Byte offsets.
pub const FH_CAPS_BYTE_OFFSET: u32 = 1 << 6;
/// Complex elements aligned to their own size, and no others.
pub const FH_CAPS_ALIGNED_COMPLEX: u32 = 1 << 7;
pub const FH_CAPS_OWN_MEMORY: u32 = 1 << 8;

/// What the caller wants.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_request {
    pub struct_size: u32,
    pub dtype: DLDataType,
    pub device: DLDevice,
    pub order: i32,
    pub alignment: u32,
    pub copy: i32,
    pub writable: i32,
    pub on_loss: i32,
    pub detach: u8,
    pub freeze: u8,
    pub has_stream: u8,
    pub reserved0: u8,
    pub stream: i64,
    pub reserved: [u64; 2],
}

/// What a target takes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_caps {
    pub struct_size: u32,
    pub alignment: u32,
    pub name: *const c_char,
    pub dtypes: u64,
    pub devices: u32,
    pub strides: i32,
    pub flags: u32,
    pub default_dtype: DLDataType,
    pub dlpack: DLPackVersion,
    pub reserved: [u64; 2],
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8, integers only.
unsafe impl Sized32 for fh_request {
    const NAME: &'static str = "fh_request";
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8; integers and a pointer.
unsafe impl Sized32 for fh_caps {
    const NAME: &'static str = "fh_caps";
}

/// What is asked of a tensor.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) caps: Caps,
    pub(crate) policy: Policy,
}

impl Question {
    /// # Safety
    ///
    /// * Both are NULL, misaligned, or structs as large as they say; the name in `caps` is NULL or text.
    pub(crate) unsafe fn read(request: *const fh_request, caps: *const fh_caps, source: &Tensor) -> Outcome<Question> {
        // SAFETY: forwarded from the caller.
        let (request, caps) = unsafe { (options::read(request)?, options::read(caps)?) };
        let request = request.map_or(Ok(Request::default()), |raw| request_from(&raw))?;
        Ok(Question {
            request,
            // SAFETY: forwarded from the caller.
            caps: caps.map_or(Ok(Caps::FREEHOLD), |raw| unsafe { caps_from(&raw) })?,
            policy: source.runtime().policy_for(&request, Some(source.device())),
        })
    }

    pub(crate) fn asked<'a>(&'a self, desc: TensorDesc<'a>) -> Asked<'a> {
        Asked::new(desc, &self.request, &self.caps, &self.policy, Dialect::C)
    }
}

fn flag(name: &str, value: u8) -> Outcome<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid(name, value, "be 0 or 1")),
    }
}

pub(crate) fn request_from(raw: &fh_request) -> Outcome<Request> {
    check_reserved("fh_request", &raw.reserved)?;
    check_reserved("fh_request", &[u64::from(raw.reserved0)])?;
    let dtype = dlpack::dtype_from(raw.dtype);
    let dtype = if (dtype.code, dtype.bits, dtype.lanes) == (0, 0, 0) {
        None
    } else {
        dtype.validate().map_err(|e| invalid(&format!("request.{}", e.field), e.value, e.rule))?;
        Some(dtype)
    };
    let device = dlpack::device_from(raw.device);
    let device = if (device.kind.0, device.id) == (0, 0) {
        None
    } else if device.kind.name().is_none() || device.id < 0 {
        return Err(invalid("request.device", device, "be a device that DLPack names, or all 0"));
    } else {
        Some(device)
    };
    if raw.alignment != 0 && !raw.alignment.is_power_of_two() {
        return Err(invalid("request.alignment", raw.alignment, "be a power of two, or 0"));
    }
    Ok(Request {
        dtype,
        device,
        order: match raw.order {
            FH_ORDER_ANY => Order::Any,
            FH_ORDER_C => Order::C,
            FH_ORDER_F => Order::F,
            other => return Err(invalid("request.order", other, "be one of FH_ORDER_*")),
        },
        alignment: raw.alignment,
        copy: match raw.copy {
            FH_COPY_IF_NEEDED => CopyRule::IfNeeded,
            FH_COPY_NEVER => CopyRule::Never,
            FH_COPY_ALWAYS => CopyRule::Always,
            other => return Err(invalid("request.copy", other, "be one of FH_COPY_*")),
        },
        writable: match raw.writable {
            FH_WRITABLE_ANY => None,
            FH_WRITABLE_YES => Some(true),
            FH_WRITABLE_NO => Some(false),
            other => return Err(invalid("request.writable", other, "be one of FH_WRITABLE_*")),
        },
        on_loss: match raw.on_loss {
            FH_ON_LOSS_ERROR => OnLoss::Error,
            FH_ON_LOSS_ALLOW => OnLoss::Allow,
            FH_ON_LOSS_SATURATE => OnLoss::Saturate,
            other => return Err(invalid("request.on_loss", other, "be one of FH_ON_LOSS_*")),
        },
        detach: flag("request.detach", raw.detach)?,
        freeze: flag("request.freeze", raw.freeze)?,
        stream: flag("request.has_stream", raw.has_stream)?.then_some(Stream(raw.stream)),
    })
}

/// The rows that the library knows, with their names as C has them.
const ROWS: [(&CStr, &Caps); 5] = [
    (c"freehold", &Caps::FREEHOLD),
    (c"numpy", &Caps::NUMPY),
    (c"torch", &Caps::TORCH),
    (c"dlpack", &Caps::DLPACK),
    (c"dlpack-legacy", &Caps::DLPACK_LEGACY),
];

/// # Safety
///
/// * The name is NULL or text.
unsafe fn caps_from(raw: &fh_caps) -> Outcome<Caps> {
    check_reserved("fh_caps", &raw.reserved)?;
    // A row's own name is known without reading it; another one is interned, which is what gives it its lifetime.
    let name = match ROWS.iter().find(|(name, _)| std::ptr::eq(name.as_ptr(), raw.name)) {
        Some((_, row)) => row.name,
        // SAFETY: forwarded from the caller.
        None => unsafe { text(raw.name, |name| name.map(|name| Label::intern(name).as_str())) }
            .ok_or_else(|| invalid("caps.name", "NULL", "name the target"))?,
    };
    if !raw.alignment.is_power_of_two() {
        return Err(invalid("caps.alignment", raw.alignment, "be a power of two"));
    }
    let known = FH_CAPS_OWN_MEMORY * 2 - 1;
    if raw.flags & !known != 0 {
        return Err(invalid("caps.flags", format!("{:#x}", raw.flags), "be made of FH_CAPS_*"));
    }
    if raw.dtypes & !DTypeSet::ALL.0 != 0 {
        return Err(invalid("caps.dtypes", format!("{:#x}", raw.dtypes), "have only bits of FH_DTYPE_*"));
    }
    let default_dtype = dlpack::dtype_from(raw.default_dtype);
    default_dtype.validate().map_err(|e| invalid(&format!("caps.default_{}", e.field), e.value, e.rule))?;
    let has = |bit: u32| raw.flags & bit != 0;
    Ok(Caps {
        name,
        dtypes: DTypeSet(raw.dtypes),
        any_dtype: has(FH_CAPS_ANY_DTYPE),
        strides: match raw.strides {
            FH_STRIDES_ANY => StrideRule::Any,
            FH_STRIDES_NON_NEGATIVE => StrideRule::NonNegative,
            FH_STRIDES_COMPACT => StrideRule::Compact,
            FH_STRIDES_PACKED => StrideRule::Packed,
            other => return Err(invalid("caps.strides", other, "be one of FH_STRIDES_*")),
        },
        byte_strides: has(FH_CAPS_BYTE_STRIDES),
        alignment: raw.alignment,
        aligned_complex: has(FH_CAPS_ALIGNED_COMPLEX),
        read_only: has(FH_CAPS_READ_ONLY),
        immutable: has(FH_CAPS_IMMUTABLE),
        grad: has(FH_CAPS_GRAD),
        lazy_bits: has(FH_CAPS_LAZY_BITS),
        devices: DeviceSet(raw.devices),
        byte_offset: has(FH_CAPS_BYTE_OFFSET),
        dlpack: (raw.dlpack.major, raw.dlpack.minor),
        default_dtype,
        own_memory: has(FH_CAPS_OWN_MEMORY),
        // What only frameworks reached through Python have.
        max_ndim: Caps::FREEHOLD.max_ndim,
        narrows: None,
    })
}

fn caps_to(name: &'static CStr, caps: &Caps) -> fh_caps {
    let flags = [
        (caps.any_dtype, FH_CAPS_ANY_DTYPE),
        (caps.byte_strides, FH_CAPS_BYTE_STRIDES),
        (caps.read_only, FH_CAPS_READ_ONLY),
        (caps.immutable, FH_CAPS_IMMUTABLE),
        (caps.grad, FH_CAPS_GRAD),
        (caps.lazy_bits, FH_CAPS_LAZY_BITS),
        (caps.byte_offset, FH_CAPS_BYTE_OFFSET),
        (caps.aligned_complex, FH_CAPS_ALIGNED_COMPLEX),
        (caps.own_memory, FH_CAPS_OWN_MEMORY),
    ];
    fh_caps {
        struct_size: size_of::<fh_caps>() as u32,
        alignment: caps.alignment,
        name: name.as_ptr(),
        dtypes: caps.dtypes.0,
        devices: caps.devices.0,
        strides: match caps.strides {
            StrideRule::Any => FH_STRIDES_ANY,
            StrideRule::NonNegative => FH_STRIDES_NON_NEGATIVE,
            StrideRule::Compact => FH_STRIDES_COMPACT,
            StrideRule::Packed => FH_STRIDES_PACKED,
        },
        flags: flags.iter().filter(|(has, _)| *has).fold(0, |bits, (_, bit)| bits | bit),
        default_dtype: dlpack::dtype_to(caps.default_dtype),
        dlpack: DLPackVersion { major: caps.dlpack.0, minor: caps.dlpack.1 },
        reserved: [0; 2],
    }
}

/// Writes a struct of the caller's version; the size is an argument because the struct is not initialised yet.
///
/// # Safety
///
/// * `to` is NULL, misaligned, or points to `size` writable bytes.
unsafe fn initialise<T: Sized32>(to: *mut T, size: usize, value: T) {
    if to.is_null() || !to.is_aligned() || size < 8 {
        return;
    }
    // SAFETY: forwarded from the caller. What this library does not know becomes 0, the default.
    unsafe {
        std::ptr::write_bytes(to.cast::<u8>(), 0, size);
        options::write(to, size, value);
        to.cast::<u32>().write(u32::try_from(size).unwrap_or(0));
    }
}

/// The default request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_request_init(request: *mut fh_request, size: usize) {
    calm((), || {
        // SAFETY: the header asks for NULL or `size` writable bytes; all bits 0 are a request.
        unsafe { initialise(request, size, std::mem::zeroed()) }
    });
}

/// Caps that take anything.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_caps_init(caps: *mut fh_caps, size: usize) {
    calm((), || {
        let (name, row) = ROWS[0];
        // SAFETY: the header asks for NULL or `size` writable bytes.
        unsafe { initialise(caps, size, caps_to(name, row)) }
    });
}

/// Caps of a target that is known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_caps_for(name: *const c_char, out: *mut fh_caps, error: *mut *mut fh_error) -> fh_status {
    let body = || {
        // SAFETY: the header asks for text or NULL, and for a struct as large as it says.
        let (size, found) = unsafe {
            let size = options::writable(out)?;
            let find = |name: &str| ROWS.iter().find(|(_, row)| row.name == name);
            let unknown = |name: Option<&str>| {
                let names = ROWS.map(|(_, row)| row.name).join(", ");
                invalid("name", name.unwrap_or("NULL"), &format!("be one of {names}"))
            };
            (size, text(name, |name| name.and_then(find).ok_or_else(|| unknown(name)))?)
        };
        // SAFETY: checked above.
        unsafe { options::write(out, size, caps_to(found.0, found.1)) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}
