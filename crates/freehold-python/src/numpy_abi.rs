//! The few parts of NumPy's C ABI that are used here: the array struct, and three entries of its function table.
//!
//! The struct's first fields and the table's indices are the same in NumPy 1.x and 2.x. `PyArray_Descr` changed
//! between them; only the fields before the change are read.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;

use pyo3::ffi::{self, PyObject, PyTypeObject};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// `PyArrayObject_fields`, whose beginning has not changed since NumPy 1.7.
#[repr(C)]
pub(crate) struct ArrayObject {
    head: PyObject,
    pub data: *mut u8,
    pub nd: c_int,
    pub dimensions: *mut isize,
    pub strides: *mut isize,
    pub base: *mut PyObject,
    pub descr: *mut Descr,
    pub flags: c_int,
}

/// The beginning of `PyArray_Descr`, the same in NumPy 1 and 2.
#[repr(C)]
pub(crate) struct Descr {
    head: PyObject,
    pub typeobj: *mut PyTypeObject,
    pub kind: c_char,
    pub type_char: c_char,
    pub byteorder: c_char,
    former_flags: c_char,
    pub type_num: c_int,
}

pub(crate) const WRITEABLE: c_int = 0x0400;
pub(crate) const OWNDATA: c_int = 0x0004;

/// `PyArray_Descr` of NumPy 2, up to the item size.
#[repr(C)]
struct Descr2 {
    begin: Descr,
    flags: u64,
    elsize: isize,
}

/// `PyArray_Descr` of NumPy 1, up to the item size.
#[repr(C)]
struct Descr1 {
    begin: Descr,
    elsize: c_int,
}

const ABI_VERSION: usize = 0;
const ARRAY_TYPE: usize = 2;
const DESCR_FROM_TYPE: usize = 45;
const NEW_FROM_DESCR: usize = 94;
const SET_BASE_OBJECT: usize = 282;

type NewFromDescr = unsafe extern "C" fn(
    *mut PyTypeObject,
    *mut PyObject,
    c_int,
    *const isize,
    *const isize,
    *mut c_void,
    c_int,
    *mut PyObject,
) -> *mut PyObject;

/// NumPy's function table, as it was found in the running process.
pub(crate) struct Api {
    pub array_type: *mut PyTypeObject,
    descr_from_type: unsafe extern "C" fn(c_int) -> *mut PyObject,
    new_from_descr: NewFromDescr,
    set_base_object: unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> c_int,
    /// Whether the struct of a descriptor is NumPy 2's.
    two: bool,
    /// `numpy.generic`, kept for the type test.
    pub generic: Py<PyType>,
}

// SAFETY: a table of function pointers and static types, which are used with the GIL held.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

static API: PyOnceLock<Api> = PyOnceLock::new();

/// The table, importing NumPy if it is not imported: for calls that name it, or that hold an array of it.
pub(crate) fn api(py: Python<'_>) -> PyResult<&'static Api> {
    if let Some(api) = API.get(py) {
        return Ok(api);
    }
    API.get_or_try_init(py, || load(py))
}

/// The table if NumPy has been imported by somebody.
pub(crate) fn api_if_imported(py: Python<'_>) -> PyResult<Option<&'static Api>> {
    if let Some(api) = API.get(py) {
        return Ok(Some(api));
    }
    if crate::names::imported(py, "numpy")?.is_none() { Ok(None) } else { api(py).map(Some) }
}

fn load(py: Python<'_>) -> PyResult<Api> {
    // NumPy 2 moved the module; the old name still works there, with a warning.
    let umath = py.import("numpy._core._multiarray_umath").or_else(|_| py.import("numpy.core._multiarray_umath"))?;
    let capsule = umath.getattr("_ARRAY_API")?;
    // SAFETY: the object is NumPy's capsule, whose name is NULL.
    let table = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), ptr::null()) }.cast::<*mut c_void>();
    if table.is_null() {
        return Err(PyErr::fetch(py));
    }
    let generic = py.import("numpy")?.getattr("generic")?.cast_into::<PyType>()?.unbind();
    // SAFETY: NumPy keeps these entries of its table where they are (its ABI promise since 1.7), with these types;
    // table and functions live as long as the process.
    unsafe {
        let abi_version = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_uint>(*table.add(ABI_VERSION));
        Ok(Api {
            two: abi_version() >= 0x0200_0000,
            array_type: (*table.add(ARRAY_TYPE)).cast(),
            descr_from_type: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> *mut PyObject>(
                *table.add(DESCR_FROM_TYPE),
            ),
            new_from_descr: std::mem::transmute::<*mut c_void, NewFromDescr>(*table.add(NEW_FROM_DESCR)),
            set_base_object: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> c_int,
            >(*table.add(SET_BASE_OBJECT)),
            generic,
        })
    }
}

impl Api {
    /// A new array over memory that nobody keeps alive yet: [`Self::set_base`] is next.
    ///
    /// # Safety
    ///
    /// * `shape` and `strides` (in bytes) point to `ndim` values.
    /// * Their extent around `data` is readable, and writable if `writable`, for as long as the array lives.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the arguments of NumPy's function")]
    pub(crate) unsafe fn new_array<'py>(
        &self,
        py: Python<'py>,
        descr: Bound<'py, PyAny>,
        ndim: usize,
        shape: *const isize,
        strides: *const isize,
        data: *mut u8,
        writable: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let flags = if writable { WRITEABLE } else { 0 };
        // SAFETY: the function steals the descriptor and copies the dimensions; a NULL type argument is not used.
        unsafe {
            let array = (self.new_from_descr)(
                self.array_type,
                descr.into_ptr(),
                ndim as c_int,
                shape,
                strides,
                data.cast(),
                flags,
                ptr::null_mut(),
            );
            Bound::from_owned_ptr_or_err(py, array)
        }
    }

    /// Has a new array keep an object alive.
    ///
    /// # Safety
    ///
    /// * `array` is an array that has no base.
    #[inline]
    pub(crate) unsafe fn set_base(&self, array: &Bound<'_, PyAny>, base: Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: by the caller's word; the function steals `base`, also on failure.
        if unsafe { (self.set_base_object)(array.as_ptr(), base.into_ptr()) } < 0 {
            return Err(PyErr::fetch(array.py()));
        }
        Ok(())
    }

    /// The descriptor of a built-in type number.
    pub(crate) fn descr<'py>(&self, py: Python<'py>, type_num: c_int) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: returns a new reference, or NULL with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, (self.descr_from_type)(type_num)) }
    }

    /// Bytes of one item of any descriptor.
    pub(crate) fn item_size(&self, descr: &Descr) -> usize {
        let descr: *const Descr = descr;
        // SAFETY: every descriptor is allocated as the struct of its NumPy's major version, of which `Descr` is the
        // beginning.
        let size = unsafe {
            if self.two { (*descr.cast::<Descr2>()).elsize } else { (*descr.cast::<Descr1>()).elsize as isize }
        };
        usize::try_from(size).unwrap_or(0)
    }

    /// Whether an object is an array or of a subclass.
    pub(crate) fn is_array(&self, object: &Bound<'_, PyAny>) -> bool {
        // SAFETY: both are types.
        unsafe { ffi::PyType_IsSubtype(object.get_type_ptr(), self.array_type) != 0 }
    }
}

/// The struct of an array.
///
/// # Safety
///
/// * `object` is a `numpy.ndarray` or of a subclass.
pub(crate) unsafe fn fields<'a>(object: &'a Bound<'_, PyAny>) -> &'a ArrayObject {
    // SAFETY: by the caller's word; the object outlives the borrow.
    unsafe { &*object.as_ptr().cast::<ArrayObject>() }
}

impl ArrayObject {
    /// Dimensions.
    pub(crate) fn shape(&self) -> &[isize] {
        slice(self.dimensions, self.nd)
    }

    /// Strides in bytes.
    pub(crate) fn byte_strides(&self) -> &[isize] {
        slice(self.strides, self.nd)
    }

    /// The descriptor.
    pub(crate) fn descr(&self) -> &Descr {
        // SAFETY: an array always has a descriptor, which it keeps alive.
        unsafe { &*self.descr }
    }

    /// Whether the array may be written to.
    pub(crate) fn is_writable(&self) -> bool {
        self.flags & WRITEABLE != 0
    }
}

fn slice<'a>(pointer: *const isize, len: c_int) -> &'a [isize] {
    if len <= 0 || pointer.is_null() {
        return &[];
    }
    // SAFETY: NumPy keeps `nd` values behind both pointers for as long as the array lives and is not reshaped, which
    // needs the GIL that the caller holds.
    unsafe { std::slice::from_raw_parts(pointer, len as usize) }
}
