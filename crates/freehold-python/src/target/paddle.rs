//! `paddle.Tensor`s over a tensor's memory, through Paddle's C exchange table.
//!
//! Paddle finds the deleter of foreign memory by the address of its first element. Two imports of one address are one entry of
//! its table, and one of them is never given back (measured on 3.3.1). So what lives in Paddle is kept here by address: a second
//! share of the same view is another tensor of Paddle's over its first import, one of another view at the same address is
//! a copy, and that is decided and said.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use freehold::tensor_algebra::Dims;
use freehold::{Caps, DType, ExportOptions, Label, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyTuple, PyType};

use super::offer::{Reads, capsule};
use super::{Framework, Handover};
use crate::gil::{self, Deferred};
use crate::names::Named;
use crate::source::exchange::{self, Shared};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "paddle",
    modules: &[],
    label: Label::PADDLE,
    road: "exchange table",
    plain: &Caps::PADDLE,
    caps,
    stream: None,
    export,
    receive: None,
};

/// What Paddle has of an address.
struct Import {
    dtype: DType,
    shape: Dims,
    strides: Dims,
    /// A weak reference to the tensor that Paddle made.
    first: Option<Py<PyAny>>,
}

impl Import {
    /// The first tensor, if it lives and views the same elements.
    fn same<'py>(&self, py: Python<'py>, tensor: &Tensor) -> Option<Bound<'py, PyAny>> {
        if self.dtype != tensor.dtype() || self.shape[..] != *tensor.shape() || self.strides[..] != *tensor.strides() {
            return None;
        }
        self.first.as_ref()?.bind(py).call0().ok().filter(|first| !first.is_none())
    }
}

static LIVE: Mutex<Option<HashMap<usize, Import>>> = Mutex::new(None);

fn live() -> MutexGuard<'static, Option<HashMap<usize, Import>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first import of this address while it lives: `None` if there is none, `Some(None)` if it views something else.
fn first<'py>(py: Python<'py>, tensor: &Tensor) -> Option<Option<Bound<'py, PyAny>>> {
    // Calling the weak reference runs no Python code but may, like any call, let another thread in, which would wait for the
    // lock with the GIL in its hands: so what is called is taken out first.
    let found = {
        let live = live();
        let import = live.as_ref()?.get(&tensor.data_ptr().addr())?;
        Import {
            dtype: import.dtype,
            shape: import.shape.clone(),
            strides: import.strides.clone(),
            first: import.first.as_ref().map(|first| first.clone_ref(py)),
        }
    };
    Some(found.same(py, tensor))
}

/// Called when Paddle lets go, from any thread.
fn let_go(address: usize) {
    let gone = live().as_mut().and_then(|live| live.remove(&address));
    if let Some(first) = gone.and_then(|import| import.first) {
        gil::give_back(Deferred::Object(first.into_ptr()));
    }
}

fn caps(py: Python<'_>, tensor: &Tensor, _ndim: usize) -> &'static Caps {
    match first(py, tensor) {
        Some(None) if tensor.numel() > 0 => &Caps::PADDLE_AGAIN,
        _ => &Caps::PADDLE,
    }
}

/// An empty tensor of the two dtypes that Paddle takes through DLPack and makes no tensors of: an array of NumPy, which
/// Paddle needs itself, has an address of its own even where it has no elements.
fn empty_unsigned<'py>(paddle: &Bound<'py, PyModule>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let py = paddle.py();
    let shape = PyTuple::new(py, tensor.shape())?;
    let array = py.import("numpy")?.call_method1("zeros", (shape, tensor.dtype().name()))?;
    paddle.getattr("utils")?.getattr("dlpack")?.call_method1("from_dlpack", (array,))
}

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    static CLASS: Named = Named::new("paddle", &["Tensor"]);
    static WEAK: Named = Named::new("weakref", &["ref"]);
    static TABLE: Shared = Shared::new();
    let py = handover.py;
    if tensor.numel() == 0 {
        let paddle = py.import("paddle")?;
        // All empty tensors have one address, NULL; and there is nothing to share.
        if matches!(tensor.dtype(), DType::U32 | DType::U64) {
            return empty_unsigned(&paddle, &tensor).map(Bound::unbind);
        }
        let arguments = PyDict::new(py);
        arguments.set_item("dtype", tensor.dtype().name())?;
        return paddle.call_method("empty", (PyTuple::new(py, tensor.shape())?,), Some(&arguments)).map(Bound::unbind);
    }
    if let Some(Some(first)) = first(py, &tensor) {
        return first.call_method0("detach").map(Bound::unbind);
    }
    let address = tensor.data_ptr().addr();
    let made = match TABLE.get(py, || exchange::table_of(CLASS.get(py)?.cast::<PyType>()?))? {
        Some(table) => {
            let options = ExportOptions {
                consumer: Label::PADDLE,
                site: handover.site,
                decision: handover.decision,
                taken: true,
                let_go: Some(let_go),
                ..ExportOptions::default()
            };
            super::torch::through_table(py, &tensor, table, &options)?
        }
        None => {
            // An older Paddle takes a capsule.
            let capsule = capsule(handover, &tensor, Label::PADDLE, Reads::Versioned)?;
            return py
                .import("paddle")?
                .getattr("utils")?
                .getattr("dlpack")?
                .call_method1("from_dlpack", (capsule,))
                .map(Bound::unbind);
        }
    };
    let first = WEAK.get(py)?.call1((&made,))?.unbind();
    let (shape, strides) = (Dims::from_slice(tensor.shape()), Dims::from_slice(tensor.strides()));
    let import = Import { dtype: tensor.dtype(), shape, strides, first: Some(first) };
    live().get_or_insert_default().insert(address, import);
    Ok(made.unbind())
}
