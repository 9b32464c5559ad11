//! The Arrow C data interface: arrays and chunked arrays of pyarrow, columns of Polars and of pandas' Arrow types.
//!
//! # Design
//!
//! * Numbers without nulls are shared, with the array's offset; fixed-size lists of them are one dimension more, and arrays of
//!   tensors of one shape as many as the shape has.
//! * Arrow memory is immutable: consumers get it read-only.
//! * Several chunks are gathered in one pass, and that is decided and said; booleans, which Arrow packs into bits, are unpacked.

use std::ffi::{CStr, c_char, c_void};

use freehold::tensor_algebra::{Dims, compact_strides};
use freehold::{Code, DType, Device, Label, Order, RawTensor, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrow_abi::{Array, ArrayBox, Described, Schema, Stream, failed};
use super::frame::Columns;
use super::{Ask, Fail, Imported};
use crate::names::type_name;

/// An object that offers the interface. What a column of pandas is made of is imported under pandas' name.
pub(super) fn import(x: &Bound<'_, PyAny>, framework: Label, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let source = Source { x, framework };
    let (described, arrays) = source.arrays()?;
    let Format { dtype, inner } = source.format(&described)?;
    let nulls = arrays.iter().map(|array| inner.nulls(array)).sum::<Result<i64, Fail>>()?;
    if nulls > 0 {
        let length = arrays.iter().map(|array| array.length).sum::<i64>();
        return source.fill(nulls, length.saturating_mul(inner.cell()), &inner, ask);
    }
    let Some(dtype) = dtype else { return source.unpack(&arrays, &inner, ask) };
    // What is on the ledger of several chunks is the tensor that they are gathered into.
    let part = Ask { quiet: ask.quiet || arrays.len() > 1, ..*ask };
    let mut parts = arrays
        .into_iter()
        .map(|array| source.tensor(array, dtype, &inner, &part))
        .collect::<Result<Vec<Tensor>, Fail>>()?;
    match parts.len() {
        0 => Tensor::zeros_on(Device::CPU, dtype, &inner.layout(0)?.0, &ask.options(framework, READ_ONLY, None))
            .map(Imported::from)
            .map_err(Fail::from),
        1 => Ok(parts.remove(0).into()),
        _ => Err(Fail::Scattered(Box::new(Columns::chunks(parts, framework, source.notation())?))),
    }
}

pub(super) use super::arrow_numbers::is_of_numbers;

/// An array of numbers, whose own capsule takes a sixth of the interface's time; where it gives none (nulls) the interface
/// says why.
pub(super) fn import_numbers(x: &Bound<'_, PyAny>, framework: Label, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    match super::arrow_numbers::import(x, &ask.options(framework, READ_ONLY, None))? {
        Some(tensor) => Ok(tensor.into()),
        None => import(x, framework, ask),
    }
}

const READ_ONLY: Traits = Traits::READ_ONLY.union(Traits::IMMUTABLE);

/// What a format string says.
struct Format {
    /// `None` for booleans.
    dtype: Option<DType>,
    inner: Inner,
}

/// What is around the numbers.
struct Inner {
    /// The sizes of the fixed-size lists, from the outermost on.
    sizes: Dims,
    /// The tensors of which a fixed-size list holds the numbers.
    cell: Option<Cell>,
}

/// Tensors of one shape: their dimensions as they lie in memory, row-major, and which of these each of theirs is.
struct Cell {
    shape: Dims,
    order: Vec<usize>,
}

impl Cell {
    /// From the JSON of `arrow.fixed_shape_tensor`, for a list of so many numbers.
    fn parse(json: &str, numbers: i64) -> Option<Cell> {
        let json: serde_json::Value = serde_json::from_str(json).ok()?;
        let shape = json.get("shape")?.as_array()?.iter().map(serde_json::Value::as_i64).collect::<Option<Dims>>()?;
        let order: Vec<usize> = match json.get("permutation").and_then(serde_json::Value::as_array) {
            None => (0..shape.len()).collect(),
            Some(order) => order.iter().map(|axis| axis.as_u64().map(|n| n as usize)).collect::<Option<_>>()?,
        };
        let product = shape.iter().try_fold(1i64, |all, n| all.checked_mul(*n));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let fits = product == Some(numbers) && sorted.into_iter().eq(0..shape.len()) && shape.iter().all(|n| *n >= 0);
        fits.then_some(Cell { shape, order })
    }
}

impl Inner {
    /// Numbers in an element of the array.
    fn cell(&self) -> i64 {
        self.sizes.iter().fold(1, |all, n| all.saturating_mul(*n))
    }

    /// Shape of an array of so many elements, and its strides if they are not row-major.
    fn layout(&self, length: i64) -> Result<(Dims, Option<Dims>), Fail> {
        let Some(Cell { shape, order }) = &self.cell else {
            return Ok((std::iter::once(length).chain(self.sizes.iter().copied()).collect(), None));
        };
        let physical: Dims = std::iter::once(length).chain(shape.iter().copied()).collect();
        let steps = compact_strides(&physical, Order::C).map_err(freehold::Error::capsule)?;
        let pick = |of: &Dims| std::iter::once(of[0]).chain(order.iter().map(|axis| of[axis + 1])).collect();
        Ok((pick(&physical), Some(pick(&steps))))
    }

    /// The array of numbers at the bottom, with the first element and the number of elements that belong to `array`.
    fn bottom<'a>(&self, array: &'a Array) -> Result<(&'a Array, i64, i64), Fail> {
        self.level(array, self.sizes.len())
    }

    /// As `bottom`, below so many of the lists.
    fn level<'a>(&self, array: &'a Array, depth: usize) -> Result<(&'a Array, i64, i64), Fail> {
        let (mut at, mut first, mut count) = (array, array.offset, array.length);
        for size in &self.sizes[..depth] {
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

    /// Numbers that are null, or in a list that is.
    fn nulls(&self, array: &Array) -> Result<i64, Fail> {
        if self.sizes.is_empty() {
            return array.nulls(array.offset, array.length);
        }
        let levels = (0..=self.sizes.len()).map(|depth| self.level(array, depth)).collect::<Result<Vec<_>, Fail>>()?;
        let mut any = 0;
        for (at, first, count) in &levels {
            any += at.nulls(*first, *count)?;
        }
        let numbers = levels.last().map_or(0, |(_, _, count)| *count);
        if any == 0 || numbers == 0 {
            return Ok(0);
        }
        let null = |i: i64| levels.iter().any(|(at, first, count)| at.is_null(first + i / (numbers / count)));
        Ok((0..numbers).filter(|i| null(*i)).count() as i64)
    }
}

struct Source<'a, 'py> {
    x: &'a Bound<'py, PyAny>,
    framework: Label,
}

impl Source<'_, '_> {
    /// What the schema says, and one array or every chunk.
    fn arrays(&self) -> Result<(Described, Vec<ArrayBox>), Fail> {
        let x = self.x;
        if x.hasattr("__arrow_c_array__")? {
            let made = x.call_method0("__arrow_c_array__")?.cast_into::<PyTuple>().map_err(PyErr::from)?;
            let (schema, array) = (made.get_item(0)?, made.get_item(1)?);
            let schema = pointer::<Schema>(&schema, c"arrow_schema")?;
            let array = pointer::<Array>(&array, c"arrow_array")?;
            // SAFETY: the capsules hold these structs, alive while the tuple is; the array is moved out once, which leaves the
            // capsule a released one, as the interface wants.
            let (described, array) = unsafe { ((*schema).described()?, ArrayBox::take(array)?) };
            return Ok((described, vec![array]));
        }
        let made = x.call_method0("__arrow_c_stream__")?;
        let stream = pointer::<Stream>(&made, c"arrow_array_stream")?;
        // SAFETY: the capsule holds the stream, and nobody else reads from it.
        unsafe { (*stream).read() }
    }

    fn format(&self, described: &Described) -> Result<Format, Fail> {
        let mut sizes = Dims::new();
        let mut rest = &described.format[..];
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
        let cell: Option<Cell> = match (&described.cell, &sizes[..]) {
            (Some(json), [numbers]) => {
                Some(Cell::parse(json, *numbers).ok_or_else(|| failed("its tensors' shape does not fit its list"))?)
            }
            _ => None,
        };
        if dtype.is_none() && cell.as_ref().is_some_and(|cell| !cell.order.is_sorted()) {
            return Err(Fail::refused(Code::DT03, self.notation(), "bits of tensors whose axes were exchanged")
                .fix("x.storage  # the lists, with the axes as they lie in memory"));
        }
        Ok(Format { dtype, inner: Inner { sizes, cell } })
    }

    /// `pyarrow.StringArray[3] cpu`
    fn notation(&self) -> String {
        let length = self.x.len().map_or_else(|_| String::new(), |n| format!("[{n}]"));
        format!("{}{length} cpu", type_name(self.x))
    }

    /// A line to type, in the words of the library that has the column.
    fn words<'a>(&self, polars: &'a str, pandas: &'a str, others: &'a str) -> &'a str {
        match self.framework.as_str() {
            "polars" => polars,
            "pandas" => pandas,
            _ => others,
        }
    }

    /// Why there is no tensor of this format, with what to do in the words of the library that has the column.
    fn refuse(&self, format: &str) -> Fail {
        let refused = |code, text: &str| Fail::refused(code, self.notation(), text.to_owned());
        let of = |polars, pandas, others| self.words(polars, pandas, others).to_owned();
        match format.as_bytes() {
            [b'n', ..] => refused(Code::NU01, "every element of a null column is null").fix("fh.copy([0] * len(x))"),
            b"dictionary" => refused(Code::DT03, "a dictionary's elements are indices").fix(of(
                "x.to_physical()  # the indices",
                "x.astype(x.dtype.pyarrow_dtype.value_type.to_pandas_dtype())  # the values",
                "x.cast(x.type.value_type)  # the values",
            )),
            [b't', ..] => {
                // Days, and seconds and milliseconds of a day, have 32 bits.
                let wide = if matches!(format, "tdD" | "tts" | "ttm") { "int32" } else { "int64" };
                refused(Code::DT03, "it holds dates, times or durations").fix(of(
                    "x.to_physical()  # the numbers behind them",
                    &format!("x.astype(\"{wide}[pyarrow]\")  # the numbers behind them"),
                    &format!("x.cast(\"{wide}\")  # the numbers behind them"),
                ))
            }
            [b'u' | b'U' | b'z' | b'Z' | b'v', ..] => {
                refused(Code::DT03, "text and bytes have no numeric value").fix(of(
                    "x.cast(float)  # if they spell numbers",
                    "x.astype(\"float64[pyarrow]\")  # if they spell numbers",
                    "x.cast(\"float64\")  # if they spell numbers",
                ))
            }
            [b'd', ..] => refused(Code::DT03, "decimals are scaled integers").fix(of(
                "x.cast(float)  # rounds to 53 bits",
                "x.astype(\"float64[pyarrow]\")  # rounds to 53 bits",
                "x.cast(\"float64\")  # rounds to 53 bits",
            )),
            [b'w', ..] => refused(Code::DT03, "bytes of a fixed size have no numeric value")
                .fix("numpy.frombuffer(x.buffers()[1], \"uint8\")  # the raw bytes"),
            [b'+', b'l' | b'L' | b'v', ..] => {
                refused(Code::DT03, "lists of different lengths are not one tensor").fix(of(
                    "x.explode()  # the values of all, one after the other",
                    "x.explode()  # the values of all, one after the other",
                    "x.flatten()  # the values of all, one after the other",
                ))
            }
            [b'+', b'r', ..] => refused(Code::DT03, "runs of equal values are kept once")
                .fix("pyarrow.compute.run_end_decode(x)  # the values"),
            [b'+', b's', ..] => refused(Code::DT03, "a table has columns").fix("pass a column at a time"),
            [b'+', b'm', ..] => refused(Code::DT03, "a map has keys and values").fix("x.items  # the values"),
            [b'+', ..] => {
                refused(Code::DT03, "a union's elements have several types").fix("x.field(0)  # those of one")
            }
            _ => refused(Code::DT03, &format!("Arrow's format is {format:?}")).fix(of(
                "x.cast(float)  # rounds to 53 bits",
                "x.astype(\"float64[pyarrow]\")  # rounds to 53 bits",
                "x.cast(\"float64\")  # rounds to 53 bits",
            )),
        }
    }

    /// Nulls: what `fill=` says, or a refusal.
    fn fill(&self, nulls: i64, total: i64, inner: &Inner, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
        if !inner.sizes.is_empty() {
            let text = format!("{nulls} of {total} numbers in its lists are null, and nobody fills those");
            return Err(Fail::refused(Code::NU01, self.notation(), text).fix(self.words(
                "x.explode().fill_null(0)  # the numbers, in one dimension less",
                "x.explode().fillna(0)  # the numbers, in one dimension less",
                "x.flatten(recursive=True).fill_null(0)  # the numbers of the lists that are there, in one dimension",
            )));
        }
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
        let (shape, strides) = inner.layout(array.length)?;
        let alloc = (!data.is_null()).then_some((data.addr() as u64, end));
        let data = data.cast_mut().cast::<u8>().wrapping_add(start as usize);
        let raw = RawTensor {
            data,
            shape: &shape,
            strides: strides.as_deref(),
            dtype,
            device: Device::CPU,
            owner: array.into_owner(),
        };
        // SAFETY: the interface promises that the buffer has `offset + length` elements until the array is released, which
        // its owner does when the tensor is dropped; nothing is written, as the traits say.
        unsafe { Tensor::from_raw(raw, &ask.options(self.framework, READ_ONLY, alloc)) }.map_err(Fail::from)
    }

    /// Booleans: a byte for each bit.
    fn unpack(&self, arrays: &[ArrayBox], inner: &Inner, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
        let (shape, _) = inner.layout(arrays.iter().map(|array| array.length).sum())?;
        let options = ask.options(self.framework, Traits::empty(), None);
        let tensor = Tensor::zeros_on(Device::CPU, DType::BOOL, &shape, &options)?;
        let mut place = tensor.data_ptr();
        for array in arrays {
            let (at, first, count) = inner.bottom(array)?;
            let data = at.data()?.cast::<u8>();
            if data.is_null() && count > 0 {
                return Err(failed("its buffer of values is NULL"));
            }
            for i in first..first + count {
                // SAFETY: the buffer has a bit for each element from 0 to `offset + length`, by the interface's promise,
                // among which `bottom` saw that these are; the tensor is new, nobody else has it, and has a byte for
                // each element of every array.
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
