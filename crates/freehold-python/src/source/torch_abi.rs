//! The C++ functions behind what PyTorch's exchange table does not say of a tensor: lazy bits, a graph, the storage. Asked
//! through Python, each costs as much as the rest of a hand-over.
//!
//! The storage is asked by PyTorch's stable C interface. The rest are functions of its headers whose names differ where
//! their arguments do; they are found by name in the libraries that the process has loaded, and used only if they give the
//! same answers as Python's attributes for tensors of each kind. Where anything is missing or answers otherwise, the
//! attributes are asked, as slow as they are.

use std::ffi::{CStr, c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// `at::Tensor`, a class of one pointer, where a Python tensor keeps it.
type Handle = *const c_void;
/// `c10::TensorImpl`, to which that points.
type Impl = *const c_void;

/// The functions.
#[derive(Clone, Copy)]
pub(super) struct Native {
    /// `bool at::native::is_conj(const at::Tensor&)`
    is_conj: unsafe extern "C" fn(Handle) -> u8,
    /// `bool at::native::is_neg(const at::Tensor&)`
    is_neg: unsafe extern "C" fn(Handle) -> u8,
    /// `bool c10::TensorImpl::requires_grad() const`
    requires_grad: unsafe extern "C" fn(Impl) -> u8,
    /// `AOTITorchError aoti_torch_get_storage_size(AtenTensorHandle, int64_t*)`
    storage_size: unsafe extern "C" fn(Handle, *mut i64) -> c_int,
    /// `AOTITorchError aoti_torch_get_storage_offset(AtenTensorHandle, int64_t*)`
    storage_offset: unsafe extern "C" fn(Handle, *mut i64) -> c_int,
}

/// A library that the process has loaded already.
fn loaded(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string; nothing is loaded, so no code of the library is run.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    (!library.is_null()).then_some(library)
}

fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a library that is loaded, and that is never closed.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}

/// Where a Python tensor keeps its `at::Tensor`: the first field behind the object's head. [`Native::agrees`] holds each
/// kind of tensor to that.
#[inline]
fn handle(x: &Bound<'_, PyAny>) -> Handle {
    x.as_ptr().cast::<c_void>().wrapping_byte_add(size_of::<ffi::PyObject>())
}

impl Native {
    /// The functions, if they are there and answer as the attributes do.
    pub(super) fn find(torch: &Bound<'_, PyAny>) -> Option<Native> {
        let (cpu, c10) = (loaded(c"libtorch_cpu.so")?, loaded(c"libc10.so")?);
        // SAFETY: the names of the C++ functions spell their classes and arguments, and that they return one byte is seen
        // below; those of the C functions are PyTorch's stable interface.
        let native = unsafe {
            type OfHandle = unsafe extern "C" fn(Handle) -> u8;
            type OfStorage = unsafe extern "C" fn(Handle, *mut i64) -> c_int;
            use std::mem::transmute as function;
            Native {
                is_conj: function::<*mut c_void, OfHandle>(symbol(cpu, c"_ZN2at6native7is_conjERKNS_6TensorE")?),
                is_neg: function::<*mut c_void, OfHandle>(symbol(cpu, c"_ZN2at6native6is_negERKNS_6TensorE")?),
                requires_grad: function::<*mut c_void, OfHandle>(symbol(
                    c10,
                    c"_ZNK3c1010TensorImpl13requires_gradEv",
                )?),
                storage_size: function::<*mut c_void, OfStorage>(symbol(cpu, c"aoti_torch_get_storage_size")?),
                storage_offset: function::<*mut c_void, OfStorage>(symbol(cpu, c"aoti_torch_get_storage_offset")?),
            }
        };
        native.agrees_on_all(torch).unwrap_or(false).then_some(native)
    }

    /// Compares with the attributes: a plain tensor, a view of it, one with each lazy bit, one with a graph.
    fn agrees_on_all(&self, torch: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = torch.py();
        let options = PyDict::new(py);
        options.set_item("dtype", torch.getattr("complex64")?)?;
        options.set_item("device", "cpu")?;
        let plain = torch.call_method("zeros", (3,), Some(&options))?;
        let view = plain.get_item(pyo3::types::PySlice::new(py, 1, 3, 1))?;
        let conj = view.call_method0("conj")?;
        let neg = conj.getattr("imag")?;
        options.set_item("requires_grad", true)?;
        let graph = torch.call_method("zeros", (2,), Some(&options))?;
        let mut seen = [[false; 2]; 3];
        for x in [&plain, &view, &conj, &neg, &graph] {
            if !x.get_type().is(torch.getattr("Tensor")?) || !self.agrees(x, &mut seen)? {
                return Ok(false);
            }
        }
        // Every function has given both answers.
        Ok(seen == [[true; 2]; 3])
    }

    fn agrees(&self, x: &Bound<'_, PyAny>, seen: &mut [[bool; 2]; 3]) -> PyResult<bool> {
        // SAFETY: an object of `torch.Tensor` is larger than its head and one pointer.
        let at = unsafe { handle(x).cast::<usize>().read() };
        if at != x.getattr("_cdata")?.extract::<usize>()? {
            return Ok(false);
        }
        // SAFETY: `_cdata` is the address of the tensor's `TensorImpl`, so what points to it is the `at::Tensor`.
        let ours = unsafe { [self.is_conj(x), self.is_neg(x), self.requires_grad(x)] };
        for (i, name) in ["is_conj", "is_neg", "requires_grad"].into_iter().enumerate() {
            let theirs = x.getattr(name)?;
            let theirs = if theirs.is_callable() { theirs.call0()? } else { theirs }.is_truthy()?;
            seen[i][usize::from(theirs)] = true;
            if ours[i] != theirs {
                return Ok(false);
            }
        }
        let storage = x.call_method0("untyped_storage")?;
        let (base, len): (u64, u64) =
            (storage.call_method0("data_ptr")?.extract()?, storage.call_method0("nbytes")?.extract()?);
        let first: u64 = x.call_method0("data_ptr")?.extract()?;
        let size: u64 = x.call_method0("element_size")?.extract()?;
        // SAFETY: as above; the tensor has a storage.
        Ok(unsafe { self.storage(x, first, size) } == Some((base, len)))
    }

    /// # Safety
    ///
    /// * `x` is a tensor of PyTorch, as for all functions here.
    #[inline]
    pub(super) unsafe fn is_conj(&self, x: &Bound<'_, PyAny>) -> bool {
        // SAFETY: by the caller's word, and `agrees`.
        unsafe { (self.is_conj)(handle(x)) != 0 }
    }

    /// # Safety
    ///
    /// * As [`Self::is_conj`].
    #[inline]
    pub(super) unsafe fn is_neg(&self, x: &Bound<'_, PyAny>) -> bool {
        // SAFETY: as above.
        unsafe { (self.is_neg)(handle(x)) != 0 }
    }

    /// # Safety
    ///
    /// * As [`Self::is_conj`].
    #[inline]
    pub(super) unsafe fn requires_grad(&self, x: &Bound<'_, PyAny>) -> bool {
        // SAFETY: as above; the handle points to the implementation.
        unsafe { (self.requires_grad)(*handle(x).cast::<Impl>()) != 0 }
    }

    /// Base and length of the storage behind a tensor whose first element is at `first`, with items of `size` bytes.
    ///
    /// # Safety
    ///
    /// * As [`Self::is_conj`]; the tensor has a storage, as every tensor has that the exchange table describes.
    #[inline]
    pub(super) unsafe fn storage(&self, x: &Bound<'_, PyAny>, first: u64, size: u64) -> Option<(u64, u64)> {
        let (mut bytes, mut offset) = (0, 0);
        // SAFETY: as above; both functions only write to the place that they are given.
        let failed = unsafe {
            let size_failed = (self.storage_size)(handle(x), &mut bytes);
            size_failed | (self.storage_offset)(handle(x), &mut offset)
        };
        let before = u64::try_from(offset).ok()?.checked_mul(size)?;
        if failed == 0 { Some((first.checked_sub(before)?, u64::try_from(bytes).ok()?)) } else { None }
    }
}
