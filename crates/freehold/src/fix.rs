//! Fixes: the call to make instead, in the caller's language, with everything else that was asked for.

use crate::dialect::{Spell, c_default, rust_rule};
use crate::message::{Asked, Verb};
use crate::policy::Policy;
use crate::{Caps, CopyRule, Dialect, OnLoss, Order, Request, Verdict, decide};

/// A call that would do, before it is written in a language.
pub(crate) struct Fix {
    verb: Verb,
    request: Request,
    /// A house rule that the call needs.
    rule: Option<(&'static str, String)>,
    /// Whether null elements become 0.
    fill: bool,
    note: String,
}

impl Fix {
    /// The call that was made, with this verb: what else was asked for stays asked for.
    pub(crate) fn new(asked: &Asked<'_>, verb: Verb, note: impl Into<String>) -> Self {
        let mut request = Request { copy: rule_of(verb), ..*asked.request };
        if verb == Verb::Copy {
            // A copy is nobody else's: it can be written, and there is nobody to freeze.
            request.freeze = false;
            request.writable = None;
        }
        Self { verb, request, rule: None, fill: false, note: note.into() }
    }

    /// With something else asked for.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Request)) -> Self {
        change(&mut self.request);
        self
    }

    /// With null elements filled.
    pub(crate) fn filled(self) -> Self {
        Self { fill: true, ..self }
    }

    /// Under a house rule that allows it.
    pub(crate) fn under(self, rule: &'static str, value: impl Into<String>) -> Self {
        Self { rule: Some((rule, value.into())), ..self }
    }

    /// With a note that depends on what the call would do.
    pub(crate) fn noted(self, asked: &Asked<'_>, note: impl FnOnce(Verdict) -> String) -> Self {
        let note = note(self.verdict(asked).unwrap_or(Verdict::Share));
        Self { note, ..self }
    }

    /// Whether the call is another one, and would not be refused in its turn. Only the values can still say no.
    pub(crate) fn works(&self, asked: &Asked<'_>) -> bool {
        let again = self.request == *asked.request && self.rule.is_none() && !self.fill && asked.desc.is_some();
        !again && self.verdict(asked) != Some(Verdict::Reject)
    }

    fn verdict(&self, asked: &Asked<'_>) -> Option<Verdict> {
        let desc = asked.desc.as_ref()?;
        Some(decide(desc, &self.request, asked.caps, &self.policy(asked)).verdict)
    }

    fn policy(&self, asked: &Asked<'_>) -> Policy {
        let mut policy = *asked.policy;
        if let Some((rule, value)) = &self.rule {
            // A rule with a value that is not one would show in the fix.
            let _ = policy.set(rule, value);
        }
        policy
    }

    /// The arguments beside source and target.
    fn arguments(&self, request: &Request) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        let mut add = |name, value: Option<String>| out.extend(value.map(|value| (name, value)));
        let word = |flag: bool| flag.then(|| "True".to_owned());
        add("dtype", request.dtype.map(|d| format!("\"{}\"", d.name().map_or_else(|| d.to_string(), str::to_owned))));
        add("device", request.device.map(|device| format!("\"{device}\"")));
        let order = crate::decision::order_name(request.order);
        add("order", (request.order != Order::Any).then(|| format!("\"{order}\"")));
        add("writable", request.writable.map(|yes| if yes { "True" } else { "False" }.to_owned()));
        add("freeze", word(request.freeze));
        add("detach", word(request.detach));
        let on_loss = crate::decision::on_loss_name(request.on_loss);
        add("on_loss", (request.on_loss != OnLoss::Error).then(|| format!("\"{on_loss}\"")));
        add("fill", self.fill.then(|| "0".to_owned()));
        out
    }

    /// The line to type.
    pub(crate) fn write(&self, asked: &Asked<'_>) -> String {
        let arguments = self.arguments(&self.request);
        if let (Some((rule, value)), true) = (&self.rule, self.request == *asked.request) {
            // The same call under another policy: outside Python, only the policy is worth a line.
            match asked.dialect {
                Dialect::Python => {}
                Dialect::C => {
                    return format!("{}; fh_runtime_set_policy(rt, &policy, &error)", Dialect::C.rule(rule, value));
                }
                Dialect::Rust => return format!("Policy {{ {}, ..policy }}", rust_rule(rule, value)),
            }
        }
        match asked.dialect {
            Dialect::Python => self.python(asked, arguments),
            Dialect::C => {
                let copy = match self.verb {
                    Verb::Share => "FH_COPY_NEVER",
                    Verb::Convert => "FH_COPY_IF_NEEDED",
                    Verb::Copy => "FH_COPY_ALWAYS",
                };
                let mut call = format!("request.copy = {copy};");
                // The caller has a request already: only what changes in it is worth a line.
                let before = Fix { fill: false, ..Fix::new(asked, asked.verb, "") }.arguments(asked.request);
                for (name, value) in arguments.iter().filter(|argument| !before.contains(argument)) {
                    call.push_str(&format!(" {};", Dialect::C.given(name, value)));
                }
                for (name, _) in before.iter().filter(|(name, _)| !arguments.iter().any(|(kept, _)| kept == name)) {
                    call.push_str(&format!(" {};", c_default(name)));
                }
                annotate(call, "//", &self.note_with_rule(asked.dialect))
            }
            Dialect::Rust => {
                let mut call = format!("Request::{}()", self.verb.name());
                for (name, value) in &arguments {
                    call.push_str(&Dialect::Rust.given(name, value));
                }
                annotate(call, "//", &self.note_with_rule(asked.dialect))
            }
        }
    }

    /// `fh.convert(x, "torch", dtype="float32")`, under its rule if it needs one.
    fn python(&self, asked: &Asked<'_>, mut arguments: Vec<(&'static str, String)>) -> String {
        let variable = if asked.source_text().contains(" torch ") { "t" } else { "x" };
        let mut verb = self.verb;
        // `share` takes no dtype, device or order.
        if verb == Verb::Share && arguments.iter().any(|(name, _)| matches!(*name, "dtype" | "device" | "order")) {
            verb = Verb::Convert;
            arguments.push(("copy", "False".to_owned()));
        }
        let mut call = format!("fh.{}({variable}", verb.name());
        if asked.caps.name != Caps::FREEHOLD.name {
            call.push_str(&format!(", \"{}\"", asked.caps.name));
        }
        for (name, value) in &arguments {
            call.push_str(&format!(", {name}={value}"));
        }
        call.push(')');
        if let Some((rule, value)) = &self.rule {
            let value = match value.as_str() {
                "none" => "None".to_owned(),
                number if number.bytes().all(|b| b.is_ascii_digit()) => number.to_owned(),
                word => format!("\"{word}\""),
            };
            call = format!("with fh.policy({rule}={value}): y = {call}");
        }
        annotate(call, "#", &self.note)
    }

    fn note_with_rule(&self, dialect: Dialect) -> String {
        match &self.rule {
            Some((rule, value)) if self.note.is_empty() => format!("with {}", dialect.rule(rule, value)),
            Some((rule, value)) => format!("with {}: {}", dialect.rule(rule, value), self.note),
            None => self.note.clone(),
        }
    }
}

fn rule_of(verb: Verb) -> CopyRule {
    match verb {
        Verb::Share => CopyRule::Never,
        Verb::Convert => CopyRule::IfNeeded,
        Verb::Copy => CopyRule::Always,
    }
}

/// A line and what to know about it.
pub(crate) fn annotate(line: String, mark: &str, note: &str) -> String {
    if note.is_empty() { line } else { format!("{line:<40} {mark} {note}") }
}
