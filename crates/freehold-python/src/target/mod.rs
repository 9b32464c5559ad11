//! Targets: how a tensor becomes an object of each framework. One file a framework; nothing about a framework is known
//! outside its file and its row of `Caps`.

mod cupy;
mod jax;
mod mlx;
pub(crate) mod numpy;
pub(crate) mod offer;
mod paddle;
mod pyarrow;
mod tensorflow;
mod torch;
mod tvm_ffi;

use freehold::{Asked, Caps, DType, Decision, Device, DeviceKind, Error, Label, Stream, Tensor};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyString, PyType};

use crate::error::raise;
use crate::names::top_module;
use crate::source::{Adapter, Kind};
use crate::tensor::PyTensor;

/// Who takes the result.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// `fh.Tensor`.
    Freehold,
    /// `numpy.ndarray`.
    Numpy,
    /// `torch.Tensor`.
    Torch,
    /// A framework that is reached through Python.
    Other(&'static Framework),
}

/// A framework that is reached through Python, as its own file describes it.
pub(crate) struct Framework {
    /// As `to=` spells it, and the module that `to=` may be.
    name: &'static str,
    /// Other first components of its types' `__module__`.
    modules: &'static [&'static str],
    label: Label,
    /// How a tensor gets there, in words.
    road: &'static str,
    /// What it takes of a source that could not be described.
    plain: &'static Caps,
    /// What it takes of a tensor with so many dimensions, as the process has configured it.
    caps: fn(Python<'_>, &Tensor, usize) -> &'static Caps,
    /// The stream of a device on which it works now, by DLPack's number; `None` where it does not say.
    stream: Option<fn(Python<'_>, Device) -> Option<Stream>>,
    export: fn(&Handover<'_, '_>, Tensor) -> PyResult<Py<PyAny>>,
    /// For a target that only holds memory of its own: makes a new object, and has `fill` write its values, or note that
    /// the target wrote them.
    #[expect(clippy::type_complexity, reason = "used once, and named by its field")]
    receive: Option<
        fn(&Handover<'_, '_>, &Tensor, &Decision, &dyn Fn(Option<&Tensor>) -> PyResult<()>) -> PyResult<Py<PyAny>>,
    >,
}

/// What an export is told.
pub(crate) struct Handover<'a, 'py> {
    pub py: Python<'py>,
    /// For the ledger's edge.
    pub decision: Option<&'a Decision>,
    /// The line of the caller.
    pub site: Label,
}

const FRAMEWORKS: &[&Framework] = &[
    &jax::FRAMEWORK,
    &tensorflow::FRAMEWORK,
    &paddle::FRAMEWORK,
    &mlx::FRAMEWORK,
    &pyarrow::FRAMEWORK,
    &tvm_ffi::FRAMEWORK,
    &cupy::FRAMEWORK,
];

impl Target {
    /// The target of a `to` that is spelled as in a literal: the interpreter keeps one object for each, so the usual case is
    /// a comparison of pointers. `None` for every other way to name one.
    #[inline]
    pub(crate) fn usual(to: Option<&Bound<'_, PyAny>>) -> Option<Target> {
        let Some(to) = to else { return Some(Target::Freehold) };
        let py = to.py();
        if to.is(pyo3::intern!(py, "torch")) {
            return Some(Target::Torch);
        }
        if to.is(pyo3::intern!(py, "numpy")) {
            return Some(Target::Numpy);
        }
        static NAMES: PyOnceLock<[Py<PyString>; FRAMEWORKS.len()]> = PyOnceLock::new();
        let names =
            NAMES.get_or_init(py, || std::array::from_fn(|i| PyString::intern(py, FRAMEWORKS[i].name).unbind()));
        let found = names.iter().position(|name| to.as_ptr() == name.as_ptr())?;
        FRAMEWORKS.get(found).map(|framework| Target::Other(framework))
    }

    /// The target that `to=` names: a name, a module, a type, or `None`.
    #[inline]
    pub(crate) fn parse(to: Option<&Bound<'_, PyAny>>) -> PyResult<Target> {
        match (Self::usual(to), to) {
            (Some(target), _) => Ok(target),
            (None, Some(to)) => Self::parse_other(to),
            (None, None) => Ok(Target::Freehold),
        }
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
        Self::named(&name).ok_or_else(|| {
            let shown = to.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
            let names = FRAMEWORKS.iter().map(|framework| format!("{:?}", framework.name)).collect::<Vec<_>>();
            let must = format!(
                "name one of the targets: \"numpy\", \"torch\", {}, or None for fh.Tensor (every framework's own \
                 from_dlpack takes that)",
                names.join(", ")
            );
            raise(to.py(), Error::argument("to", shown, &must))
        })
    }

    fn named(name: &str) -> Option<Target> {
        match name {
            "freehold" => Some(Target::Freehold),
            "numpy" => Some(Target::Numpy),
            "torch" => Some(Target::Torch),
            _ => FRAMEWORKS
                .iter()
                .find(|framework| framework.name == name || framework.modules.contains(&name))
                .map(|framework| Target::Other(framework)),
        }
    }

    /// What the target takes, for a tensor of this dtype and a request for that one.
    #[inline]
    pub(crate) fn caps(self, py: Python<'_>, tensor: &Tensor, wanted: Option<DType>) -> &'static Caps {
        match self {
            Target::Freehold => &Caps::FREEHOLD,
            Target::Torch => &Caps::TORCH,
            Target::Numpy => crate::dtype::numpy_caps(py, tensor, wanted),
            Target::Other(framework) => (framework.caps)(py, tensor, tensor.shape().len()),
        }
    }

    /// As [`Target::caps`], for parts that make a tensor with so many dimensions.
    pub(crate) fn caps_of_whole(
        self,
        py: Python<'_>,
        part: &Tensor,
        ndim: usize,
        wanted: Option<DType>,
    ) -> &'static Caps {
        match self {
            Target::Other(framework) => (framework.caps)(py, part, ndim),
            _ => self.caps(py, part, wanted),
        }
    }

    /// What the target takes, for a source that could not be described.
    pub(crate) fn plain_caps(self) -> &'static Caps {
        match self {
            Target::Freehold => &Caps::FREEHOLD,
            Target::Torch => &Caps::TORCH,
            Target::Numpy => &Caps::NUMPY,
            Target::Other(framework) => framework.plain,
        }
    }

    /// Whether objects of this kind are of the target already.
    #[inline]
    pub(crate) fn is_of(self, kind: Kind) -> bool {
        match self {
            Target::Freehold => matches!(kind.adapter, Adapter::Freehold),
            Target::Numpy => matches!(kind.adapter, Adapter::Numpy),
            Target::Torch => matches!(kind.adapter, Adapter::Torch),
            Target::Other(framework) => kind.is_tensor_of(framework.label),
        }
    }

    /// Whether an object of this kind, of the target already, is given back without a description: one of a target that only
    /// holds its own memory can be nothing else, and to describe one of MLX takes twice as long as MLX takes to make another.
    #[inline]
    pub(crate) fn keeps(self, kind: Kind) -> bool {
        self.receives() && matches!(kind.adapter, Adapter::Dlpack { .. }) && self.is_of(kind)
    }

    /// The stream of a CUDA device on which the target works now, where it has one and says which.
    pub(crate) fn work_stream(self, py: Python<'_>, device: Device) -> Option<Stream> {
        if !matches!(device.kind, DeviceKind::CUDA | DeviceKind::CUDA_MANAGED) {
            return None;
        }
        match self {
            Target::Freehold | Target::Numpy => None,
            Target::Torch => torch::work_stream(py, device),
            Target::Other(framework) => (framework.stream?)(py, device),
        }
    }

    /// The target on the ledger.
    pub(crate) fn label(self) -> Label {
        match self {
            Target::Freehold => Label::FREEHOLD,
            Target::Numpy => Label::NUMPY,
            Target::Torch => Label::TORCH,
            Target::Other(framework) => framework.label,
        }
    }

    /// How a tensor gets there, in words.
    pub(crate) fn road(self) -> &'static str {
        match self {
            Target::Freehold => "its own tensor",
            Target::Numpy => "C API",
            Target::Torch => "exchange table",
            Target::Other(framework) => framework.road,
        }
    }

    /// The tensor as an object of the target.
    #[inline]
    pub(crate) fn export<'py>(
        self,
        py: Python<'py>,
        tensor: Tensor,
        decision: Option<&Decision>,
        site: Label,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Target::Freehold => PyTensor::object(py, tensor),
            Target::Numpy => numpy::export(py, tensor, decision, site),
            Target::Torch => torch::export(py, &tensor, decision, site),
            Target::Other(framework) => {
                (framework.export)(&Handover { py, decision, site }, tensor).map(|object| object.into_bound(py))
            }
        }
    }

    /// Whether the target only holds memory that it allocated.
    #[inline]
    pub(crate) fn receives(self) -> bool {
        matches!(self, Target::Other(framework) if framework.receive.is_some())
    }

    /// Copies into a new object of a target that only holds its own memory.
    pub(crate) fn receive<'py>(
        self,
        py: Python<'py>,
        source: &Tensor,
        decision: &Decision,
        asked: &Asked<'_>,
        site: Label,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Target::Other(Framework { receive: Some(receive), label, .. }) = self else {
            return self.export(py, source.clone(), Some(decision), site);
        };
        let fill = |into: Option<&Tensor>| {
            let Some(into) = into else {
                freehold::copied_by_target(source, *label, decision, asked.caps, site);
                return Ok(());
            };
            // SAFETY: the destination was made for this call, so no other thread knows of it.
            py.detach(|| unsafe { freehold::copy_for_target(source, into, decision, asked, site) })
                .map_err(|error| raise(py, error))
        };
        receive(&Handover { py, decision: Some(decision), site }, source, decision, &fill)
            .map(|object| object.into_bound(py))
    }
}

/// The targets by name with the distributions that have them, for `fh.targets()`.
#[pyfunction]
pub(crate) fn _target_names() -> Vec<&'static str> {
    ["numpy", "torch"].into_iter().chain(FRAMEWORKS.iter().map(|framework| framework.name)).collect()
}

/// Strides in bytes and dimensions as the buffer protocol counts them.
pub(crate) fn byte_layout(tensor: &Tensor) -> (Sizes, Sizes) {
    let size = numpy::byte_unit(tensor);
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
