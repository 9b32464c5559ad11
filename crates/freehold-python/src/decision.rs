//! `fh.Decision`.

use freehold::{Code, Decision, Detail, Message, Request, Tensor, Verdict};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::call::Call;
use crate::json;
use crate::policy;
use crate::target::Target;

/// What will happen at the boundary, or did not, and why. True if something is handed over.
///
/// Made by fh.plan; the attribute `decision` of a BoundaryError is the one that said no.
///
/// >>> import numpy as np
/// >>> d = fh.plan(np.zeros(3)[::-1], "torch", copy=False)
/// >>> d
/// fh.Decision(f64[3] numpy cpu -> f64[3] torch cpu: reject (layout): ST01)
/// >>> bool(d), d.codes
/// (False, ('ST01',))
/// >>> d.fixes
/// ('fh.convert(x, "torch")                   # 24 B copied: compact',)
/// >>> print(d.explain().splitlines()[-1])
/// => reject (layout): ST01
#[pyclass(frozen, name = "Decision", module = "freehold")]
pub(crate) struct PyDecision {
    decision: Decision,
    /// The source, for its layout; absent where it could not be described.
    tensor: Option<Tensor>,
    /// The refusal in words.
    message: Option<Message>,
    /// The call, for `run`; absent on the decision of an error.
    call: Option<Planned>,
}

struct Planned {
    x: Py<PyAny>,
    target: Target,
    request: Request,
    fill: Option<Py<PyAny>>,
}

impl Drop for PyDecision {
    fn drop(&mut self) {
        let tensor = self.tensor.take();
        // SAFETY: only the interpreter drops the contents of an object, with the GIL held.
        crate::gil::keeping_error(unsafe { Python::assume_attached() }, || drop(tensor));
    }
}

impl PyDecision {
    pub(crate) fn refused(decision: Decision, message: Message) -> Self {
        Self { decision, tensor: None, message: Some(message), call: None }
    }

    pub(crate) fn planned(
        decision: Decision,
        tensor: Option<Tensor>,
        message: Option<Message>,
        x: &Bound<'_, PyAny>,
        target: Target,
        request: Request,
        fill: Option<&Bound<'_, PyAny>>,
    ) -> Self {
        let call = Planned { x: x.clone().unbind(), target, request, fill: fill.map(|fill| fill.clone().unbind()) };
        Self { decision, tensor, message, call: Some(call) }
    }
}

impl PyDecision {
    /// Codes and texts.
    fn told(&self) -> Vec<(&'static str, String)> {
        self.decision
            .reasons
            .iter()
            .map(|reason| {
                let text = match (about(reason.code), reason.detail.to_string()) {
                    (about, _) if reason.code == Code::HT01 => match &reason.detail {
                        Detail::Cast { from, to } => {
                            let default = to.name().unwrap_or("another");
                            format!("{about} {default}; {from} stays {from}: pass dtype= for another")
                        }
                        _ => about.to_owned(),
                    },
                    (about, detail) if detail.is_empty() => about.to_owned(),
                    ("", detail) => detail,
                    (about, detail) => format!("{about}: {detail}"),
                };
                (reason.code.name(), text)
            })
            .collect()
    }

    /// Those that only inform.
    fn infos(&self) -> Vec<(&'static str, String)> {
        self.told().into_iter().filter(|(code, _)| Code::from_name(code).is_some_and(Code::is_info)).collect()
    }

    /// As [`Self::line`], of a source that is not there any more or never was: `share(f32[3] numpy cpu ro -> torch): reject: RO01`.
    fn short_line(&self) -> String {
        // Of the refusal's first line, what was asked.
        let asked = self.message.as_ref().and_then(|message| {
            let arrow = message.headline.find(" -> ")?;
            let end = arrow + message.headline[arrow..].find(')')?;
            Some(&message.headline[..=end])
        });
        match asked {
            Some(asked) => format!("{asked}: {}", self.decision),
            None => self.decision.to_string(),
        }
    }

    /// What becomes what, on which devices, and how: `f64[2] numpy cpu -> f32[2] torch cpu: copy (cast) 8 B: CA01`.
    fn line(&self) -> String {
        let (Some(tensor), Some(call)) = (&self.tensor, &self.call) else { return self.short_line() };
        let shape = tensor.shape().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let Decision { dtype, device, .. } = self.decision;
        let to = call.target.label().as_str();
        format!("{} -> {dtype}[{shape}] {to} {device}: {}", tensor.desc(), self.decision)
    }
}

/// `freehold._text.Reason` each.
fn named<'py>(py: Python<'py>, reasons: Vec<(&'static str, String)>) -> PyResult<Bound<'py, PyList>> {
    let class = py.import("freehold._text")?.getattr("Reason")?;
    let list = PyList::empty(py);
    for reason in reasons {
        list.append(class.call1(reason)?)?;
    }
    Ok(list)
}

/// What a code means, where its detail does not say so by itself.
const fn about(code: Code) -> &'static str {
    match code {
        Code::RO01 => "read-only memory, and the result would be writable",
        Code::RO02 => "read-only because the owner is",
        Code::ST01 => "a negative stride",
        Code::ST02 => "not compact",
        Code::ST03 => "strides are not multiples of the item size",
        Code::LY01 => "not in the order asked for",
        Code::LY02 => "no dense buffer",
        Code::LY03 => "no storage",
        Code::LY04 => "too many dimensions",
        Code::CA01 => "the dtype changes",
        Code::CA02 => "values do not fit",
        Code::DT01 => "the elements are Python objects",
        Code::DT02 => "the target lacks the dtype",
        Code::DT03 => "DLPack has no code for the dtype",
        Code::BO01 => "the bytes are in the other order",
        Code::AG01 => "not aligned enough",
        Code::DV01 => "on another device",
        Code::DV02 => "no such device here",
        Code::DV03 => "the device is not what the producer said",
        Code::SY01 => "the streams are not ordered",
        Code::GR01 => "an autograd graph hangs on it",
        Code::GR02 => "detached, so read-only: a write would corrupt the backward pass",
        Code::LZ01 => "lazy bits: the bytes are not the values",
        Code::NU01 => "null or masked elements",
        Code::AL01 => "changed while it was lent",
        Code::AL02 => "elements overlap in memory, so read-only",
        Code::AL03 => "the target promises that nobody writes, and the owner can",
        Code::PO01 => "the policy in force forbids it",
        Code::VE01 => "unknown DLPack major version",
        Code::CP01 => "the capsule was consumed already",
        Code::CP02 => "the capsule breaks a rule",
        Code::CP03 => "the capsule was not given back as DLPack says",
        Code::OB01 => "no tensor memory to share",
        Code::OB02 => "the target holds no memory but its own",
        Code::HT01 => "the target's default dtype is",
        Code::HT02 => "a small view keeps a large buffer alive",
        Code::AR01 | Code::ME01 | Code::IN01 => "",
    }
}

/// The questions of a decision, in the order in which they are asked, and the codes that answer them.
const QUESTIONS: &[(&str, &[Code])] = &[
    ("can it be described as a tensor?", &[Code::OB01, Code::DT01, Code::DT03, Code::LY02, Code::LY03, Code::NU01]),
    ("does an autograd graph hang on it?", &[Code::GR01, Code::GR02]),
    ("does the target have the dtype, and is it the one asked for?", &[Code::DT02, Code::CA01, Code::CA02]),
    ("is it on the right device?", &[Code::DV01, Code::DV02, Code::DV03]),
    ("are the bytes the values?", &[Code::LZ01, Code::BO01]),
    ("does the target take the strides?", &[Code::LY04, Code::ST01, Code::ST02, Code::ST03]),
    ("is it in the order asked for?", &[Code::LY01]),
    ("is it aligned?", &[Code::AG01]),
    ("can the target hold memory of others?", &[Code::OB02]),
    ("may the receiver write?", &[Code::RO01, Code::RO02, Code::AL02, Code::AL03]),
    ("does the policy allow it?", &[Code::PO01]),
];

#[pymethods]
impl PyDecision {
    /// "share", "copy" or "reject".
    #[getter]
    fn verdict(&self) -> &'static str {
        self.decision.verdict.name()
    }

    /// What a copy does on its one pass: "fresh", "layout", "cast", "device", "resolve".
    #[getter]
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.decision.steps.names().collect::<Vec<_>>())
    }

    /// How the copy's one pass goes: "tiles 128x128, f32 -> bf16, avx512, 2 threads", or between devices the road and the bytes
    /// over the link; None where nothing is copied.
    #[getter]
    fn engine(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let Some(tensor) = &self.tensor else { return Ok(None) };
        let policy = policy::current(py, &Request::default(), None)?;
        let how = freehold::describe(tensor, &self.decision, &policy).map(|how| how.to_string());
        Ok(how.or_else(|| freehold::road(tensor, &self.decision)))
    }

    /// (code, text) pairs, the first failing field first.
    #[getter]
    fn reasons<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        named(py, self.told())
    }

    /// The codes of `reasons`.
    #[getter]
    fn codes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.decision.reasons.iter().map(|reason| reason.code.name()))
    }

    /// The reasons that only inform.
    #[getter]
    fn hints<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        named(py, self.infos())
    }

    /// Bytes that the copy reads and writes, counted once.
    #[getter]
    fn bytes_copied(&self) -> u64 {
        self.decision.bytes_copied
    }

    /// Bytes that the result allocates.
    #[getter]
    fn bytes_allocated(&self) -> u64 {
        self.decision.bytes_allocated
    }

    /// Waiting that it needs: "none", "event" or "host".
    #[getter]
    fn sync(&self) -> &'static str {
        self.decision.sync.name()
    }

    /// Whether the receiver may write.
    #[getter]
    fn writable(&self) -> bool {
        self.decision.writable
    }

    /// The order of the result: "C", "F" or "strided".
    #[getter]
    fn layout(&self) -> &'static str {
        let order = match self.decision.verdict {
            Verdict::Copy => Some(self.decision.order),
            _ => self.tensor.as_ref().and_then(|tensor| tensor.layout().order()),
        };
        match order {
            Some(freehold::Order::F) => "F",
            Some(_) => "C",
            None => "strided",
        }
    }

    /// The element type of the result.
    #[getter]
    fn dtype(&self) -> String {
        let dtype = self.decision.dtype;
        dtype.name().map_or_else(|| dtype.to_string(), str::to_owned)
    }

    /// The device of the result.
    #[getter]
    fn device(&self) -> String {
        self.decision.device.to_string()
    }

    /// Runnable lines for a refusal, best first.
    #[getter]
    fn fixes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.message.as_ref().map_or(&[][..], |message| &message.fixes))
    }

    /// Carries the decision out: the call that was planned, as the source is now.
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.call {
            Some(planned) => {
                let x = planned.x.bind(py);
                let fill = planned.fill.as_ref().map(|fill| fill.bind(py));
                Call { x, target: planned.target, request: planned.request, fill }.run(py)
            }
            None => {
                let message = self.message.clone().unwrap_or_else(|| {
                    Message::plain(Code::IN01, "a decision without a call", "report it with this message")
                });
                Err(crate::error::raise(py, freehold::Error::rejected(message, Some(self.decision.clone()))))
            }
        }
    }

    /// Plain data: what the ledger's files carry.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = json::object(py, &self.decision.to_json())?.cast_into::<PyDict>()?;
        dict.set_item("layout", self.layout())?;
        dict.set_item("engine", self.engine(py)?)?;
        dict.set_item("from_device", self.tensor.as_ref().map(|tensor| tensor.device().to_string()))?;
        dict.set_item("source", self.tensor.as_ref().map(|tensor| tensor.desc().to_string()))?;
        Ok(dict)
    }

    /// The path taken: each question of the decision, in order, and the answer for this source.
    fn explain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut out = String::new();
        if let Some(tensor) = &self.tensor {
            out.push_str(&format!("{}\n", tensor.desc()));
        }
        let reasons = self.told();
        for (question, codes) in QUESTIONS {
            let answers: Vec<&(&str, String)> =
                reasons.iter().filter(|(name, _)| codes.iter().any(|code| code.name() == *name)).collect();
            let refused = answers.iter().any(|(name, _)| {
                self.decision.verdict == Verdict::Reject && self.decision.code().is_some_and(|c| c.name() == *name)
            });
            let text = if answers.is_empty() {
                match &self.tensor {
                    Some(tensor) if codes.contains(&Code::DV01) => {
                        format!("nothing in the way: {} -> {}", tensor.device(), self.decision.device)
                    }
                    _ => "nothing in the way".to_owned(),
                }
            } else {
                answers.iter().map(|(code, text)| format!("{code} {text}")).collect::<Vec<_>>().join("; ")
            };
            out.push_str(&format!("  {question:<62} {text}\n"));
            if refused {
                break;
            }
        }
        out.push_str(&format!("=> {}", self.decision));
        for (code, text) in self.infos().iter().filter(|(code, _)| code.starts_with("HT")) {
            out.push_str(&format!("\n   hint {code}: {text}"));
        }
        json::text(py, &out)
    }

    fn __bool__(&self) -> bool {
        self.decision.is_ok()
    }

    fn __str__(&self) -> String {
        match &self.message {
            Some(message) => message.to_string(),
            None => self.line(),
        }
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        json::html(slf.as_any(), "decision")
    }

    fn __repr__(&self) -> String {
        format!("fh.Decision({})", self.line())
    }
}
