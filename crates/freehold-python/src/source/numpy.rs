//! NumPy arrays, read from the C struct.

use std::ffi::c_int;

use freehold::dlpack::{self, DLTensor};
use freehold::tensor_algebra::Dims;
use freehold::{Code, DType, Device, Label, Owner, Tensor, Traits};
use pyo3::prelude::*;

use super::{Ask, Fail, Imported};
use crate::gil;
use crate::numpy_abi::{self, Api, ArrayObject, OWNDATA, fields};

const OBJECT: c_int = 17;
const BYTES: c_int = 18;
const STR: c_int = 19;
const VOID: c_int = 20;
const DATETIME: c_int = 21;
const TIMEDELTA: c_int = 22;
const LONGDOUBLE: c_int = 13;
const CLONGDOUBLE: c_int = 16;
const STRING_DTYPE: c_int = 2056;

/// How many dimensions are converted on the stack.
const INLINE: usize = 8;

/// An array as a tensor. `built`: its memory was made for this call.
#[inline]
pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>, built: bool) -> Result<Imported, Fail> {
    // SAFETY: the adapter is only chosen for arrays.
    let array = unsafe { fields(x) };
    let Some(dtype) = crate::dtype::of_descr(array.descr()) else { return Err(refuse(x, array)) };
    let (shape, steps) = (numbers(array.shape()), numbers(array.byte_strides()));
    let (mut few, mut many) = ([0; INLINE], Dims::new());
    let strides = match few.get_mut(..steps.len()) {
        Some(few) => few,
        None => {
            many.resize(steps.len(), 0);
            &mut many[..]
        }
    };
    let mut traits = Traits::empty();
    if !in_elements(shape, steps, dtype.padded_size(), strides) {
        traits |= Traits::BYTE_STRIDES;
        strides.copy_from_slice(steps);
    }
    traits |= of_values(array, dtype);
    if !array.is_writable() && !crate::freeze::is_frozen(x.as_ptr()) {
        traits |= Traits::READ_ONLY;
    }
    let alloc = allocation(x.py(), array, shape, dtype);
    let freeze = ask.freeze && !traits.contains(Traits::READ_ONLY);
    let owner = if freeze {
        // A view is not frozen by its flag alone: its base can still be written through. `watch` sees that.
        traits.set(Traits::FROZEN, array.flags & OWNDATA != 0);
        if ask.quiet {
            Owner::Borrowed
        } else {
            // SAFETY: an array that is writeable, or read-only because it is frozen already.
            let (context, drop) = unsafe { crate::freeze::freeze(x) };
            Owner::Raw { context, drop }
        }
    } else {
        Owner::Raw { context: x.clone().into_ptr().cast(), drop: gil::drop_object }
    };
    let view = DLTensor {
        data: array.data.cast(),
        device: dlpack::device_to(Device::CPU),
        ndim: shape.len() as i32,
        dtype: dlpack::dtype_to(dtype),
        shape: shape.as_ptr().cast_mut(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    // SAFETY: NumPy keeps the extent of an array readable (and writable, if it says so) while the array lives, which
    // the strong reference ensures; the drop function may be called on any thread.
    match unsafe { Tensor::from_dltensor(&view, owner, &ask.options(Label::NUMPY, traits, alloc)) } {
        Ok(tensor) => Ok(Imported { tensor, built }),
        Err((error, _owner)) => Err(error.into()),
    }
}

/// Strides in elements; `false` if some are not whole ones. Where a dimension has at most one element its stride means
/// nothing, and NumPy leaves anything there.
#[inline]
fn in_elements(shape: &[i64], steps: &[i64], size: usize, strides: &mut [i64]) -> bool {
    // The sizes of NumPy's and ml_dtypes' items are powers of two.
    let (shift, low) = (size.trailing_zeros(), size as i64 - 1);
    let mut odd = false;
    for ((stride, &step), &n) in strides.iter_mut().zip(steps).zip(shape) {
        odd |= step & low != 0 && n > 1;
        *stride = step >> shift;
    }
    !odd
}

/// What an array's dtype says of its bytes.
#[inline]
fn of_values(array: &ArrayObject, dtype: DType) -> Traits {
    let mut traits = Traits::empty();
    traits.set(Traits::PADDED, dtype.is_sub_byte());
    let order = array.descr().byteorder as u8;
    let other = if cfg!(target_endian = "little") { b'>' } else { b'<' };
    traits.set(Traits::SWAPPED, order == other && dtype.padded_size() > 1);
    traits
}

/// Dimensions or strides as they are in the struct.
#[inline]
fn numbers(values: &[isize]) -> &[i64] {
    const { assert!(size_of::<isize>() == size_of::<i64>(), "64-bit platforms only") };
    // SAFETY: the two types have the same size and alignment, and every bit pattern is a value of both.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// The allocation behind an array: its own, or that of the array at the end of its chain of bases.
#[inline]
fn allocation(py: Python<'_>, array: &ArrayObject, shape: &[i64], dtype: DType) -> Option<(u64, u64)> {
    if array.flags & OWNDATA != 0 {
        let bytes = shape.iter().product::<i64>().max(0) as u64 * dtype.padded_size() as u64;
        return Some((array.data.addr() as u64, bytes));
    }
    let (start, bytes) = base_allocation(py, array);
    (start != 0).then_some((start, bytes))
}

/// The allocation of the array at the end of the chain of bases, at 0 if none is known: two numbers come back in registers, an
/// `Option` of them through memory, which is waited for.
fn base_allocation(py: Python<'_>, array: &ArrayObject) -> (u64, u64) {
    owner_of(py, array).map_or((0, 0), |(api, owner)| {
        let items = owner.shape().iter().product::<isize>().max(0) as u64;
        (owner.data.addr() as u64, items * api.item_size(owner.descr()) as u64)
    })
}

/// The array at the end of an array's chain of bases, if that is one that owns its memory.
#[inline]
fn owner_of<'a>(py: Python<'a>, array: &'a ArrayObject) -> Option<(&'a Api, &'a ArrayObject)> {
    let api = numpy_abi::api(py).ok()?;
    let mut array = array;
    let mut base;
    while array.flags & OWNDATA == 0 {
        // SAFETY: an array keeps its base alive; a NULL base ends the chain.
        base = unsafe { Bound::from_borrowed_ptr_or_opt(py, array.base) }?;
        if !api.is_array(&base) {
            return None;
        }
        // SAFETY: just checked; the base lives as long as the array that refers to it, which the caller holds.
        array = unsafe { &*base.as_ptr().cast::<ArrayObject>() };
    }
    Some((api, array))
}

/// A masked array: its data if nothing is masked, its filled values if the caller says with what.
pub(super) fn import_masked(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let py = x.py();
    // SAFETY: a masked array is an array.
    let array = unsafe { fields(x) };
    if crate::dtype::of_descr(array.descr()).is_none() {
        return Err(refuse(x, array)); // A record has a mask of records, which cannot be counted.
    }
    let mask = x.getattr("_mask")?;
    let masked: usize =
        if mask.is_instance_of::<pyo3::types::PyBool>() { 0 } else { mask.call_method0("sum")?.extract().unwrap_or(0) };
    if masked == 0 {
        return import(&x.getattr("data")?, ask, false);
    }
    match ask.fill {
        Some(fill) => import(&x.call_method1("filled", (fill,))?, ask, true),
        None => {
            let total: usize = x.getattr("size")?.extract()?;
            let text = format!("{masked} of {total} elements are masked; numpy itself would drop the mask");
            Err(Fail::refused(Code::NU01, notation(py, array), text))
        }
    }
}

/// A NumPy scalar: a value, so there is nothing to share.
pub(super) fn import_scalar(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let array = x.py().import("numpy")?.getattr("asarray")?.call1((x,))?;
    import(&array, ask, true)
}

/// `object[3] numpy`
fn notation(py: Python<'_>, array: &ArrayObject) -> String {
    // SAFETY: an array keeps its descriptor alive.
    let descr = unsafe { Bound::from_borrowed_ptr(py, array.descr.cast()) };
    let name = match crate::dtype::of_descr(array.descr()) {
        Some(dtype) => dtype.to_string(),
        None => descr.str().map_or_else(|_| "?".to_owned(), |text| text.to_string()),
    };
    let shape = array.shape().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    format!("{name}[{shape}] numpy cpu")
}

/// Why an array whose dtype has no DLPack code is refused, with what to do for each kind of dtype.
fn refuse(x: &Bound<'_, PyAny>, array: &ArrayObject) -> Fail {
    let source = notation(x.py(), array);
    match array.descr().type_num {
        OBJECT | STRING_DTYPE => {
            let (count, total, kind) = element_types(x).unwrap_or((0, 0, "object".to_owned()));
            let text = format!("an object array has no fixed element size; {count} of {total} elements are {kind}");
            let fix = match kind.as_str() {
                "str" | "bytes" => "x.astype(\"float64\")  # if the strings spell numbers",
                "int" => "x.astype(\"int64\")",
                "bool" => "x.astype(\"bool\")",
                _ => "x.astype(\"float64\")",
            };
            Fail::refused(Code::DT01, source, text).fix(fix)
        }
        BYTES | STR => Fail::refused(Code::DT03, source, "text has no numeric value")
            .fix("x.astype(\"float64\")  # if the strings spell numbers")
            .fix("x.view(\"uint8\")  # the raw bytes of a contiguous array, shares"),
        DATETIME | TIMEDELTA => {
            let unit = time_unit(x).unwrap_or_else(|| "its unit".to_owned());
            let (what, since) = match array.descr().type_num {
                DATETIME => ("datetime64", " since 1970-01-01"),
                _ => ("timedelta64", ""),
            };
            Fail::refused(Code::DT03, source, format!("{what} counts {unit}{since}, which a tensor cannot say"))
                .fix(format!("x.view(\"int64\")  # shares; the values are {unit}{since}"))
        }
        LONGDOUBLE => Fail::refused(Code::DT03, source, "long double is another format on every platform")
            .fix("x.astype(\"float64\")  # rounds to 53 bits"),
        CLONGDOUBLE => Fail::refused(Code::DT03, source, "long double is another format on every platform")
            .fix("x.astype(\"complex128\")  # rounds to 53 bits"),
        VOID => refuse_void(x, source),
        _ => Fail::refused(Code::DT03, source, "the dtype was registered by another package"),
    }
}

fn refuse_void(x: &Bound<'_, PyAny>, source: String) -> Fail {
    let fields = x
        .getattr("dtype")
        .and_then(|dtype| dtype.getattr("names"))
        .and_then(|names| names.extract::<Option<Vec<String>>>())
        .unwrap_or_default();
    match fields {
        Some(names) => {
            let mut fail =
                Fail::refused(Code::DT03, source, format!("a record of {} fields is not one number", names.len()));
            for name in names.iter().take(3) {
                fail = fail.fix(format!("x[{name:?}]  # one field, shares"));
            }
            fail
        }
        None => Fail::refused(Code::DT03, source, "raw bytes have no numeric value")
            .fix("x.view(\"uint8\")  # the raw bytes of a contiguous array, shares"),
    }
}

/// The most common type among the first elements: how many, of how many, its name.
fn element_types(x: &Bound<'_, PyAny>) -> PyResult<(usize, usize, String)> {
    const LOOK: usize = 10_000;
    let mut counts: Vec<(String, usize)> = Vec::new();
    let mut total = 0;
    for item in x.getattr("flat")?.try_iter()?.take(LOOK) {
        let name = item?.get_type().name()?.to_string();
        total += 1;
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let (name, count) = counts.into_iter().max_by_key(|(_, count)| *count).unwrap_or(("object".to_owned(), 0));
    Ok((count, total, name))
}

/// `nanoseconds`, `25 seconds`: what a datetime64 or timedelta64 array counts.
fn time_unit(x: &Bound<'_, PyAny>) -> Option<String> {
    let data = x.py().import("numpy").ok()?.getattr("datetime_data").ok()?.call1((x.getattr("dtype").ok()?,)).ok()?;
    let (unit, count): (String, i64) = data.extract().ok()?;
    let name = match unit.as_str() {
        "Y" => "years",
        "M" => "months",
        "W" => "weeks",
        "D" => "days",
        "h" => "hours",
        "m" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "ps" => "picoseconds",
        "fs" => "femtoseconds",
        "as" => "attoseconds",
        _ => "units of no size",
    };
    Some(if count == 1 { name.to_owned() } else { format!("units of {count} {name}") })
}
