//! Arrow: a `pyarrow.Array` for one dimension, a `pyarrow.Tensor` for every other number of them.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Offer, Reads};
use super::{Framework, Handover};
use crate::names::Named;

pub(super) static FRAMEWORK: Framework = Framework {
    name: "pyarrow",
    modules: &[],
    label: Label::PYARROW,
    road: "versioned capsule",
    plain: &Caps::PYARROW,
    caps: |_, _, ndim| if ndim == 1 { &Caps::PYARROW } else { &Caps::PYARROW_TENSOR },
    stream: None,
    export,
    receive: None,
};

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    static ARRAY: Named = Named::new("pyarrow", &["Array", "from_dlpack"]);
    static TENSOR: Named = Named::new("pyarrow", &["Tensor", "from_dlpack"]);
    let from_dlpack = if tensor.shape().len() == 1 { &ARRAY } else { &TENSOR }.get(handover.py)?;
    let offer = Offer::new(handover, &tensor, Label::PYARROW, Reads::Versioned)?;
    from_dlpack.call1((offer,)).map(Bound::unbind)
}
