//! The verbs: share, convert, copy, from_dlpack, and plan, which is the others without their effect.

use std::sync::OnceLock;

use freehold::{
    Asked, Caps, Code, CopiesPolicy, CopyRule, DType, Decision, Device, Dialect, Error, Label, Layout, Message, OnLoss,
    Order, Policy, Reason, Request, Runtime, Stream, StrideRule, Tensor, TensorDesc, Traits, Verb, Verdict, copy_into,
    decide, execute, shares_plainly,
};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::decision::PyDecision;
use crate::error::{raise, warn};
use crate::source::frame::{self, Columns};
use crate::source::{self, Adapter, Ask, Fail, Imported, Kind, Refusal, kind_of};
use crate::target::Target;
use crate::tensor::PyTensor;
use crate::{device, dtype, gil, policy, site};

/// From this size on, a copy lets other threads run.
const DETACH_BYTES: u64 = 1 << 16;
/// A view is worth a hint if it keeps at least this much memory alive, and this many times its own.
const PINNED_BYTES: u64 = 1 << 20;
const PINNED_RATIO: u64 = 64;

/// A call of a verb, its arguments read.
pub(crate) struct Call<'a, 'py> {
    pub x: &'a Bound<'py, PyAny>,
    pub target: Target,
    pub request: Request,
    pub fill: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Call<'_, 'py> {
    fn ask(&self, quiet: bool, site: Label) -> Ask<'_, 'py> {
        let Request { freeze, stream, .. } = self.request;
        Ask { quiet, whole: false, freeze, fill: self.fill, stream, site }
    }

    /// Decides for an imported source; `true` if the answer is the very same object.
    #[inline]
    fn decide(&mut self, kind: Kind, imported: &Imported, caps: &Caps, policy: &Policy) -> (Decision, bool) {
        let tensor = &imported.tensor;
        if imported.built {
            if self.request.copy == CopyRule::Never {
                return (Decision::reject(Reason::text(Code::OB01, self.owns_nothing())), false);
            }
            self.request.copy = CopyRule::Always;
        } else if let Some(decision) = self.same_object(kind, tensor, policy) {
            return (decision, true);
        }
        let mut decision = decide(&tensor.desc(), &self.request, caps, policy);
        if decision.verdict == Verdict::Copy && tensor.traits().contains(Traits::REQUIRES_GRAD) && !self.request.detach
        {
            // A target of the same framework keeps the graph of what it shares; a copy would lose it silently.
            decision = decide(&tensor.desc(), &self.request, &Caps { grad: false, ..*caps }, policy);
        }
        hint_pinned(tensor, &mut decision);
        (decision, false)
    }

    fn owns_nothing(&self) -> String {
        let name = crate::names::type_name(self.x);
        let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {name} owns no tensor memory")
    }

    /// Whether the call is [`Request::share`] or [`Request::convert`] as they are.
    #[inline]
    fn asks_nothing(&self) -> bool {
        let Request { dtype, device, order, alignment, copy, writable, on_loss: _, detach, freeze, stream } =
            self.request;
        dtype.is_none()
            && device.is_none()
            && order == Order::Any
            && alignment == 0
            && copy != CopyRule::Always
            && writable.is_none()
            && !detach
            && !freeze
            && stream.is_none()
    }

    /// Whether the source is of the target already.
    #[inline]
    fn is_same(&self, kind: Kind) -> bool {
        matches!(
            (kind.adapter, self.target),
            (Adapter::Freehold, Target::Freehold) | (Adapter::Numpy, Target::Numpy) | (Adapter::Torch, Target::Torch)
        )
    }

    /// The decision for a source that is of the target already and needs nothing done.
    #[inline]
    fn same_object(&self, kind: Kind, tensor: &Tensor, policy: &Policy) -> Option<Decision> {
        let request = &self.request;
        if !self.is_same(kind) || request.copy == CopyRule::Always || request.freeze {
            return None;
        }
        if request.writable.is_some_and(|writable| writable != tensor.is_writable()) {
            return None;
        }
        let own = Caps {
            name: self.target.plain_caps().name,
            strides: StrideRule::Any,
            byte_strides: true,
            read_only: true,
            grad: true,
            lazy_bits: true,
            any_dtype: true,
            alignment: 1,
            ..Caps::FREEHOLD
        };
        let mut desc = tensor.desc();
        // Byte order and lazy bits stay what they are in an object of the same framework.
        desc.traits -= Traits::SWAPPED;
        let decision = decide(&desc, &Request { writable: None, ..*request }, &own, policy);
        if decision.verdict != Verdict::Share || decision.bit_view || decision.has(Code::GR02) {
            return None;
        }
        let mut decision = Decision { writable: tensor.is_writable(), ..decision };
        // Only that the object is read-only is news; overlapping elements were its own choice.
        decision.reasons.retain(|reason| reason.code == Code::RO02);
        Some(decision)
    }

    /// Carries the call out.
    pub(crate) fn run(mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        crate::ledger::warn_of_hazards(py)?;
        let kind = kind_of(self.x)?;
        let site = site::here(py);
        if matches!(kind.adapter, Adapter::Frame) && frame::one_block(self.x)?.is_none() {
            let policy = policy::current(py, &self.request)?;
            return self.gather(py, kind, &policy, site);
        }
        let imported = match source::import(self.x, kind, &self.ask(false, site)) {
            Ok(imported) => imported,
            Err(fail) => {
                let policy = policy::current(py, &self.request)?;
                return Err(self.fail(py, kind, &policy, fail));
            }
        };
        let caps = self.target.caps(py, &imported.tensor, self.request.dtype);
        if self.asks_nothing()
            && !imported.built
            && !pins(&imported.tensor)
            && let Some(codes) = shares_plainly(&imported.tensor.desc(), caps, policy::devices(py)?)
        {
            if self.is_same(kind) {
                return Ok(self.x.clone());
            }
            return self.target.export(py, imported.tensor, hinted(codes), site);
        }
        let policy = policy::current(py, &self.request)?;
        let (decision, same) = self.decide(kind, &imported, caps, &policy);
        if same {
            return Ok(self.x.clone());
        }
        if self.request.freeze && decision.verdict == Verdict::Share {
            crate::ledger::watch();
        }
        let unasked = self.request.copy != CopyRule::Always;
        let result = self.execute(py, kind, &imported.tensor, &decision, caps, &policy, site)?;
        drop(imported);
        let object = self.target.export(py, result, Some(&decision), site)?;
        if unasked {
            warn_of_copy(py, &decision, &policy)?;
        }
        Ok(object)
    }

    /// Carries the call out for a table whose columns are gathered.
    #[cold]
    fn gather(self, py: Python<'py>, kind: Kind, policy: &Policy, site: Label) -> PyResult<Bound<'py, PyAny>> {
        let columns = match Columns::import(self.x, &self.ask(false, site)) {
            Ok(columns) => columns,
            Err(fail) => return Err(self.fail(py, kind, policy, fail)),
        };
        let caps = self.target.caps(py, columns.first(), self.request.dtype);
        let decision = columns.decide(&self.request, caps, policy);
        let result = columns.gather(py, &decision, &self.request, caps, policy, site).map_err(|e| raise(py, e))?;
        if self.request.copy != CopyRule::Always {
            warn_of_copy(py, &decision, policy)?;
        }
        self.target.export(py, result, Some(&decision), site)
    }

    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one call's whole state, used once")]
    fn execute(
        &self,
        py: Python<'py>,
        kind: Kind,
        tensor: &Tensor,
        decision: &Decision,
        caps: &Caps,
        policy: &Policy,
        site: Label,
    ) -> PyResult<Tensor> {
        let mut asked = Asked::new(tensor.desc(), &self.request, caps, policy, Dialect::Python);
        if decision.verdict == Verdict::Reject {
            asked.owner = Some(crate::ledger::owner_text(self.x, kind, tensor));
        }
        let result = if decision.verdict == Verdict::Copy && decision.bytes_copied >= DETACH_BYTES {
            py.detach(|| execute(tensor, decision, &asked, site))
        } else {
            execute(tensor, decision, &asked, site)
        };
        result.map_err(|error| raise(py, error))
    }

    /// What the call would do.
    pub(crate) fn plan(mut self, py: Python<'py>) -> PyResult<PyDecision> {
        gil::drain(py);
        let kind = kind_of(self.x)?;
        let policy = policy::current(py, &self.request)?;
        let request = self.request;
        if matches!(kind.adapter, Adapter::Frame) && frame::one_block(self.x)?.is_none() {
            let (decision, message) = match Columns::import(self.x, &self.ask(true, Label::NONE)) {
                Ok(columns) => {
                    let caps = self.target.caps(py, columns.first(), request.dtype);
                    let decision = columns.decide(&request, caps, &policy);
                    let refused = decision.verdict == Verdict::Reject;
                    let message = refused.then(|| columns.message(&decision, &request, caps, &policy));
                    (decision, message)
                }
                Err(Fail::Refused(refusal)) => {
                    let (decision, message) = self.refusal(&policy, *refusal);
                    (decision, Some(message))
                }
                Err(fail) => return Err(self.fail(py, kind, &policy, fail)),
            };
            return Ok(PyDecision::planned(decision, None, message, self.x, self.target, request, self.fill));
        }
        let (decision, tensor, message) = match source::import(self.x, kind, &self.ask(true, Label::NONE)) {
            Ok(imported) => {
                let caps = self.target.caps(py, &imported.tensor, self.request.dtype);
                let (decision, _) = self.decide(kind, &imported, caps, &policy);
                let message = (decision.verdict == Verdict::Reject).then(|| {
                    let asked = Asked::new(imported.tensor.desc(), &self.request, caps, &policy, Dialect::Python);
                    Message::of(&asked, &decision)
                });
                (decision, Some(imported.tensor), message)
            }
            Err(Fail::Refused(refusal)) => {
                let (decision, message) = self.refusal(&policy, *refusal);
                (decision, None, Some(message))
            }
            // A capsule that breaks a rule is refused like any other source.
            Err(Fail::Error(error)) if error.decision().is_some() => {
                (error.decision().cloned().expect("just seen"), None, Some(error.message().clone()))
            }
            Err(fail) => return Err(self.fail(py, kind, &policy, fail)),
        };
        Ok(PyDecision::planned(decision, tensor, message, self.x, self.target, request, self.fill))
    }

    fn refusal(&self, policy: &Policy, refusal: Refusal) -> (Decision, Message) {
        let Refusal { reason, source, fixes } = refusal;
        let decision = Decision::reject(reason);
        let asked = Asked {
            verb: Verb::of(&self.request),
            source: Some(source),
            desc: None,
            request: &self.request,
            caps: self.target.plain_caps(),
            policy,
            owner: None,
            dialect: Dialect::Python,
        };
        let mut message = Message::of(&asked, &decision);
        if !fixes.is_empty() {
            message.fixes = fixes;
        }
        (decision, message)
    }

    #[cold]
    fn fail(&self, py: Python<'_>, kind: Kind, policy: &Policy, fail: Fail) -> PyErr {
        match fail {
            Fail::Refused(refusal) => {
                let (decision, message) = self.refusal(policy, *refusal);
                Runtime::global().ledger().reject(kind.framework, self.target.label(), message.code);
                raise(py, Error::rejected(message, Some(decision)))
            }
            Fail::Error(error) => {
                if error.decision().is_some() {
                    Runtime::global().ledger().reject(kind.framework, self.target.label(), error.code());
                }
                raise(py, error)
            }
            Fail::Python(error) => error,
        }
    }

    /// `fh.copy(..., out=)`.
    fn run_into(self, py: Python<'py>, out: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        let policy = policy::current(py, &self.request)?;
        let kind = kind_of(self.x)?;
        let site = site::here(py);
        let from = source::import(self.x, kind, &self.ask(false, site)).map_err(|f| self.fail(py, kind, &policy, f))?;
        let place = Call { x: out, target: Target::Freehold, request: Request::share(), fill: None };
        let out_kind = kind_of(out)?;
        let into =
            source::import(out, out_kind, &place.ask(false, site)).map_err(|f| place.fail(py, out_kind, &policy, f))?;
        if into.built {
            let text = place.owns_nothing();
            let fail = Fail::refused(Code::OB01, crate::names::type_name(out), text);
            return Err(place.fail(py, out_kind, &policy, fail));
        }
        let request = self.request;
        let asked = Asked::new(from.tensor.desc(), &request, self.target.plain_caps(), &policy, Dialect::Python);
        // SAFETY: other threads can only reach the destination through Python, as they could reach it through NumPy or
        // PyTorch during a copy of theirs: a race is the caller's, as it is there.
        py.detach(|| unsafe { copy_into(&from.tensor, &into.tensor, &asked, site) })
            .map_err(|error| raise(py, error))?;
        Ok(out.clone())
    }
}

/// Warns of a copy that nobody asked for by name, if the policy says so.
#[inline]
fn warn_of_copy(py: Python<'_>, decision: &Decision, policy: &Policy) -> PyResult<()> {
    if decision.verdict != Verdict::Copy || policy.copies != CopiesPolicy::Warn {
        return Ok(());
    }
    let codes = decision.codes().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let steps = decision.steps.names().collect::<Vec<_>>().join(", ");
    warn(py, &format!("{} B copied ({steps}): {codes}", decision.bytes_copied))
}

/// Whether a view of little keeps much alive.
#[inline]
fn pins(tensor: &Tensor) -> bool {
    tensor
        .allocation()
        .is_some_and(|(_, len)| len >= PINNED_BYTES && tensor.nbytes().saturating_mul(PINNED_RATIO) <= len)
}

/// Adds `HT02` to a share of little that keeps much alive.
fn hint_pinned(tensor: &Tensor, decision: &mut Decision) {
    if decision.verdict == Verdict::Share
        && pins(tensor)
        && let Some((_, len)) = tensor.allocation()
    {
        let text = format!("a view of {} B keeps {len} B alive", tensor.nbytes());
        decision.reasons.push(Reason::text(Code::HT02, text));
    }
}

/// A decision with the hints of a plain share, for the ledger's edge; `None` where there are none.
#[inline]
fn hinted(codes: &[Code]) -> Option<&'static Decision> {
    static HINTED: OnceLock<Decision> = OnceLock::new();
    (!codes.is_empty()).then(|| {
        HINTED.get_or_init(|| {
            let desc = TensorDesc {
                address: 0,
                device: Device::CPU,
                dtype: DType::F64,
                layout: Layout::new(&[], &[]),
                traits: Traits::empty(),
                framework: Label::NUMPY,
            };
            decide(&desc, &Request::share(), &Caps::TORCH, &Policy::DEFAULT)
        })
    })
}

/// Decides and executes on a tensor of ours, for a result of ours.
pub(crate) fn execute_on(py: Python<'_>, tensor: &Tensor, request: &Request) -> PyResult<Tensor> {
    let policy = policy::current(py, request)?;
    let decision = decide(&tensor.desc(), request, &Caps::FREEHOLD, &policy);
    let asked = Asked::new(tensor.desc(), request, &Caps::FREEHOLD, &policy, Dialect::Python);
    let site = site::here(py);
    py.detach(|| execute(tensor, &decision, &asked, site)).map_err(|error| raise(py, error))
}

/// `fh.Tensor.__array__`.
pub(crate) fn to_array<'py>(
    x: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let request = Request { copy: copy_rule(copy), dtype: optional(dtype, dtype::argument)?, ..Request::default() };
    Call { x, target: Target::Numpy, request, fill: None }.run(x.py())
}

/// `copy.deepcopy` of an `fh.Tensor`.
pub(crate) fn deep_copy<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    Call { x, target: Target::Freehold, request: Request::copy(), fill: None }.run(x.py())
}

fn copy_rule(copy: Option<bool>) -> CopyRule {
    match copy {
        None => CopyRule::IfNeeded,
        Some(true) => CopyRule::Always,
        Some(false) => CopyRule::Never,
    }
}

fn optional<'py, T>(
    value: Option<&Bound<'py, PyAny>>,
    read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    match value {
        Some(value) if !value.is_none() => read(value).map(Some),
        _ => Ok(None),
    }
}

/// A `stream=` argument: a number, or a framework's stream object.
fn stream_argument(value: &Bound<'_, PyAny>) -> PyResult<Stream> {
    for attribute in ["cuda_stream", "ptr", "handle"] {
        if let Ok(handle) = value.getattr(attribute).and_then(|handle| handle.extract::<i64>()) {
            return Ok(Stream(handle));
        }
    }
    value.extract::<i64>().map(Stream).map_err(|_| {
        let shown = value.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
        raise(value.py(), Error::argument("stream", shown, "be an integer as in DLPack, or a framework's stream"))
    })
}

fn word<T: Copy>(py: Python<'_>, name: &str, value: &str, known: &[(&str, T)], must: &str) -> PyResult<T> {
    known
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| raise(py, Error::argument(name, format!("{value:?}"), must)))
}

/// The arguments that convert, copy and plan have in common.
struct Wishes<'a, 'py> {
    dtype: Option<&'a Bound<'py, PyAny>>,
    device: Option<&'a Bound<'py, PyAny>>,
    order: Option<&'a Bound<'py, PyString>>,
    stream: Option<&'a Bound<'py, PyAny>>,
    on_loss: Option<&'a Bound<'py, PyString>>,
}

impl<'py> Wishes<'_, 'py> {
    #[inline]
    fn read(&self, py: Python<'py>) -> PyResult<Request> {
        let orders = [("C", Order::C), ("F", Order::F), ("any", Order::Any)];
        let losses = [("error", OnLoss::Error), ("allow", OnLoss::Allow), ("saturate", OnLoss::Saturate)];
        Ok(Request {
            dtype: optional::<DType>(self.dtype, dtype::argument)?,
            device: optional::<Device>(self.device, device::argument)?,
            order: match self.order {
                None => Order::Any,
                Some(order) => word(py, "order", order.to_str()?, &orders, "be \"C\", \"F\" or \"any\"")?,
            },
            stream: optional(self.stream, stream_argument)?,
            on_loss: match self.on_loss {
                None => OnLoss::Error,
                Some(on_loss) => {
                    word(py, "on_loss", on_loss.to_str()?, &losses, "be \"error\", \"allow\" or \"saturate\"")?
                }
            },
            ..Request::default()
        })
    }
}

/// Hands x over without copying a byte, or raises BoundaryError with the reason and what to type instead.
///
/// to: "numpy", "torch", the module or a type of it; None gives an fh.Tensor.
/// writable: True refuses what would be read-only; False gives a read-only view.
/// freeze: the owner may not write while it is lent.
/// detach: drops the autograd graph; the result is read-only, since a write would corrupt the backward pass.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, writable=None, freeze=false, stream=None, detach=false))]
pub(crate) fn share<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    writable: Option<bool>,
    freeze: bool,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let request = Request { writable, freeze, detach, stream: optional(stream, stream_argument)?, ..Request::share() };
    Call { x, target: Target::parse(to)?, request, fill: None }.run(py)
}

/// Hands x over: shares when it can, else makes one copy that does everything asked for in one pass.
///
/// dtype, device, order: what the result must have; by default what x has.
/// on_loss: "error" refuses values that the dtype cannot hold; "allow" truncates and saturates, and floats overflow as
/// ml_dtypes has them (to infinity or NaN); with "saturate" floats overflow to the largest finite value.
/// fill: what null and masked elements become.
/// copy: None shares when it can, True always copies, False never does.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=false, stream=None,
                    detach=false, on_loss=None, fill=None, copy=None),
       text_signature = "(x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=False, stream=None, \
                         detach=False, on_loss='error', fill=None, copy=None)")]
#[expect(clippy::too_many_arguments, reason = "the signature is the package's interface")]
pub(crate) fn convert<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyString>>,
    writable: Option<bool>,
    freeze: bool,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
    on_loss: Option<&Bound<'py, PyString>>,
    fill: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let wishes = Wishes { dtype, device, order, stream, on_loss };
    let request = Request { copy: copy_rule(copy), writable, freeze, detach, ..wishes.read(py)? };
    Call { x, target: Target::parse(to)?, request, fill }.run(py)
}

/// Hands over new memory that nobody else has, in one pass with everything asked for.
///
/// out: an existing tensor or array of x's shape, of any framework, to copy and cast into.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, dtype=None, device=None, order=None, out=None, stream=None, detach=false,
                    on_loss=None, fill=None),
       text_signature = "(x, to=None, *, dtype=None, device=None, order=None, out=None, stream=None, detach=False, \
                         on_loss='error', fill=None)")]
#[expect(clippy::too_many_arguments, reason = "the signature is the package's interface")]
pub(crate) fn copy<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyString>>,
    out: Option<&Bound<'py, PyAny>>,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
    on_loss: Option<&Bound<'py, PyString>>,
    fill: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let wishes = Wishes { dtype, device, order, stream, on_loss };
    let request = Request { copy: CopyRule::Always, detach, ..wishes.read(py)? };
    let call = Call { x, target: Target::parse(to)?, request, fill };
    let Some(out) = out.filter(|out| !out.is_none()) else { return call.run(py) };
    if [to, dtype, device].iter().any(|argument| argument.is_some_and(|value| !value.is_none())) || order.is_some() {
        let must = "be passed without to=, dtype=, device= and order=, which it already has";
        return Err(raise(py, Error::argument("out", "given", must)));
    }
    call.run_into(py, out)
}

/// The array API's from_dlpack: an fh.Tensor of anything that offers a tensor protocol, or of a capsule.
#[pyfunction]
#[pyo3(signature = (x, /, *, device=None, copy=None))]
pub(crate) fn from_dlpack<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    device: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let request = Request { copy: copy_rule(copy), device: optional(device, device::argument)?, ..Request::default() };
    Call { x, target: Target::Freehold, request, fill: None }.run(py)
}

/// What convert would do with the same arguments (with copy=False: share; with copy=True: copy). Touches no data.
#[pyfunction]
#[pyo3(signature = (x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=false, stream=None,
                    detach=false, on_loss=None, fill=None, copy=None),
       text_signature = "(x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=False, stream=None, \
                         detach=False, on_loss='error', fill=None, copy=None)")]
#[expect(clippy::too_many_arguments, reason = "the signature is the package's interface")]
pub(crate) fn plan<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    to: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    device: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyString>>,
    writable: Option<bool>,
    freeze: bool,
    stream: Option<&Bound<'py, PyAny>>,
    detach: bool,
    on_loss: Option<&Bound<'py, PyString>>,
    fill: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<PyDecision> {
    let wishes = Wishes { dtype, device, order, stream, on_loss };
    let request = Request { copy: copy_rule(copy), writable, freeze, detach, ..wishes.read(py)? };
    Call { x, target: Target::parse(to)?, request, fill }.plan(py)
}

/// A tensor over an object's memory, off the ledger, for a look at it.
pub(crate) fn look(x: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let py = x.py();
    gil::drain(py);
    if let Ok(tensor) = x.cast::<PyTensor>() {
        return tensor.get().tensor().map_err(|error| raise(py, error));
    }
    let call = Call { x, target: Target::Freehold, request: Request::share(), fill: None };
    let kind = kind_of(x)?;
    match source::import(x, kind, &Ask { whole: true, ..call.ask(true, Label::NONE) }) {
        Ok(imported) => Ok(imported.tensor),
        Err(fail) => Err(call.fail(py, kind, &Policy::DEFAULT, fail)),
    }
}
