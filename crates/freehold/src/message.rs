//! Messages that teach: what was asked, the first field that failed, what the next weaker verb would do, what to
//! type instead.

use std::fmt;

use crate::fix::Fix;
use crate::{Caps, Code, CopyRule, Decision, Dialect, FieldError, Policy, Request, TensorDesc, Verdict, decide};

mod text;

use text::{Text, text_of};

/// The call that was made.
///
/// ```
/// use freehold::{Request, Verb};
///
/// assert_eq!(Verb::of(&Request::share()), Verb::Share);
/// assert_eq!(Verb::of(&Request::default()).name(), "convert");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Never copies.
    Share,
    /// Shares when it can.
    Convert,
    /// Always new memory.
    Copy,
}

impl Verb {
    /// `share`, `convert` or `copy`.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Share => "share",
            Verb::Convert => "convert",
            Verb::Copy => "copy",
        }
    }

    /// The verb that a request spells.
    pub fn of(request: &Request) -> Verb {
        match request.copy {
            CopyRule::Never => Verb::Share,
            CopyRule::IfNeeded => Verb::Convert,
            CopyRule::Always => Verb::Copy,
        }
    }
}

/// What was asked, for a message about the answer.
///
/// ```
/// use freehold::{Asked, Caps, Dialect, Message, Policy, Request, Tensor, decide};
///
/// let t = Tensor::from(vec![1.0f32]).read_only();
/// let (request, policy) = (Request::share(), Policy::default());
/// let decision = decide(&t.desc(), &request, &Caps::TORCH, &policy);
/// let asked = Asked::new(t.desc(), &request, &Caps::TORCH, &policy, Dialect::Rust);
/// let message = Message::of(&asked, &decision);
/// assert!(message.fixes[0].starts_with("Request::copy()"));
/// ```
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The call.
    pub verb: Verb,
    /// What an adapter knows of a source that could not be described as a tensor (`str[3] numpy`).
    pub source: Option<String>,
    /// The source's description, where one could be made.
    pub desc: Option<TensorDesc<'a>>,
    /// The request.
    pub request: &'a Request,
    /// The target.
    pub caps: &'a Caps,
    /// The policy in force.
    pub policy: &'a Policy,
    /// The owner in the adapter's words: `numpy.ndarray (flags.writeable=False)`.
    pub owner: Option<String>,
    /// The language of the fixes.
    pub dialect: Dialect,
}

impl<'a> Asked<'a> {
    /// The call that a request spells, on a described tensor. Cheap: nothing is rendered until a message is made.
    pub fn new(
        desc: TensorDesc<'a>,
        request: &'a Request,
        caps: &'a Caps,
        policy: &'a Policy,
        dialect: Dialect,
    ) -> Self {
        Self { verb: Verb::of(request), source: None, desc: Some(desc), request, caps, policy, owner: None, dialect }
    }

    /// The source in compact notation: `f64[3] numpy cpu ro`.
    pub fn source_text(&self) -> String {
        match (&self.source, &self.desc) {
            (Some(text), _) => text.clone(),
            (None, Some(desc)) => desc.to_string(),
            (None, None) => "?".to_owned(),
        }
    }
}

/// A rendered message.
///
/// ```
/// use freehold::{Code, Message};
///
/// let message = Message::plain(Code::DV02, "cuda:3: there is no such device.", "use cpu");
/// assert_eq!(message.to_string(), "[DV02] cuda:3: there is no such device.\n  Do: use cpu\n  docs/e/DV02.md");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The reason code.
    pub code: Code,
    /// What was asked, and what is wrong with it.
    pub headline: String,
    /// Field, value, limit; what the next weaker verb would do.
    pub lines: Vec<String>,
    /// Runnable fixes, best first.
    pub fixes: Vec<String>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.headline)?;
        for line in &self.lines {
            write!(f, "\n  {line}")?;
        }
        for (i, fix) in self.fixes.iter().enumerate() {
            write!(f, "\n  {} {fix}", if i == 0 { "Do:" } else { "   " })?;
        }
        write!(f, "\n  docs/e/{}.md", self.code)
    }
}

impl Message {
    /// A message with one line and one fix.
    pub fn plain(code: Code, headline: impl Into<String>, fix: &str) -> Self {
        Self { code, headline: headline.into(), lines: Vec::new(), fixes: vec![fix.to_owned()] }
    }

    /// A destination that cannot be copied into: a copy needs none.
    pub(crate) fn into_new_memory(asked: &Asked<'_>, code: Code, headline: String) -> Self {
        let bytes = asked.desc.map_or(0, |desc| desc.bytes_as(asked.request.dtype.unwrap_or(desc.dtype)));
        let fix = Fix::new(asked, Verb::Copy, format!("new memory, {bytes} B"));
        Self { code, headline, lines: Vec::new(), fixes: vec![fix.write(asked)] }
    }

    pub(crate) fn capsule(error: &FieldError) -> Self {
        Self {
            code: Code::CP02,
            headline: format!("the capsule breaks a rule of DLPack: {error}."),
            lines: vec!["nothing was taken: the caller still owns the capsule.".to_owned()],
            fixes: vec!["report it to the producer; copy the data out with the producer's own functions".to_owned()],
        }
    }

    pub(crate) fn argument(name: &str, value: &str, must: &str) -> Self {
        Self {
            code: Code::AR01,
            headline: format!("{name} is {value}; it must {must}."),
            lines: Vec::new(),
            fixes: vec![format!("pass {name} so that it {}", third_person(must))],
        }
    }

    /// The message for a decision's first reason. For a decision that hands something over, the same text as an
    /// explanation.
    pub fn of(asked: &Asked<'_>, decision: &Decision) -> Message {
        let Some(reason) = decision.reasons.first() else {
            return Message::plain(Code::IN01, "a refusal without a reason", "report it");
        };
        let bytes = asked.desc.map_or(0, |d| d.bytes_as(decision.dtype));
        let mut text = text_of(asked, reason, bytes);
        let fixes = text.fixes(asked);
        let Asked { verb, caps, .. } = asked;
        let source = asked.source_text();
        let arrow = if caps.name == Caps::FREEHOLD.name { String::new() } else { format!(" -> {}", caps.name) };
        let Text { headline, mut lines, .. } = text;
        if let Some(line) = weaker_verb(asked, decision) {
            lines.push(line);
        }
        Message { code: reason.code, headline: format!("{}({source}{arrow}){headline}", verb.name()), lines, fixes }
    }
}

impl Message {
    /// A decision in words: one line of verdict and cost, then the message of its first reason and the other reasons.
    ///
    /// ```
    /// use freehold::{Asked, Caps, Dialect, Message, Policy, Request, Tensor, decide};
    ///
    /// let t = Tensor::from(vec![1.0f32]).read_only();
    /// let (request, policy) = (Request::convert(), Policy::default());
    /// let decision = decide(&t.desc(), &request, &Caps::TORCH, &policy);
    /// let asked = Asked::new(t.desc(), &request, &Caps::TORCH, &policy, Dialect::Rust);
    /// let text = Message::explain(&asked, &decision);
    /// assert!(text.starts_with("convert(f32[1] rust cpu ro -> torch): copy (fresh) 4 B: RO01\n[RO01] "));
    /// ```
    pub fn explain(asked: &Asked<'_>, decision: &Decision) -> String {
        let Asked { verb, caps, .. } = asked;
        let mut text = format!("{}({} -> {}): {decision}", verb.name(), asked.source_text(), caps.name);
        if !decision.reasons.is_empty() {
            text.push('\n');
            text.push_str(&Message::of(asked, decision).to_string());
        }
        for reason in decision.reasons.iter().skip(1) {
            text.push_str(&format!("\n[{}] {}", reason.code, reason.detail));
        }
        text
    }
}

/// What `convert` would do where `share` refuses.
fn weaker_verb(asked: &Asked<'_>, decision: &Decision) -> Option<String> {
    if asked.verb != Verb::Share || decision.verdict != Verdict::Reject {
        return None;
    }
    let desc = asked.desc.as_ref()?;
    let request = Request { copy: CopyRule::IfNeeded, ..*asked.request };
    let weaker = decide(desc, &request, asked.caps, asked.policy);
    (weaker.verdict == Verdict::Copy).then(|| {
        let steps = weaker.steps.names().collect::<Vec<_>>().join(", ");
        let convert = if asked.dialect == Dialect::C { "FH_COPY_IF_NEEDED" } else { "convert" };
        format!("{convert} would copy {} B ({steps}).", weaker.bytes_copied)
    })
}

/// "be a power of two" as a statement: "is a power of two"; "not be NULL": "is not NULL".
fn third_person(must: &str) -> String {
    if let Some(rest) = must.strip_prefix("not be ") {
        return format!("is not {rest}");
    }
    let (verb, rest) = must.split_once(' ').unwrap_or((must, ""));
    let verb = match verb {
        "be" => "is".to_owned(),
        "have" => "has".to_owned(),
        other => format!("{other}s"),
    };
    format!("{verb} {rest}").trim_end().to_owned()
}
