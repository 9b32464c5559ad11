//! Arrow: a `pyarrow.Array` for one dimension, a `pyarrow.Tensor` for every other number of them.

use freehold::{Caps, Label, Tensor};
use pyo3::prelude::*;

use super::offer::{Offer, Reads};
use super::{Framework, Handover};

pub(super) static FRAMEWORK: Framework = Framework {
    name: "pyarrow",
    modules: &[],
    label: Label::PYARROW,
    plain: &Caps::PYARROW,
    caps: |_, _, ndim| if ndim == 1 { &Caps::PYARROW } else { &Caps::PYARROW_TENSOR },
    export,
    receive: None,
};

fn export(handover: &Handover<'_, '_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    let class = if tensor.shape().len() == 1 { "Array" } else { "Tensor" };
    let class = handover.py.import("pyarrow")?.getattr(class)?;
    let offer = Offer::new(handover, &tensor, Label::PYARROW, Reads::Versioned)?;
    class.call_method1(pyo3::intern!(handover.py, "from_dlpack"), (offer,)).map(Bound::unbind)
}
