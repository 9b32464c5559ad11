//! Element types between NumPy's numbers, everybody's names, and DLPack's codes.

use std::ffi::{CStr, c_int, c_long};
use std::sync::RwLock;

use freehold::tensor_algebra::KNOWN_DTYPES;
use freehold::{Caps, DType, DTypeSet, Error, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyInt, PyString, PyType};

use crate::error::raise;
use crate::names::{imported, shown};
use crate::numpy_abi::{Api, Descr};

const LONG: DType = if size_of::<c_long>() == 8 { DType::I64 } else { DType::I32 };
const ULONG: DType = if size_of::<c_long>() == 8 { DType::U64 } else { DType::U32 };

/// NumPy's type numbers 0 to 23; `None` where DLPack has no code.
const BUILTIN: [Option<DType>; 24] = [
    Some(DType::BOOL),
    Some(DType::I8),
    Some(DType::U8),
    Some(DType::I16),
    Some(DType::U16),
    Some(DType::I32),
    Some(DType::U32),
    Some(LONG),
    Some(ULONG),
    Some(DType::I64),
    Some(DType::U64),
    Some(DType::F32),
    Some(DType::F64),
    None, // longdouble
    Some(DType::C64),
    Some(DType::C128),
    None, // clongdouble
    None, // object
    None, // bytes
    None, // str
    None, // void
    None, // datetime64
    None, // timedelta64
    Some(DType::F16),
];

/// Dtypes that other packages registered: (type number, what it is).
static USER: RwLock<Vec<(c_int, Option<DType>)>> = RwLock::new(Vec::new());

/// The dtype of a NumPy descriptor, whatever its byte order is; `None` where DLPack has no code for it.
pub(crate) fn of_descr(descr: &Descr) -> Option<DType> {
    match usize::try_from(descr.type_num).ok().and_then(|n| BUILTIN.get(n)) {
        Some(known) => *known,
        None => of_user_type(descr),
    }
}

fn of_user_type(descr: &Descr) -> Option<DType> {
    let known = USER.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, dtype)) = known.iter().find(|(n, _)| *n == descr.type_num) {
        return *dtype;
    }
    drop(known);
    // SAFETY: a descriptor's scalar type is a type object, whose name is a C string that it owns.
    let name = unsafe { CStr::from_ptr((*descr.typeobj).tp_name) }.to_string_lossy();
    let (module, name) = name.rsplit_once('.').unwrap_or(("", &name));
    // ml_dtypes' types carry the names of the standard; its module has been called `ml_dtypes` and, inside JAX's older
    // wheels, `jaxlib`.
    let dtype = DType::from_name(name).filter(|_| module.is_empty() || module.starts_with("ml_dtypes"));
    USER.write().unwrap_or_else(std::sync::PoisonError::into_inner).push((descr.type_num, dtype));
    dtype
}

/// The NumPy type number of a dtype that NumPy itself has.
fn builtin_number(dtype: DType) -> Option<c_int> {
    // The first match: int64 is `long` where that has 64 bits, as `np.dtype("int64")` is.
    BUILTIN.iter().position(|known| *known == Some(dtype)).map(|n| n as c_int)
}

/// The NumPy descriptor of a dtype: NumPy's own, or one of `ml_dtypes`. Each is asked for once, and kept.
#[inline]
pub(crate) fn descr<'py>(py: Python<'py>, api: &Api, dtype: DType) -> PyResult<Option<Bound<'py, PyAny>>> {
    static FOUND: [PyOnceLock<Py<PyAny>>; KNOWN_DTYPES.len()] = [const { PyOnceLock::new() }; KNOWN_DTYPES.len()];
    // A dtype of several lanes has none.
    let Some(place) = dtype.index().and_then(|index| FOUND.get(usize::from(index))) else { return Ok(None) };
    if let Some(descr) = place.get(py) {
        return Ok(Some(descr.bind(py).clone()));
    }
    let found = find_descr(py, api, dtype)?;
    Ok(found.map(|descr| place.get_or_init(py, || descr.unbind()).bind(py).clone()))
}

#[cold]
fn find_descr<'py>(py: Python<'py>, api: &Api, dtype: DType) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(number) = builtin_number(dtype) {
        return api.descr(py, number).map(Some);
    }
    let Some(name) = dtype.name() else { return Ok(None) };
    let Some(module) = ml_dtypes(py) else { return Ok(None) };
    match module.getattr(name) {
        Ok(scalar) => py.import("numpy")?.getattr("dtype")?.call1((scalar,)).map(Some),
        Err(_) => Ok(None),
    }
}

/// `ml_dtypes`, imported if it is installed: it is small, and only asked for when a dtype needs it.
fn ml_dtypes(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    static MODULE: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    let module = MODULE.get_or_init(py, || py.import("ml_dtypes").ok().map(|m| m.into_any().unbind()));
    module.as_ref().map(|m| m.bind(py).clone())
}

/// What NumPy takes: with the dtypes that `ml_dtypes` adds, if the tensor or the request is not of NumPy's own.
pub(crate) fn numpy_caps(py: Python<'_>, tensor: &Tensor, wanted: Option<DType>) -> &'static Caps {
    let own = |dtype: DType| Caps::NUMPY.dtypes.contains(dtype);
    let from = tensor.dtype();
    if own(from) && wanted.is_none_or(own) {
        return &Caps::NUMPY;
    }
    // ml_dtypes keeps one sub-byte element in a byte: it takes those that are laid out so, and no packed ones.
    let padded = tensor.traits().contains(Traits::PADDED) && wanted.is_none_or(|to| to == from);
    let [whole, with_padded] = extended_caps(py);
    if padded { with_padded } else { whole }
}

/// NumPy's row with what `ml_dtypes` adds: without and with sub-byte dtypes.
pub(crate) fn extended_caps(py: Python<'_>) -> &'static [Caps; 2] {
    static EXTENDED: PyOnceLock<[Caps; 2]> = PyOnceLock::new();
    EXTENDED.get_or_init(py, || {
        let Some(module) = ml_dtypes(py) else { return [Caps::NUMPY; 2] };
        let mut sets = [Caps::NUMPY.dtypes; 2];
        for dtype in KNOWN_DTYPES {
            if dtype.name().is_some_and(|name| module.hasattr(name).unwrap_or(false)) {
                let one = DTypeSet::of(&[*dtype]);
                sets[1] = sets[1].union(one);
                if !dtype.is_sub_byte() {
                    sets[0] = sets[0].union(one);
                }
            }
        }
        sets.map(|dtypes| Caps { dtypes, ..Caps::NUMPY })
    })
}

/// A `dtype=` argument: a name, a Python type, or a dtype object or scalar type of any framework.
pub(crate) fn argument(value: &Bound<'_, PyAny>) -> PyResult<DType> {
    let py = value.py();
    if let Ok(name) = value.cast::<PyString>() {
        return from_name(name.to_str()?).ok_or_else(|| unknown(value));
    }
    if let Ok(class) = value.cast::<PyType>() {
        for (builtin, dtype) in [
            (py.get_type::<PyBool>(), DType::BOOL),
            (py.get_type::<PyInt>(), DType::I64),
            (py.get_type::<PyFloat>(), DType::F64),
            (py.get_type::<PyComplex>(), DType::C128),
        ] {
            if class.is(&builtin) {
                return Ok(dtype);
            }
        }
        // numpy.float32, ml_dtypes.bfloat16
        return from_name(&class.name()?.to_string()).ok_or_else(|| unknown(value));
    }
    if let Some(numpy) = imported(py, "numpy")?
        && value.is_instance(&numpy.getattr("dtype")?)?
    {
        // SAFETY: the object is a `numpy.dtype`, whose struct begins as `Descr` says.
        let descr = unsafe { &*value.as_ptr().cast::<Descr>() };
        return of_descr(descr).ok_or_else(|| unknown(value));
    }
    // torch.float32, jax.numpy.float32, tf.float32: the last word of what they print, or their name.
    for attribute in ["name", "__name__"] {
        if let Ok(name) = value.getattr(attribute)
            && let Ok(name) = name.cast::<PyString>()
            && let Some(dtype) = from_name(name.to_str()?)
        {
            return Ok(dtype);
        }
    }
    let printed = value.str()?;
    let printed = printed.to_str()?;
    from_name(printed.rsplit('.').next().unwrap_or(printed)).ok_or_else(|| unknown(value))
}

/// A dtype's name, with the spellings that frameworks add to the standard's.
pub(crate) fn from_name(name: &str) -> Option<DType> {
    DType::from_name(name).or(match name {
        "half" => Some(DType::F16),
        "single" => Some(DType::F32),
        "float" | "double" => Some(DType::F64),
        "int" => Some(DType::I64),
        "bool_" => Some(DType::BOOL),
        "complex" | "cdouble" => Some(DType::C128),
        "cfloat" => Some(DType::C64),
        "chalf" => Some(DType::C32),
        "float4_e2m1fn_x2" => Some(DType::F4_E2M1FN.with_lanes(2)),
        _ => None,
    })
}

fn unknown(value: &Bound<'_, PyAny>) -> PyErr {
    raise(
        value.py(),
        Error::argument("dtype", shown(value), "name a dtype of DLPack: \"float32\", numpy.float32, torch.float32"),
    )
}

/// Whether a type object is `numpy.generic` or below.
pub(crate) fn is_numpy_scalar(py: Python<'_>, api: &Api, class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: both are type objects that are alive.
    unsafe { ffi::PyType_IsSubtype(class, api.generic.bind(py).as_type_ptr()) != 0 }
}
