//! Numbers, and nested sequences of numbers or arrays: values, which are built into memory of ours.

use freehold::tensor_algebra::Dims;
use freehold::{Asked, Policy, Request, copy_into};
use freehold::{Caps, Code, DType, Device, Dialect, Label, Owner, RawTensor, Tensor, Traits};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyInt, PyList, PyRange, PyTuple};

use super::{Adapter, Ask, Fail, Imported, kind_of};
use crate::names::type_name;

/// One number of a sequence.
#[derive(Clone, Copy)]
enum Value {
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Big(u64),
    Float(f64),
    Complex(f64, f64),
}

/// What is collected on the walk through the nested sequences.
#[derive(Default)]
struct Walk<'py> {
    shape: Vec<i64>,
    values: Vec<Value>,
    /// Leaves that are arrays themselves.
    arrays: Vec<Bound<'py, PyAny>>,
    /// Whether all of these are NumPy's scalars, and whether there are numbers of Python's beside them.
    scalars: bool,
    mixed: bool,
}

pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    let mut walk = Walk { scalars: true, ..Walk::default() };
    visit(x, 0, &mut walk)?;
    if walk.scalars && !walk.arrays.is_empty() && (walk.mixed || !of_one_type(&walk.arrays)) {
        // What NumPy's scalars of several types have in common is NumPy's to say; they are a box, as was seen.
        let array = x.py().import("numpy")?.getattr("asarray")?.call1((x,))?;
        return super::import(&array, kind_of(&array)?, ask).map(|imported| Imported { built: true, ..imported });
    }
    let tensor = if walk.arrays.is_empty() { build(x, walk, ask)? } else { stack(x, walk, ask)? };
    Ok(Imported { tensor, built: true })
}

fn of_one_type(scalars: &[Bound<'_, PyAny>]) -> bool {
    scalars.iter().all(|scalar| scalar.get_type_ptr() == scalars[0].get_type_ptr())
}

fn is_sequence(x: &Bound<'_, PyAny>) -> bool {
    x.is_instance_of::<PyList>() || x.is_instance_of::<PyTuple>() || x.is_instance_of::<PyRange>()
}

fn visit<'py>(x: &Bound<'py, PyAny>, depth: usize, walk: &mut Walk<'py>) -> Result<(), Fail> {
    if !is_sequence(x) {
        return leaf(x, depth, walk);
    }
    if depth >= freehold::tensor_algebra::MAX_NDIM {
        return Err(ragged(x, "nested deeper than 64 levels"));
    }
    let length = x.len()? as i64;
    match walk.shape.get(depth) {
        None if walk.values.is_empty() && walk.arrays.is_empty() => walk.shape.push(length),
        None => return Err(ragged(x, "some elements are sequences and some are not")),
        Some(expected) if *expected != length => {
            let text = format!("a sequence of {length} where the others have {expected}, at depth {depth}");
            let padded = "n = max(map(len, x)); x = [[*row] + [0] * (n - len(row)) for row in x]";
            return Err(match ragged(x, &text) {
                Fail::Refused(mut refusal) if depth == 1 => {
                    refusal.fixes = vec![format!("{padded}  # pads the rows to one length")];
                    Fail::Refused(refusal)
                }
                fail => fail,
            });
        }
        Some(_) => {}
    }
    for item in x.try_iter()? {
        visit(&item?, depth + 1, walk)?;
    }
    Ok(())
}

fn leaf<'py>(x: &Bound<'py, PyAny>, depth: usize, walk: &mut Walk<'py>) -> Result<(), Fail> {
    if walk.shape.len() != depth {
        return Err(ragged(x, "some elements are sequences and some are not"));
    }
    let value = if let Ok(value) = x.cast::<PyBool>() {
        Value::Bool(value.is_true())
    } else if x.is_instance_of::<PyInt>() {
        match x.extract::<i64>() {
            Ok(value) => Value::Int(value),
            Err(_) => match x.extract::<u64>() {
                Ok(value) => Value::Big(value),
                Err(_) => {
                    let text = format!("{} fits neither int64 nor uint64", short(x));
                    let rounded = "import numpy; x = numpy.asarray(x, dtype=\"float64\")  # rounds to 53 bits";
                    return Err(Fail::refused(Code::CA02, type_name(x), text).fix(rounded));
                }
            },
        }
    } else if let Ok(value) = x.cast::<PyFloat>() {
        Value::Float(value.value())
    } else if let Ok(value) = x.cast::<PyComplex>() {
        Value::Complex(value.real(), value.imag())
    } else {
        let adapter = kind_of(x)?.adapter;
        let scalar = matches!(adapter, Adapter::NumpyScalar);
        return match adapter {
            Adapter::None | Adapter::Scalar | Adapter::Sequence | Adapter::Arrow => {
                let text = format!("element {} is {}", short(x), type_name(x));
                Err(Fail::refused(Code::DT01, "list python".to_owned(), text))
            }
            _ if walk.values.is_empty() || (scalar && walk.scalars) => {
                walk.mixed |= !walk.values.is_empty();
                walk.scalars &= scalar;
                walk.arrays.push(x.clone());
                Ok(())
            }
            _ => Err(ragged(x, "some elements are numbers and some are arrays")),
        };
    };
    if !walk.arrays.is_empty() {
        if !walk.scalars {
            return Err(ragged(x, "some elements are numbers and some are arrays"));
        }
        walk.mixed = true;
    }
    walk.values.push(value);
    Ok(())
}

fn short(x: &Bound<'_, PyAny>) -> String {
    let text = x.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
    if text.chars().count() > 40 { text.chars().take(37).collect::<String>() + "..." } else { text }
}

fn ragged(x: &Bound<'_, PyAny>, what: &str) -> Fail {
    Fail::refused(Code::DT01, format!("{} python", type_name(x)), format!("the nesting is not a box: {what}"))
        .fix("make it a box: rows of one length, of numbers, or of arrays of one shape and dtype")
}

/// The narrowest of bool, int64, uint64, float64, complex128 that holds all values, as NumPy and Python order them.
fn common(values: &[Value]) -> DType {
    let (mut any_int, mut any_big, mut any_negative, mut any_float, mut any_complex) =
        (false, false, false, false, false);
    for value in values {
        match value {
            Value::Bool(_) => {}
            Value::Int(v) => {
                any_int = true;
                any_negative |= *v < 0;
            }
            Value::Big(_) => any_big = true,
            Value::Float(_) => any_float = true,
            Value::Complex(..) => any_complex = true,
        }
    }
    match () {
        () if any_complex => DType::C128,
        () if any_float || (any_big && any_negative) => DType::F64,
        () if any_big => DType::U64,
        () if any_int => DType::I64,
        () if values.is_empty() => DType::F64,
        () => DType::BOOL,
    }
}

fn build(x: &Bound<'_, PyAny>, walk: Walk<'_>, ask: &Ask<'_, '_>) -> Result<Tensor, Fail> {
    let Walk { shape, values, .. } = walk;
    let dtype = common(&values);
    let mut bytes: Vec<u8> = Vec::with_capacity(values.len() * dtype.padded_size());
    for value in &values {
        let real = match *value {
            Value::Bool(v) => f64::from(u8::from(v)),
            Value::Int(v) => v as f64,
            Value::Big(v) => v as f64,
            Value::Float(v) | Value::Complex(v, _) => v,
        };
        let integer = match *value {
            Value::Bool(v) => u64::from(v),
            Value::Int(v) => v.cast_unsigned(),
            Value::Big(v) => v,
            Value::Float(_) | Value::Complex(..) => 0,
        };
        match dtype {
            DType::BOOL => bytes.push(integer as u8),
            DType::I64 | DType::U64 => bytes.extend(integer.to_ne_bytes()),
            DType::C128 => {
                let imaginary = if let Value::Complex(_, v) = value { *v } else { 0.0 };
                bytes.extend(real.to_ne_bytes());
                bytes.extend(imaginary.to_ne_bytes());
            }
            _ => {
                // An integer among floats that a float64 would round is a loss like any other.
                let exact = match *value {
                    Value::Int(v) => real as i128 == i128::from(v),
                    Value::Big(v) => real as i128 == i128::from(v),
                    _ => true,
                };
                if !exact {
                    let text = format!(
                        "{} is not exact in float64",
                        match *value {
                            Value::Int(v) => v.to_string(),
                            Value::Big(v) => v.to_string(),
                            _ => String::new(),
                        }
                    );
                    return Err(Fail::refused(Code::CA02, format!("{} python", type_name(x)), text));
                }
                bytes.extend(real.to_ne_bytes());
            }
        }
    }
    own(bytes, &shape, dtype, ask)
}

/// A tensor over bytes that were just made.
fn own(bytes: Vec<u8>, shape: &[i64], dtype: DType, ask: &Ask<'_, '_>) -> Result<Tensor, Fail> {
    // Words, so that the elements are aligned for every dtype.
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
    }
    let data = words.as_mut_ptr().cast::<u8>();
    let alloc = Some((data.addr() as u64, bytes.len() as u64));
    let raw =
        RawTensor { data, shape, strides: None, dtype, device: Device::CPU, owner: Owner::Value(Box::new(words)) };
    // The values live for the length of the call: a record would only say that a list was read.
    let ask = Ask { quiet: true, ..*ask };
    // SAFETY: the vector holds the elements of the shape in C order, and does not move when its box does.
    Ok(unsafe { Tensor::from_raw(raw, &ask.options(Label::PYTHON, Traits::empty(), alloc)) }?)
}

/// Arrays of one shape and dtype, stacked along the dimensions of the sequences that hold them.
fn stack<'py>(x: &Bound<'py, PyAny>, walk: Walk<'py>, ask: &Ask<'_, 'py>) -> Result<Tensor, Fail> {
    let quiet = Ask { quiet: true, ..*ask };
    let mut parts = Vec::with_capacity(walk.arrays.len());
    for array in &walk.arrays {
        parts.push(super::import(array, kind_of(array)?, &quiet)?.tensor);
    }
    let Some(first) = parts.first() else { return Err(ragged(x, "nothing in it")) };
    if let Some(other) = parts.iter().find(|part| part.shape() != first.shape() || part.dtype() != first.dtype()) {
        return Err(ragged(x, &format!("{} beside {}", other.desc(), first.desc())));
    }
    let (dtype, part_bytes) = (first.dtype(), first.nbytes() as usize);
    if dtype.is_sub_byte() {
        return Err(ragged(x, &format!("{dtype} elements do not fill bytes")));
    }
    let shape: Dims = walk.shape.iter().chain(first.shape()).copied().collect();
    let whole = own(vec![0; part_bytes * parts.len()], &shape, dtype, ask)?;
    let (request, policy) = (Request::copy(), Policy::DEFAULT);
    for (i, part) in parts.iter().enumerate() {
        let raw = RawTensor {
            data: whole.data_ptr().wrapping_add(i * part_bytes),
            shape: part.shape(),
            strides: None,
            dtype,
            device: Device::CPU,
            owner: Owner::Parent(whole.clone()),
        };
        // SAFETY: part `i` of the whole, which its owner keeps.
        let place = unsafe { Tensor::from_raw(raw, &quiet.options(Label::PYTHON, Traits::empty(), None)) }?;
        let asked = Asked::new(part.desc(), &request, &Caps::FREEHOLD, &policy, Dialect::Python);
        // SAFETY: nobody else has the new memory.
        unsafe { copy_into(part, &place, &asked, Label::NONE) }?;
    }
    Ok(whole)
}
