//! Sources: how an object of each framework becomes a [`Tensor`]. One file an adapter; nothing about a framework is
//! known outside its file.

mod arrow;
mod arrow_abi;
mod arrow_numbers;
pub(crate) mod buffer;
pub(crate) mod capsule;
pub(crate) mod exchange;
pub(crate) mod frame;
mod jax;
mod kind;
mod numpy;
mod onnxruntime;
mod paddle;
pub(crate) mod pandas;
mod protocol;
mod sequence;
mod taken;
mod tensorflow;
pub(crate) mod torch;
mod torch_abi;

use std::borrow::Cow;

use freehold::{Code, Device, Error, ImportOptions, Label, Reason, Runtime, Stream, Tensor, Traits};
use pyo3::prelude::*;

use crate::target::Target;

pub(crate) use kind::{Adapter, Kind, kind_of, known};

/// How a source is to be imported.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a, 'py> {
    /// Opens no ledger record: for `plan`.
    pub quiet: bool,
    /// Freezes the owner while the tensor lives, where it can be frozen; with `quiet`, only says so.
    pub freeze: bool,
    /// What null and masked elements become.
    pub fill: Option<&'a Bound<'py, PyAny>>,
    /// The consumer's stream.
    pub stream: Option<Stream>,
    /// Who the consumer is: where there is no `stream`, one of a device is handed over on the stream that it works on.
    pub consumer: Target,
    /// The line of the caller.
    pub site: Label,
}

impl Ask<'_, '_> {
    /// The stream of a device on which the consumer will use what it gets, by DLPack's number; the default stream where
    /// nobody said another.
    fn stream_on(&self, py: Python<'_>, device: Device) -> Stream {
        let stream = self.stream.or_else(|| self.consumer.work_stream(py, device));
        stream.unwrap_or(Stream::LEGACY_DEFAULT)
    }

    fn options(&self, framework: Label, traits: Traits, alloc: Option<(u64, u64)>) -> ImportOptions {
        let Ask { quiet, site, stream, .. } = *self;
        ImportOptions { runtime: Runtime::global(), framework, site, traits, alloc, quiet, stream, home: None }
    }
}

/// A source that was imported.
pub(crate) struct Imported {
    pub tensor: Tensor,
    /// The memory was built for this call from values (a list, a filled masked array): there is nothing to share.
    pub built: bool,
}

impl From<Tensor> for Imported {
    fn from(tensor: Tensor) -> Self {
        Self { tensor, built: false }
    }
}

/// Why there is no tensor.
pub(crate) enum Fail {
    /// The source cannot be described: a refusal like any other, which `plan` returns and the verbs raise.
    Refused(Box<Refusal>),
    /// A field of a capsule that breaks a rule, an argument, no memory.
    Error(Error),
    /// The producer's own exception, untouched. Boxed, as the others are: what succeeds is moved about in two registers.
    Python(Box<PyErr>),
    /// The elements are in several places, and become a tensor when they are gathered.
    Scattered(Box<frame::Columns>),
}

/// A refusal by an adapter.
pub(crate) struct Refusal {
    pub reason: Reason,
    /// The source in compact notation, as far as it is known: `object[3] numpy`.
    pub source: String,
    /// Runnable lines that come before the code's own.
    pub fixes: Vec<String>,
}

impl Fail {
    pub(crate) fn refused(code: Code, source: String, text: impl Into<Cow<'static, str>>) -> Fail {
        Fail::Refused(Box::new(Refusal { reason: Reason::text(code, text), source, fixes: Vec::new() }))
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Fail {
        if let Fail::Refused(refusal) = &mut self {
            refusal.fixes.push(fix.into());
        }
        self
    }
}

impl From<PyErr> for Fail {
    fn from(error: PyErr) -> Self {
        Fail::Python(Box::new(error))
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Fail::Error(error.in_dialect(freehold::Dialect::Python))
    }
}

/// Imports an object, by what its type offers.
#[inline]
pub(crate) fn import(x: &Bound<'_, PyAny>, kind: Kind, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    match kind.adapter {
        Adapter::Freehold => crate::tensor::borrow(x).map(Imported::from),
        Adapter::Numpy => numpy::import(x, ask, false),
        Adapter::Torch => torch::import(x, ask),
        _ => import_other(x, kind, ask),
    }
}

/// As [`import`], for sources that are described by a look into C structs, without an object of Python's; `None` for others.
#[inline]
pub(crate) fn look(x: &Bound<'_, PyAny>, kind: Kind, ask: &Ask<'_, '_>) -> Option<Result<Imported, Fail>> {
    Some(match kind.adapter {
        Adapter::Freehold => crate::tensor::borrow(x).map(Imported::from),
        Adapter::Numpy => numpy::import(x, ask, false),
        Adapter::Torch => torch::import(x, ask),
        Adapter::Exchange(table) => exchange::import(x, table, kind.framework, ask, Traits::empty()),
        _ => return None,
    })
}

fn import_other(x: &Bound<'_, PyAny>, kind: Kind, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    match kind.adapter {
        Adapter::Freehold | Adapter::Numpy | Adapter::Torch => import(x, kind, ask),
        Adapter::Masked => numpy::import_masked(x, ask),
        Adapter::TorchWrapper => Err(torch::refuse_wrapper(x)),
        Adapter::Exchange(table) => exchange::import(x, table, kind.framework, ask, Traits::empty()),
        Adapter::Dlpack { versioned, traits } => protocol::import(x, versioned, kind.framework, ask, traits),
        Adapter::OwnDlpack { versioned } => protocol::import(x, versioned, kind.framework, ask, Traits::empty()),
        Adapter::OrtValue => onnxruntime::import(x, kind.framework, ask),
        Adapter::Jax { versioned } => jax::import(x, versioned, ask),
        Adapter::TensorFlow { eager } => tensorflow::import(x, eager, ask),
        Adapter::Paddle(table) => paddle::import(x, table, ask),
        Adapter::NoStorage => Err(jax::refuse_tracer(x)),
        Adapter::Capsule => capsule::import(x, Label::UNKNOWN, ask, Traits::empty()).map(Imported::from),
        Adapter::Pandas => pandas::import(x, ask),
        Adapter::Buffer => buffer::import(x, ask),
        Adapter::Frame => frame::import(x, kind.framework, ask),
        Adapter::ArrayInterface | Adapter::OwnArrayInterface => buffer::import_array_interface(x, kind.framework, ask),
        Adapter::CudaArrayInterface | Adapter::OwnCudaArrayInterface => {
            buffer::import_cuda_array_interface(x, kind.framework, ask)
        }
        Adapter::Arrow => arrow::import(x, kind.framework, ask),
        Adapter::ArrowNumbers => arrow::import_numbers(x, kind.framework, ask),
        Adapter::NumpyScalar => numpy::import_scalar(x, ask),
        Adapter::Scalar | Adapter::Sequence => sequence::import(x, ask),
        Adapter::None => Err(refuse(x)),
    }
}

/// An object that offers nothing.
#[cold]
fn refuse(x: &Bound<'_, PyAny>) -> Fail {
    let name = crate::names::type_name(x);
    // SciPy's, JAX's and others' sparse arrays have one of these.
    for method in ["todense", "to_dense", "toarray"] {
        if x.hasattr(method).unwrap_or(false) {
            return Fail::refused(Code::LY02, name.clone(), format!("{name} keeps indices and values apart"))
                .fix(format!("x.{method}()"));
        }
    }
    let text = format!(
        "{name} has none of __dlpack__, the buffer protocol, __array_interface__, __cuda_array_interface__, Arrow's C \
         interface, and is no sequence of numbers"
    );
    let fail = Fail::refused(Code::OB01, name, text);
    if x.hasattr("__array__").unwrap_or(false) {
        return fail.fix("numpy.asarray(x)  # what its __array__ makes, often a copy");
    }
    let is_text = x.is_instance_of::<pyo3::types::PyString>() || x.is_instance_of::<pyo3::types::PyDict>();
    if !is_text && x.hasattr("__iter__").unwrap_or(false) {
        return fail.fix("x = list(x)  # then fh.copy(x), which builds a tensor");
    }
    fail.fix("pass what it wraps: its array, tensor or buffer")
}

/// The memory of an object that a framework has just made for us, on the ledger as that framework's.
pub(crate) fn of_own(x: &Bound<'_, PyAny>, framework: Label, site: Label) -> PyResult<Tensor> {
    let ask = Ask { quiet: false, freeze: false, fill: None, stream: None, consumer: Target::Freehold, site };
    import(x, Kind { framework, ..kind_of(x)? }, &ask).map(|imported| imported.tensor).map_err(|fail| match fail {
        Fail::Python(error) => *error,
        Fail::Error(error) => crate::error::raise(x.py(), error),
        Fail::Refused(_) | Fail::Scattered(_) => {
            let text = format!("{} made a tensor without memory", framework.as_str());
            pyo3::exceptions::PyBufferError::new_err(text)
        }
    })
}
