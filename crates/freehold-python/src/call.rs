//! What every verb does once its arguments are read: import, decide, execute, export; and the calls that this package
//! makes itself.

use freehold::{
    Asked, Caps, Code, CopiesPolicy, CopyRule, Decision, Dialect, Error, Label, Message, Order, Policy, Reason,
    Request, Runtime, StrideRule, Tensor, Traits, Verb, Verdict, copy_into, decide, execute, shares_plainly,
};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::decision::PyDecision;
use crate::error::{raise, warn};
use crate::source::frame::Columns;
use crate::source::{self, Ask, Fail, Imported, Kind, Refusal, kind_of};
use crate::target::Target;
use crate::tensor::PyTensor;
use crate::{arguments, dtype, gil, policy, site};

mod plain;

use plain::hinted;
pub(crate) use plain::plainly;

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
        Ask { quiet, freeze, fill: self.fill, stream, consumer: self.target, site }
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

    /// The decision for a source that is of the target already and needs nothing done.
    #[inline]
    fn same_object(&self, kind: Kind, tensor: &Tensor, policy: &Policy) -> Option<Decision> {
        let request = &self.request;
        if !self.target.is_of(kind) || request.copy == CopyRule::Always || request.freeze {
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
    pub(crate) fn run(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        crate::ledger::warn_of_hazards(py)?;
        let kind = kind_of(self.x)?;
        let site = site::here(py);
        let imported = source::import(self.x, kind, &self.ask(false, site));
        self.go_on(py, kind, site, imported)
    }

    /// Carries the call out once its source is imported.
    fn go_on(
        mut self,
        py: Python<'py>,
        kind: Kind,
        site: Label,
        imported: Result<Imported, Fail>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let imported = match imported {
            Ok(imported) => imported,
            Err(fail) => {
                let policy = policy::current(py, &self.request, None)?;
                return match fail {
                    Fail::Scattered(columns) => self.gather(py, &columns, &policy, site),
                    fail => Err(self.fail(py, kind, &policy, fail)),
                };
            }
        };
        crate::moved::remember(self.x, kind, &imported.tensor);
        let caps = self.target.caps(py, &imported.tensor, self.request.dtype);
        if self.asks_nothing()
            && !imported.built
            && !pins(&imported.tensor)
            && let Some(codes) = shares_plainly(&imported.tensor.desc(), caps, policy::devices(py)?)
        {
            if self.target.is_of(kind) {
                return Ok(self.x.clone());
            }
            return self.target.export(py, imported.tensor, hinted(codes), site);
        }
        let policy = policy::current(py, &self.request, Some(imported.tensor.device()))?;
        let (decision, same) = self.decide(kind, &imported, caps, &policy);
        if same {
            return Ok(self.x.clone());
        }
        if self.request.freeze && decision.verdict == Verdict::Share {
            crate::ledger::watch();
        }
        if decision.verdict == Verdict::Copy && self.request.stream.is_none() {
            // What the target queues after the call is in order then, without waiting.
            self.request.stream = self.target.work_stream(py, decision.device);
        }
        let unasked = self.request.copy != CopyRule::Always;
        if self.target.receives() && decision.verdict == Verdict::Copy {
            let asked = Asked::new(imported.tensor.desc(), &self.request, caps, &policy, Dialect::Python);
            let object = self.target.receive(py, &imported.tensor, &decision, &asked, site)?;
            if unasked {
                warn_of_copy(py, &decision, &policy)?;
            }
            return Ok(object);
        }
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
    fn gather(self, py: Python<'py>, columns: &Columns, policy: &Policy, site: Label) -> PyResult<Bound<'py, PyAny>> {
        let caps = self.target.caps_of_whole(py, columns.first(), columns.ndim(), self.request.dtype);
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
        let policy = policy::current(py, &self.request, None)?;
        let request = self.request;
        let (decision, tensor, message) = match source::import(self.x, kind, &self.ask(true, Label::NONE)) {
            Ok(imported) => {
                let policy = policy.look(&self.request, Some(imported.tensor.device()));
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
            Err(Fail::Scattered(columns)) => {
                let caps = self.target.caps_of_whole(py, columns.first(), columns.ndim(), request.dtype);
                let decision = columns.decide(&request, caps, &policy);
                let refused = decision.verdict == Verdict::Reject;
                let message = refused.then(|| columns.message(&decision, &request, caps, &policy));
                (decision, None, message)
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
            Fail::Python(error) => *error,
            Fail::Scattered(columns) => self.fail(py, kind, policy, columns.refuse()),
        }
    }

    /// `fh.copy(..., out=)`.
    pub(crate) fn run_into(self, py: Python<'py>, out: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        gil::drain(py);
        let policy = policy::current(py, &self.request, None)?;
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

/// What a C function returns.
#[inline]
pub(crate) fn given(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    match result {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
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
    let about = format!("copied ({steps}): {codes}");
    warn(py, &format!("{} B {about}", decision.bytes_copied), &about)
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

/// Decides and executes on a tensor of ours, for a result of ours.
pub(crate) fn execute_on(py: Python<'_>, tensor: &Tensor, request: &Request) -> PyResult<Tensor> {
    let policy = policy::current(py, request, Some(tensor.device()))?;
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
    let request = Request {
        copy: arguments::copy_rule(copy),
        dtype: arguments::optional(dtype, dtype::argument)?,
        ..Request::default()
    };
    Call { x, target: Target::Numpy, request, fill: None }.run(x.py())
}

/// `copy.deepcopy` of an `fh.Tensor`.
pub(crate) fn deep_copy<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    Call { x, target: Target::Freehold, request: Request::copy(), fill: None }.run(x.py())
}

/// A tensor over an object's memory, off the ledger, for a look at it.
pub(crate) fn look(x: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let py = x.py();
    gil::drain(py);
    if let Ok(tensor) = x.cast::<PyTensor>() {
        return tensor.get().tensor(py).map_err(|error| raise(py, error));
    }
    let call = Call { x, target: Target::Freehold, request: Request::share(), fill: None };
    let kind = kind_of(x)?;
    match source::import(x, kind, &call.ask(true, Label::NONE)) {
        Ok(imported) => Ok(imported.tensor),
        Err(fail) => Err(call.fail(py, kind, &Policy::DEFAULT, fail)),
    }
}
