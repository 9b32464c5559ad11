//! Targets: how a tensor becomes an object of each framework.

pub(crate) mod numpy;
mod torch;

use freehold::{Caps, DType, Decision, Error, Label, Tensor};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyType};

use crate::error::raise;
use crate::names::top_module;
use crate::tensor::PyTensor;

/// Who takes the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// `fh.Tensor`.
    Freehold,
    /// `numpy.ndarray`.
    Numpy,
    /// `torch.Tensor`.
    Torch,
}

impl Target {
    /// The target that `to=` names: a name, a module, a type, or `None`.
    #[inline]
    pub(crate) fn parse(to: Option<&Bound<'_, PyAny>>) -> PyResult<Target> {
        let Some(to) = to else { return Ok(Target::Freehold) };
        // A literal in the caller's code is interned, so the usual case is one comparison of pointers.
        let py = to.py();
        if to.is(pyo3::intern!(py, "torch")) {
            return Ok(Target::Torch);
        }
        if to.is(pyo3::intern!(py, "numpy")) {
            return Ok(Target::Numpy);
        }
        Self::parse_other(to)
    }

    fn parse_other(to: &Bound<'_, PyAny>) -> PyResult<Target> {
        if to.is_none() {
            return Ok(Target::Freehold);
        }
        let name = if let Ok(name) = to.cast::<PyString>() {
            name.to_str()?.to_owned()
        } else if let Ok(module) = to.cast::<PyModule>() {
            module.name()?.to_str()?.split('.').next().unwrap_or_default().to_owned()
        } else if to.is_instance_of::<PyType>() {
            top_module(to)
        } else {
            String::new()
        };
        match name.as_str() {
            "freehold" => Ok(Target::Freehold),
            "numpy" => Ok(Target::Numpy),
            "torch" => Ok(Target::Torch),
            _ => {
                let shown = to.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
                let must = "name one of the targets of this version: \"numpy\", \"torch\", or None for fh.Tensor \
                            (every framework's own from_dlpack takes that)";
                Err(raise(to.py(), Error::argument("to", shown, must)))
            }
        }
    }

    /// What the target takes, for a tensor of this dtype and a request for that one.
    #[inline]
    pub(crate) fn caps(self, py: Python<'_>, tensor: &Tensor, wanted: Option<DType>) -> &'static Caps {
        match self {
            Target::Freehold => &Caps::FREEHOLD,
            Target::Torch => &Caps::TORCH,
            Target::Numpy => crate::dtype::numpy_caps(py, tensor, wanted),
        }
    }

    /// What the target takes, for a source that could not be described.
    pub(crate) fn plain_caps(self) -> &'static Caps {
        match self {
            Target::Freehold => &Caps::FREEHOLD,
            Target::Torch => &Caps::TORCH,
            Target::Numpy => &Caps::NUMPY,
        }
    }

    /// The target on the ledger.
    pub(crate) fn label(self) -> Label {
        match self {
            Target::Freehold => Label::FREEHOLD,
            Target::Numpy => Label::NUMPY,
            Target::Torch => Label::TORCH,
        }
    }

    /// The tensor as an object of the target.
    #[inline]
    pub(crate) fn export<'py>(
        self,
        py: Python<'py>,
        tensor: Tensor,
        decision: &Decision,
        site: Label,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Target::Freehold => Ok(Bound::new(py, PyTensor::new(tensor))?.into_any()),
            Target::Numpy => numpy::export(py, tensor, Some(decision), site),
            Target::Torch => torch::export(py, &tensor, decision, site),
        }
    }
}

/// Strides in bytes and dimensions as NumPy and the buffer protocol count them.
pub(crate) fn byte_layout(tensor: &Tensor) -> (Sizes, Sizes) {
    let size = if tensor.traits().contains(freehold::Traits::BYTE_STRIDES) {
        1
    } else {
        tensor.dtype().padded_size() as isize
    };
    let shape = tensor.shape().iter().map(|n| *n as isize).collect();
    let strides = tensor.strides().iter().map(|s| *s as isize * size).collect();
    (shape, strides)
}

/// Dimensions or strides, without an allocation for the usual ranks.
pub(crate) type Sizes = smallvec::SmallVec<[isize; 8]>;

/// Steals a reference that a C function gave out.
///
/// # Safety
///
/// * `object` is NULL with an exception set, or a new reference.
pub(crate) unsafe fn owned<'py>(py: Python<'py>, object: *mut ffi::PyObject) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: forwarded from the caller.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}
