//! The buffer protocol (PEP 3118) and `__array_interface__`.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;

use freehold::device::cuda::{self, MemoryKind};
use freehold::tensor_algebra::Dims;
use freehold::{Code, DType, Device, DeviceKind, Label, Owner, RawTensor, Stream, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyTuple};

use super::{Ask, Fail, Imported};
use crate::gil::{self, Deferred};
use crate::names::type_name;

/// An export that is held until it is dropped: while it lives, the object refuses to be resized.
pub(crate) struct Held(*mut ffi::Py_buffer);

impl Held {
    /// Asks an object for its buffer, with strides and format, read-only or not.
    pub(crate) fn get(x: &Bound<'_, PyAny>, flags: i32) -> PyResult<Held> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::zeroed());
        // SAFETY: the struct is ours to fill; on failure it holds nothing to release.
        if unsafe { ffi::PyObject_GetBuffer(x.as_ptr(), view.as_mut_ptr(), flags) } < 0 {
            return Err(PyErr::fetch(x.py()));
        }
        Ok(Held(Box::into_raw(view).cast()))
    }

    pub(crate) fn view(&self) -> &ffi::Py_buffer {
        // SAFETY: filled by `PyObject_GetBuffer`, and ours until dropped.
        unsafe { &*self.0 }
    }

    /// The export as what keeps a tensor's memory alive.
    pub(crate) fn into_owner(self) -> Owner {
        let context = self.0.cast();
        std::mem::forget(self);
        Owner::Raw { context, drop: drop_view }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        gil::give_back(Deferred::Buffer(self.0));
    }
}

/// # Safety
///
/// * `view` came from [`Held::into_owner`], and is given up.
unsafe fn drop_view(view: *mut c_void) {
    gil::give_back(Deferred::Buffer(view.cast()));
}

/// The dtype of a `struct` format of one item, and whether its bytes are in the other order.
pub(crate) fn parse_format(format: &[u8], item_size: isize) -> Option<(DType, bool)> {
    let (order, code) = match format {
        [b'@' | b'=' | b'<' | b'>' | b'!' | b'|' | b'^', rest @ ..] => (format[0], rest),
        _ => (b'@', format),
    };
    // Whoever says `l` and `L` means the 8 bytes of C's long or the 4 of the standard size; ctypes says `<l` for either.
    let (code, sizes): (u8, &[isize]) = match code {
        b"?" => (DType::CODE_BOOL, &[1]),
        b"b" => (DType::CODE_INT, &[1]),
        b"B" | b"c" => (DType::CODE_UINT, &[1]),
        b"h" => (DType::CODE_INT, &[2]),
        b"H" => (DType::CODE_UINT, &[2]),
        b"i" => (DType::CODE_INT, &[4]),
        b"I" => (DType::CODE_UINT, &[4]),
        b"l" => (DType::CODE_INT, &[4, 8]),
        b"L" => (DType::CODE_UINT, &[4, 8]),
        b"q" => (DType::CODE_INT, &[8]),
        b"Q" => (DType::CODE_UINT, &[8]),
        b"n" => (DType::CODE_INT, &[size_of::<isize>() as isize]),
        b"N" | b"P" => (DType::CODE_UINT, &[size_of::<usize>() as isize]),
        b"e" => (DType::CODE_FLOAT, &[2]),
        b"f" => (DType::CODE_FLOAT, &[4]),
        b"d" => (DType::CODE_FLOAT, &[8]),
        b"Zf" | b"F" => (DType::CODE_COMPLEX, &[8]),
        b"Zd" | b"D" => (DType::CODE_COMPLEX, &[16]),
        _ => return None,
    };
    // An item that is larger is something else, such as a union of ctypes, whose format is that of a byte.
    if !sizes.contains(&item_size) {
        return None;
    }
    let dtype = DType::new(code, u8::try_from(item_size * 8).ok()?);
    dtype.index()?;
    let foreign = if cfg!(target_endian = "little") { matches!(order, b'>' | b'!') } else { order == b'<' };
    Some((dtype, foreign && item_size > 1))
}

/// An object with the buffer protocol.
pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    // All that a buffer can be, so that what cannot be a tensor is refused by us, in our words.
    let held = Held::get(x, ffi::PyBUF_FULL_RO)?;
    let view = held.view();
    let ndim = usize::try_from(view.ndim).unwrap_or(0);
    // SAFETY: an export with suboffsets has `ndim` of them, for as long as it is held.
    if !view.suboffsets.is_null() && (0..ndim).any(|axis| unsafe { *view.suboffsets.add(axis) } >= 0) {
        let text = "its buffer has suboffsets: it holds pointers to rows that lie apart";
        return Err(Fail::refused(Code::OB01, type_name(x), text)
            .fix("x = memoryview(x).tolist()  # then fh.copy(x), which builds a tensor"));
    }
    let values = |pointer: *const isize| -> Dims {
        if pointer.is_null() || ndim == 0 {
            return Dims::new();
        }
        // SAFETY: an export with strides has `ndim` values behind both pointers, for as long as it is held.
        unsafe { std::slice::from_raw_parts(pointer, ndim) }.iter().map(|n| *n as i64).collect()
    };
    let shape = values(view.shape);
    // Absent strides are compact: ctypes' arrays leave them out even when they are asked for.
    let byte_strides = if view.strides.is_null() {
        let compact = freehold::tensor_algebra::compact_strides(&shape, freehold::Order::C);
        compact.map_err(freehold::Error::capsule)?.iter().map(|stride| stride * view.itemsize as i64).collect()
    } else {
        values(view.strides)
    };
    let format = if view.format.is_null() {
        &b"B"[..]
    } else {
        // SAFETY: a C string that lives as long as the export.
        unsafe { CStr::from_ptr(view.format) }.to_bytes()
    };
    let Some((dtype, swapped)) = parse_format(format, view.itemsize) else {
        let format = String::from_utf8_lossy(format).into_owned();
        let text = format!("the buffer's format is {format:?}, of {} bytes an item", view.itemsize);
        return Err(
            Fail::refused(Code::DT03, type_name(x), text).fix("memoryview(x).cast(\"B\")  # the raw bytes, shares")
        );
    };
    let mut traits = Traits::empty();
    traits.set(Traits::READ_ONLY, view.readonly != 0);
    traits.set(Traits::SWAPPED, swapped);
    // Without strides the memory is in C order; ctypes leaves them out although they were asked for.
    let strides = (!view.strides.is_null() || ndim == 0)
        .then(|| element_strides(&shape, byte_strides, view.itemsize as i64, &mut traits));
    // Of a view with gaps or from the end, only a memoryview says in what it is one.
    let whole = || match &strides {
        None => true,
        Some(strides) => {
            let layout = freehold::Layout::new(&shape, strides);
            !traits.contains(Traits::BYTE_STRIDES) && (layout.is_c_contiguous() || layout.is_f_contiguous())
        }
    };
    let alloc = behind_a_view(x).or_else(|| whole().then_some((view.buf.addr() as u64, view.len as u64)));
    let data = view.buf.cast::<u8>();
    let options = ask.options(Label::BUFFER, traits, alloc);
    let raw = RawTensor {
        data,
        shape: &shape,
        strides: strides.as_deref(),
        dtype,
        device: Device::CPU,
        owner: held.into_owner(),
    };
    // SAFETY: the exporter keeps the memory where it is, readable and (unless it said read-only) writable, until the
    // export is released, which the owner does.
    let tensor = unsafe { Tensor::from_raw(raw, &options) }?;
    Ok(tensor.into())
}

/// The memory that a memoryview is a view of, where that is one block.
fn behind_a_view(x: &Bound<'_, PyAny>) -> Option<(u64, u64)> {
    if !x.is_exact_instance_of::<PyMemoryView>() {
        return None;
    }
    let exporter = x.getattr(pyo3::intern!(x.py(), "obj")).ok().filter(|exporter| !exporter.is_none())?;
    let held = Held::get(&exporter, ffi::PyBUF_SIMPLE).ok()?;
    Some((held.view().buf.addr() as u64, held.view().len as u64))
}

/// Strides in elements where they are whole, else in bytes with the trait that says so.
fn element_strides(shape: &[i64], bytes: Dims, size: i64, traits: &mut Traits) -> Dims {
    if bytes.iter().zip(shape).any(|(stride, n)| *n > 1 && stride % size != 0) {
        *traits |= Traits::BYTE_STRIDES;
        return bytes;
    }
    bytes.into_iter().map(|stride| stride / size).collect()
}

/// An object with `__array_interface__` (version 3).
pub(super) fn import_array_interface(
    x: &Bound<'_, PyAny>,
    framework: Label,
    ask: &Ask<'_, '_>,
) -> Result<Imported, Fail> {
    import_interface(x, "__array_interface__", Device::CPU, framework, ask)
}

/// An object with `__cuda_array_interface__`. The interface does not name the device, so a process with several says nothing
/// of which one it is.
pub(super) fn import_cuda_array_interface(
    x: &Bound<'_, PyAny>,
    framework: Label,
    ask: &Ask<'_, '_>,
) -> Result<Imported, Fail> {
    let none = |why: String| {
        Fail::refused(
            Code::DV02,
            type_name(x),
            format!("its __cuda_array_interface__ names memory of a CUDA device: {why}"),
        )
        .fix("copy it to the host where its device is")
    };
    let driver = cuda::probe().map_err(|why| none(why.to_string()))?;
    // The interface does not say which device: the driver knows whose the address is.
    let address = x
        .getattr("__cuda_array_interface__")
        .and_then(|interface| interface.get_item("data")?.get_item(0)?.extract::<u64>())
        .unwrap_or(0);
    let found = cuda::pointer(driver, address).map_err(|why| none(why.to_string()))?;
    let device = match found.kind {
        MemoryKind::Managed => Device::new(DeviceKind::CUDA_MANAGED, found.ordinal),
        MemoryKind::Device => Device::new(DeviceKind::CUDA, found.ordinal),
        // An empty array has no address.
        _ if address == 0 => Device::new(DeviceKind::CUDA, 0),
        MemoryKind::Pinned => Device::new(DeviceKind::CUDA_HOST, 0),
        _ => {
            let text =
                format!("its __cuda_array_interface__ says that {address:#x} is memory of a device, and it is of none");
            return Err(Fail::refused(Code::DV03, type_name(x), text).fix("report it to the producer"));
        }
    };
    import_interface(x, "__cuda_array_interface__", device, framework, ask)
}

/// Either of the two interfaces, which say the same of memory in different places.
fn import_interface(
    x: &Bound<'_, PyAny>,
    attribute: &str,
    device: Device,
    framework: Label,
    ask: &Ask<'_, '_>,
) -> Result<Imported, Fail> {
    let py = x.py();
    let malformed = |what: &str| Fail::refused(Code::OB01, type_name(x), format!("its {attribute} {what}"));
    let interface = x.getattr(attribute)?;
    let interface = interface.cast::<PyDict>().map_err(|_| malformed("is no dictionary"))?;
    let need =
        |key: &str| interface.get_item(key)?.ok_or_else(|| pyo3::exceptions::PyKeyError::new_err(key.to_owned()));
    let shape: Vec<i64> = need("shape").and_then(|v| v.extract()).map_err(|_| malformed("has no shape"))?;
    let type_string: String = need("typestr").and_then(|v| v.extract()).map_err(|_| malformed("has no typestr"))?;
    let mut traits = Traits::empty();
    let Some((dtype, swapped)) = parse_type_string(&type_string) else {
        let text = format!("the typestr is {type_string:?}");
        return Err(Fail::refused(Code::DT03, type_name(x), text)
            .fix("a = numpy.asarray(x)  # then a field of a, or a.view(\"int64\") of what counts time"));
    };
    if interface.get_item("mask")?.is_some_and(|mask| !mask.is_none()) {
        return Err(Fail::refused(Code::NU01, type_name(x), format!("its {attribute} has a mask"))
            .fix("pass the values and the mask as arrays of their own, or values with the gaps filled"));
    }
    traits.set(Traits::SWAPPED, swapped);
    let size = dtype.padded_size() as i64;
    let strides = match interface.get_item("strides")?.filter(|v| !v.is_none()) {
        None => None,
        Some(strides) => {
            let bytes: Vec<i64> = strides.extract().map_err(|_| malformed("has strides that are no integers"))?;
            if bytes.len() != shape.len() {
                return Err(malformed("has not as many strides as dimensions"));
            }
            Some(element_strides(&shape, bytes.into_iter().collect(), size, &mut traits))
        }
    };
    let data = interface.get_item("data")?.filter(|v| !v.is_none());
    let (pointer, owner) = match &data {
        Some(data) if data.is_instance_of::<PyTuple>() => {
            let (address, read_only): (usize, bool) =
                data.extract().map_err(|_| malformed("has no (address, flag)"))?;
            traits.set(Traits::READ_ONLY, read_only);
            // The interface is a property of many types, and what it points to may belong to the dictionary.
            let keep = PyTuple::new(py, [x, interface.as_any()])?.into_any().into_ptr();
            let owner = Owner::Raw { context: keep.cast(), drop: gil::drop_object };
            (std::ptr::with_exposed_provenance_mut::<u8>(address), owner)
        }
        other => {
            let exporter = other.as_ref().unwrap_or(x);
            // SAFETY: the object is alive and the GIL is held.
            if unsafe { ffi::PyObject_CheckBuffer(exporter.as_ptr()) } == 0 {
                return Err(malformed("has no data, neither an address nor a buffer"));
            }
            let held = Held::get(exporter, ffi::PyBUF_SIMPLE)?;
            let view = held.view();
            traits.set(Traits::READ_ONLY, view.readonly != 0);
            let offset: i64 = interface.get_item("offset")?.map_or(Ok(0), |v| v.extract())?;
            let layout = freehold::Layout::new(&shape, strides.as_deref().unwrap_or(&shape));
            let compact = layout.numel().unwrap_or(i64::MAX).saturating_mul(size);
            if offset < 0 || offset > view.len as i64 || (strides.is_none() && compact > view.len as i64 - offset) {
                return Err(malformed("describes more bytes than its data has"));
            }
            if let Some(strides) = &strides {
                let unit = if traits.contains(Traits::BYTE_STRIDES) {
                    freehold::StrideUnit::Bytes
                } else {
                    freehold::StrideUnit::Elements
                };
                let extent = freehold::Layout::new(&shape, strides)
                    .extent(dtype, false, unit)
                    .map_err(freehold::Error::capsule)?;
                if extent.lo + offset < 0 || extent.hi + offset > view.len as i64 {
                    return Err(malformed("describes more bytes than its data has"));
                }
            }
            (view.buf.cast::<u8>().wrapping_add(offset as usize), held.into_owner())
        }
    };
    let mut options = ask.options(framework, traits, None);
    // Of the CUDA interface: what queued work has written the values. Without it they are there.
    if let Some(stream) = interface.get_item("stream")?.filter(|v| !v.is_none()) {
        options.stream = Some(Stream(stream.extract().map_err(|_| malformed("has a stream that is no integer"))?));
    }
    if let (DeviceKind::CUDA_HOST, Some(stream), false) = (device.kind, options.stream, ask.quiet) {
        // Page-locked memory has no stream here: it is the host's, and what the stream has yet to write is waited for.
        wait_for(stream)?;
    }
    let raw = RawTensor { data: pointer, shape: &shape, strides: strides.as_deref(), dtype, device, owner };
    // SAFETY: the object promises, by the interface's own contract, that the memory is valid while the object (and
    // the dictionary it gave) lives; a buffer's bounds were checked above.
    let tensor = unsafe { Tensor::from_raw(raw, &options) }?;
    Ok(tensor.into())
}

/// Waits on the host for what is queued on a stream of the first device.
#[cold]
fn wait_for(stream: Stream) -> Result<(), Fail> {
    if stream.is_none() {
        return Ok(());
    }
    let wait = || {
        let context = cuda::Context::of(0)?;
        // SAFETY: the producer names a stream of its own, which lives while the array does.
        let stream = unsafe { context.stream(stream) }?;
        cuda::Event::recorded(context, stream)?.synchronize()
    };
    wait().map_err(|error: cuda::CudaError| freehold::Error::device(&error).into())
}

/// `<f4`, `|u1`, `>c16`
fn parse_type_string(text: &str) -> Option<(DType, bool)> {
    let mut chars = text.chars();
    let (order, kind) = (chars.next()?, chars.next()?);
    let size: u8 = chars.as_str().parse().ok()?;
    let code = match kind {
        'b' => DType::CODE_BOOL,
        'i' => DType::CODE_INT,
        'u' => DType::CODE_UINT,
        'f' => DType::CODE_FLOAT,
        'c' => DType::CODE_COMPLEX,
        _ => return None,
    };
    let dtype = DType::new(code, size.checked_mul(8)?);
    dtype.index()?;
    let foreign = if cfg!(target_endian = "little") { order == '>' } else { order == '<' };
    Some((dtype, foreign && size > 1))
}
