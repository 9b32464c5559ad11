//! The Arrow C data interface: arrays and chunked arrays of pyarrow, columns of Polars and of pandas' Arrow types.
//!
//! # Design
//!
//! * Numbers without nulls are shared, with the array's offset; fixed-size lists of them are one dimension more.
//! * Arrow memory is immutable: consumers get it read-only.
//! * Several chunks are gathered in one pass, and that is decided and said; booleans, which Arrow packs into bits, are unpacked.

use std::ffi::{CStr, c_char, c_void};

use freehold::tensor_algebra::Dims;
use freehold::{Code, DType, Device, Label, RawTensor, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrow_abi::{Array, ArrayBox, Schema, Stream, failed};
use super::frame::Columns;
use super::{Ask, Fail, Imported};
use crate::names::type_name;

/// An object that offers the interface. What a column of pandas is made of is imported under pandas' name.
pub(super) fn import(x: &Bound<'_, PyAny>, framework: Label, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let source = Source { x, framework };
    let (format, arrays) = source.arrays()?;
    let Format { dtype, inner } = source.format(&format)?;
    let nulls = arrays.iter().map(|array| inner.nulls(array)).sum::<Result<i64, Fail>>()?;
    if nulls > 0 {
        return source.fill(nulls, arrays.iter().map(|array| array.length).sum(), ask);
    }
    let Some(dtype) = dtype else { return source.unpack(&arrays, ask) };
    // What is on the ledger of several chunks is the tensor that they are gathered into.
    let part = Ask { quiet: ask.quiet || arrays.len() > 1, ..*ask };
    let mut parts = arrays
        .into_iter()
        .map(|array| source.tensor(array, dtype, &inner, &part))
        .collect::<Result<Vec<Tensor>, Fail>>()?;
    match parts.len() {
        0 => Tensor::zeros_on(Device::CPU, dtype, &inner.shape(0), &ask.options(framework, READ_ONLY, None))
            .map(Imported::from)
            .map_err(Fail::from),
        1 => Ok(parts.remove(0).into()),
        _ => Err(Fail::Scattered(Box::new(Columns::chunks(parts, framework, source.notation())?))),
    }
}

const READ_ONLY: Traits = Traits::READ_ONLY.union(Traits::IMMUTABLE);

/// What a format string says.
struct Format {
    /// `None` for booleans.
    dtype: Option<DType>,
    inner: Inner,
}

/// The sizes of the fixed-size lists around the numbers.
struct Inner(Dims);

impl Inner {
    fn shape(&self, length: i64) -> Dims {
        std::iter::once(length).chain(self.0.iter().copied()).collect()
    }

    /// The array of numbers at the bottom, with the first element and the number of elements that belong to `array`.
    fn bottom<'a>(&self, array: &'a Array) -> Result<(&'a Array, i64, i64), Fail> {
        let (mut at, mut first, mut count) = (array, array.offset, array.length);
        for size in &self.0 {
            at = at.child().ok_or_else(|| failed("a fixed-size list has no child"))?;
            let inside = |n: i64| n.checked_mul(*size);
            (first, count) = match (inside(first).and_then(|n| n.checked_add(at.offset)), inside(count)) {
                (Some(first), Some(count)) => (first, count),
                _ => return Err(failed("a fixed-size list is too long")),
            };
            let end = at.offset.checked_add(at.length);
            if first.checked_add(count).is_none_or(|last| end.is_none_or(|end| last > end)) {
                return Err(failed("a fixed-size list is longer than its child"));
            }
        }
        Ok((at, first, count))
    }

    /// Null elements, of the lists and of the numbers.
    fn nulls(&self, array: &Array) -> Result<i64, Fail> {
        let mut nulls = array.nulls(array.offset, array.length)?;
        for depth in 1..=self.0.len() {
            let (at, first, count) = Inner(self.0[..depth].into()).bottom(array)?;
            nulls += at.nulls(first, count)?;
        }
        Ok(nulls)
    }
}

struct Source<'a, 'py> {
    x: &'a Bound<'py, PyAny>,
    framework: Label,
}

impl Source<'_, '_> {
    /// The format, and one array or every chunk.
    fn arrays(&self) -> Result<(String, Vec<ArrayBox>), Fail> {
        let x = self.x;
        if x.hasattr("__arrow_c_array__")? {
            let made = x.call_method0("__arrow_c_array__")?.cast_into::<PyTuple>().map_err(PyErr::from)?;
            let (schema, array) = (made.get_item(0)?, made.get_item(1)?);
            let schema = pointer::<Schema>(&schema, c"arrow_schema")?;
            let array = pointer::<Array>(&array, c"arrow_array")?;
            // SAFETY: the capsules hold these structs, alive while the tuple is; the array is moved out once, which leaves the
            // capsule a released one, as the interface wants.
            let (format, array) = unsafe { ((*schema).format()?, ArrayBox::take(array)?) };
            return Ok((format, vec![array]));
        }
        let made = x.call_method0("__arrow_c_stream__")?;
        let stream = pointer::<Stream>(&made, c"arrow_array_stream")?;
        // SAFETY: the capsule holds the stream, and nobody else reads from it.
        unsafe { (*stream).read() }
    }

    fn format(&self, format: &str) -> Result<Format, Fail> {
        let mut sizes = Dims::new();
        let mut rest = format;
        while let Some(list) = rest.strip_prefix("+w:") {
            let (size, item) = list.split_once('|').unwrap_or((list, ""));
            sizes.push(size.parse().ok().filter(|n| *n >= 0).ok_or_else(|| failed("a list's size is no number"))?);
            rest = item;
        }
        let dtype = match rest {
            "b" => None,
            "c" => Some(DType::I8),
            "C" => Some(DType::U8),
            "s" => Some(DType::I16),
            "S" => Some(DType::U16),
            "i" => Some(DType::I32),
            "I" => Some(DType::U32),
            "l" => Some(DType::I64),
            "L" => Some(DType::U64),
            "e" => Some(DType::F16),
            "f" => Some(DType::F32),
            "g" => Some(DType::F64),
            other => return Err(self.refuse(other)),
        };
        if dtype.is_none() && !sizes.is_empty() {
            return Err(self.refuse("+w of b"));
        }
        Ok(Format { dtype, inner: Inner(sizes) })
    }

    /// `pyarrow.StringArray[3] cpu`
    fn notation(&self) -> String {
        let length = self.x.len().map_or_else(|_| String::new(), |n| format!("[{n}]"));
        format!("{}{length} cpu", type_name(self.x))
    }

    fn refuse(&self, format: &str) -> Fail {
        let refused = |text: &str| Fail::refused(Code::DT03, self.notation(), text.to_owned());
        match format.as_bytes() {
            [b'n', ..] => Fail::refused(Code::NU01, self.notation(), "every element of a null column is null"),
            [b't', b's' | b'd' | b't' | b'D', ..] => {
                refused("it holds dates, times or durations").fix("x.cast(\"int64\")  # the numbers behind them")
            }
            [b'u' | b'U' | b'z' | b'Z' | b'v', ..] => refused("text and bytes have no numeric value"),
            [b'd', ..] => refused("decimals are scaled integers").fix("x.cast(\"float64\")  # rounds to 53 bits"),
            [b'+', b's', ..] => refused("a table has columns").fix("pass a column at a time"),
            [b'+', ..] => refused("lists of different lengths are not one tensor"),
            _ => refused(&format!("Arrow's format is {format:?}")),
        }
    }

    /// Nulls: what `fill=` says, or a refusal.
    fn fill(&self, nulls: i64, total: i64, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
        let Some(fill) = ask.fill else {
            return Err(Fail::refused(Code::NU01, self.notation(), format!("{nulls} of {total} elements are null")));
        };
        if !self.x.hasattr("fill_null")? {
            let text = format!("{nulls} of {total} elements are null, and {} cannot fill them", type_name(self.x));
            return Err(Fail::refused(Code::NU01, self.notation(), text));
        }
        let filled = self.x.call_method1("fill_null", (fill,))?;
        let unfilled = Ask { fill: None, ..*ask };
        import(&filled, self.framework, &unfilled).map(|imported| Imported { built: true, ..imported })
    }

    /// An array as a tensor that keeps it.
    fn tensor(&self, array: ArrayBox, dtype: DType, inner: &Inner, ask: &Ask<'_, '_>) -> Result<Tensor, Fail> {
        let (at, first, count) = inner.bottom(&array)?;
        let size = dtype.padded_size() as i64;
        let bytes = |n: i64| n.checked_mul(size).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| failed("too long"));
        let (start, end) = (bytes(first)?, bytes(first.checked_add(count).ok_or_else(|| failed("too long"))?)?);
        let data = at.data()?;
        if data.is_null() && count > 0 {
            return Err(failed("its buffer of values is NULL"));
        }
        let shape = inner.shape(array.length);
        let alloc = (!data.is_null()).then_some((data.addr() as u64, end));
        let data = data.cast_mut().cast::<u8>().wrapping_add(start as usize);
        let raw =
            RawTensor { data, shape: &shape, strides: None, dtype, device: Device::CPU, owner: array.into_owner() };
        // SAFETY: the interface promises that the buffer has `offset + length` elements until the array is released, which
        // its owner does when the tensor is dropped; nothing is written, as the traits say.
        unsafe { Tensor::from_raw(raw, &ask.options(self.framework, READ_ONLY, alloc)) }.map_err(Fail::from)
    }

    /// Booleans: a byte for each bit.
    fn unpack(&self, arrays: &[ArrayBox], ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
        let length = arrays.iter().map(|array| array.length).sum();
        let options = ask.options(self.framework, Traits::empty(), None);
        let tensor = Tensor::zeros_on(Device::CPU, DType::BOOL, &[length], &options)?;
        let mut place = tensor.data_ptr();
        for array in arrays.iter().filter(|array| array.length > 0) {
            let data = array.data()?.cast::<u8>();
            if data.is_null() {
                return Err(failed("its buffer of values is NULL"));
            }
            for i in array.offset..array.offset + array.length {
                // SAFETY: the buffer has a bit for each element from 0 to `offset + length`, by the interface's promise; the
                // tensor is new, nobody else has it, and has a byte for each element of every array.
                unsafe {
                    place.write(*data.add((i >> 3) as usize) >> (i & 7) & 1);
                    place = place.add(1);
                }
            }
        }
        Ok(Imported { tensor, built: true })
    }
}

/// The struct in a capsule of this name.
fn pointer<T>(capsule: &Bound<'_, PyAny>, name: &CStr) -> Result<*mut T, Fail> {
    // SAFETY: any object may be asked; one that is no capsule of this name gives NULL with an exception set.
    let pointer = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), name.as_ptr().cast::<c_char>()) };
    if pointer.is_null() {
        return Err(PyErr::fetch(capsule.py()).into());
    }
    Ok(pointer.cast::<c_void>().cast())
}
