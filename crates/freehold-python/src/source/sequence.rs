//! Numbers, and nested sequences of numbers or arrays: values, which are built into memory of ours.

use freehold::tensor_algebra::Dims;
use freehold::{Asked, Policy, Request, copy_into};
use freehold::{Caps, Code, DType, Device, Dialect, Label, Owner, RawTensor, Tensor, Traits};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyInt, PyList, PyRange, PyString, PyTuple};

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
struct Walk<'a, 'py> {
    root: &'a Bound<'py, PyAny>,
    /// The indices of where the walk is.
    at: Vec<usize>,
    shape: Vec<i64>,
    values: Vec<Value>,
    /// Leaves that are arrays themselves.
    arrays: Vec<Bound<'py, PyAny>>,
    /// Whether all of these are NumPy's scalars, and whether there are numbers of Python's beside them.
    scalars: bool,
    mixed: bool,
}

impl Walk<'_, '_> {
    /// What is walked through, in compact notation.
    fn source(&self) -> String {
        format!("{} python", type_name(self.root))
    }

    /// The place of the element that the walk is at.
    fn place(&self) -> String {
        place(&self.at)
    }

    /// The place of leaf `i` of a whole box.
    fn place_of(&self, mut i: usize) -> String {
        let mut at = vec![0; self.shape.len()];
        for (index, n) in at.iter_mut().zip(&self.shape).rev() {
            let n = usize::try_from(*n).unwrap_or(1).max(1);
            (*index, i) = (i % n, i / n);
        }
        place(&at)
    }

    fn ragged(&self, what: &str) -> Fail {
        Fail::refused(Code::DT01, self.source(), format!("the nesting is not a box: {what}"))
            .fix("make it a box: rows of one length, of numbers, or of arrays of one shape and dtype")
    }

    /// A number that no dtype for all of them holds exactly.
    fn lossy(&self, text: String) -> Fail {
        Fail::refused(Code::CA02, self.source(), text)
            .fix("import numpy; x = numpy.asarray(x, dtype=\"float64\")  # rounds to 53 bits")
    }
}

/// As Python writes it: `x[1][0]`.
fn place(at: &[usize]) -> String {
    at.iter().fold("x".to_owned(), |place, i| format!("{place}[{i}]"))
}

pub(super) fn import<'py>(x: &Bound<'py, PyAny>, ask: &Ask<'_, 'py>) -> Result<Imported, Fail> {
    let mut walk = Walk {
        root: x,
        at: Vec::new(),
        shape: Vec::new(),
        values: Vec::new(),
        arrays: Vec::new(),
        scalars: true,
        mixed: false,
    };
    visit(x, &mut walk)?;
    if walk.scalars && !walk.arrays.is_empty() && (walk.mixed || !of_one_type(&walk.arrays)) {
        // What NumPy's scalars of several types have in common is NumPy's to say; they are a box, as was seen.
        let array = x.py().import("numpy")?.getattr("asarray")?.call1((x,))?;
        return super::import(&array, kind_of(&array)?, ask).map(|imported| Imported { built: true, ..imported });
    }
    let tensor = if walk.arrays.is_empty() { build(&walk, ask)? } else { stack(&walk, ask)? };
    Ok(Imported { tensor, built: true })
}

fn of_one_type(scalars: &[Bound<'_, PyAny>]) -> bool {
    scalars.iter().all(|scalar| scalar.get_type_ptr() == scalars[0].get_type_ptr())
}

fn is_sequence(x: &Bound<'_, PyAny>) -> bool {
    x.is_instance_of::<PyList>() || x.is_instance_of::<PyTuple>() || x.is_instance_of::<PyRange>()
}

fn visit<'py>(x: &Bound<'py, PyAny>, walk: &mut Walk<'_, 'py>) -> Result<(), Fail> {
    let depth = walk.at.len();
    if !is_sequence(x) {
        return leaf(x, walk);
    }
    if depth >= freehold::tensor_algebra::MAX_NDIM {
        return Err(walk.ragged("nested deeper than 64 levels"));
    }
    let length = x.len()?;
    match walk.shape.get(depth) {
        None if walk.values.is_empty() && walk.arrays.is_empty() => walk.shape.push(length as i64),
        None => return Err(walk.ragged(&format!("{} is a sequence, and no element before it is", walk.place()))),
        Some(expected) if *expected != length as i64 => {
            let text = format!("{} has {length} elements where those before it have {expected}", walk.place());
            let padded = "n = max(map(len, x)); x = [[*row] + [0] * (n - len(row)) for row in x]";
            return Err(match walk.ragged(&text) {
                Fail::Refused(mut refusal) if depth == 1 => {
                    refusal.fixes = vec![format!("{padded}  # pads the rows to one length")];
                    Fail::Refused(refusal)
                }
                fail => fail,
            });
        }
        Some(_) => {}
    }
    // A class of one's own may give out another number of elements than it says, and a list may change while its
    // elements are asked what they are; the memory is as large as the shape says.
    let mut given = 0;
    for item in x.try_iter()? {
        let item = item?;
        if given < length {
            walk.at.push(given);
            visit(&item, walk)?;
            walk.at.pop();
        }
        given += 1;
        if given > length {
            break;
        }
    }
    if given != length {
        let more = if given > length { "more".to_owned() } else { given.to_string() };
        return Err(walk.ragged(&format!("{} says that it has {length} elements and gives {more}", walk.place())));
    }
    Ok(())
}

fn leaf<'py>(x: &Bound<'py, PyAny>, walk: &mut Walk<'_, 'py>) -> Result<(), Fail> {
    if walk.shape.len() != walk.at.len() {
        let text = format!("{} is {}, and the elements before it are sequences", walk.place(), short(x));
        return Err(walk.ragged(&text));
    }
    let beside =
        |walk: &Walk<'_, 'py>, what: &str| walk.ragged(&format!("{} is {what} before it are not", walk.place()));
    let value = if let Ok(value) = x.cast::<PyBool>() {
        Value::Bool(value.is_true())
    } else if x.is_instance_of::<PyInt>() {
        match x.extract::<i64>() {
            Ok(value) => Value::Int(value),
            Err(_) => match x.extract::<u64>() {
                Ok(value) => Value::Big(value),
                Err(_) => {
                    return Err(walk.lossy(format!("{} = {} fits neither int64 nor uint64", walk.place(), short(x))));
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
            Adapter::None | Adapter::Scalar | Adapter::Sequence | Adapter::Arrow | Adapter::ArrowNumbers => {
                Err(no_number(x, walk))
            }
            _ if walk.values.is_empty() || (scalar && walk.scalars) => {
                walk.mixed |= !walk.values.is_empty();
                walk.scalars &= scalar;
                walk.arrays.push(x.clone());
                Ok(())
            }
            _ => Err(beside(walk, "an array, and the elements")),
        };
    };
    if !walk.arrays.is_empty() {
        if !walk.scalars {
            return Err(beside(walk, "a number, and the elements"));
        }
        walk.mixed = true;
    }
    walk.values.push(value);
    Ok(())
}

fn no_number(x: &Bound<'_, PyAny>, walk: &Walk<'_, '_>) -> Fail {
    let text = format!("{} is {}, of type {}", walk.place(), short(x), type_name(x));
    let fail = Fail::refused(Code::DT01, walk.source(), text);
    let spells_one = x.is_none() || x.is_instance_of::<PyString>() || x.hasattr("__float__").unwrap_or(false);
    fail.fix(if spells_one {
        "import numpy; x = numpy.asarray(x, dtype=\"float64\")  # where each spells a number; None is nan"
    } else {
        "make it a box of numbers, or of arrays of one shape and dtype"
    })
}

fn short(x: &Bound<'_, PyAny>) -> String {
    let text = x.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
    if text.chars().count() > 40 { text.chars().take(37).collect::<String>() + "..." } else { text }
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

fn build(walk: &Walk<'_, '_>, ask: &Ask<'_, '_>) -> Result<Tensor, Fail> {
    let Walk { shape, values, .. } = walk;
    let dtype = common(values);
    let mut bytes: Vec<u8> = Vec::with_capacity(values.len() * dtype.padded_size());
    for (i, value) in values.iter().enumerate() {
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
                let whole = match *value {
                    Value::Int(v) => i128::from(v),
                    Value::Big(v) => i128::from(v),
                    _ => real as i128,
                };
                if real as i128 != whole {
                    return Err(walk.lossy(format!("{} = {whole} is not exact in float64", walk.place_of(i))));
                }
                bytes.extend(real.to_ne_bytes());
            }
        }
    }
    own(bytes, shape, dtype, ask)
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
fn stack<'py>(walk: &Walk<'_, 'py>, ask: &Ask<'_, 'py>) -> Result<Tensor, Fail> {
    let quiet = Ask { quiet: true, ..*ask };
    let mut parts = Vec::with_capacity(walk.arrays.len());
    for array in &walk.arrays {
        parts.push(super::import(array, kind_of(array)?, &quiet)?.tensor);
    }
    let Some(first) = parts.first() else { return Err(walk.ragged("nothing in it")) };
    let other = |part: &Tensor| part.shape() != first.shape() || part.dtype() != first.dtype();
    if let Some(i) = parts.iter().position(other) {
        let text = format!("{} is {}, {} is {}", walk.place_of(i), parts[i].desc(), walk.place_of(0), first.desc());
        return Err(walk.ragged(&text));
    }
    let (dtype, part_bytes) = (first.dtype(), first.nbytes() as usize);
    if dtype.is_sub_byte() {
        return Err(walk.ragged(&format!("{dtype} elements do not fill bytes")));
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
