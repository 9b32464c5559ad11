//! How each face of Freehold spells what was asked of it: a program in C is not told what to type in Python.

use freehold_ledger::Dialect;
use freehold_tensor::DType;

use crate::Device;

/// How what was asked of this crate is spelled. The enum itself is the ledger's, which gives advice without this crate.
pub(crate) trait Spell: Copy {
    /// An argument as it was given, from its name and its value without quotes: `order="C"`, `request.order = FH_ORDER_C`,
    /// `.order(Order::C)`.
    fn given(self, name: &str, value: &str) -> String;

    /// How a stream is named.
    fn stream(self) -> &'static str;

    /// A house rule with its value.
    fn rule(self, rule: &str, value: &str) -> String;

    /// A rule that said no and what was asked, `sync="error" (asked: ...)`, as a decision has it.
    fn rule_text(self, text: &str) -> String;
}

impl Spell for Dialect {
    fn given(self, name: &str, value: &str) -> String {
        let plain = value.trim_matches('"');
        match self {
            Dialect::Python if matches!(name, "dtype" | "device" | "order" | "on_loss") => {
                format!("{name}=\"{plain}\"")
            }
            Dialect::Python => format!("{name}={value}"),
            Dialect::C => format!("request.{name} = {}", c_value(name, plain)),
            Dialect::Rust => rust_argument(name, plain),
        }
    }

    fn stream(self) -> &'static str {
        match self {
            Dialect::Python => "pass stream=",
            Dialect::C => "set request.stream, and request.has_stream = 1",
            Dialect::Rust => "say which: .stream(...)",
        }
    }

    fn rule(self, rule: &str, value: &str) -> String {
        match self {
            Dialect::Python => format!("{rule}={value}"),
            Dialect::C => match (rule, value) {
                ("max_copy_bytes", bytes) => format!("policy.max_copy_bytes = {bytes}"),
                ("devices", "any") => "policy.devices = 0".to_owned(),
                ("devices", some) => format!("policy.devices of {some}"),
                _ => format!("policy.{rule} = FH_{}_{}", rule.to_uppercase(), value.to_uppercase()),
            },
            Dialect::Rust => format!("Policy {{ {} }}", rust_rule(rule, value)),
        }
    }

    fn rule_text(self, text: &str) -> String {
        let (rule, asked) = text.split_once(" (").map_or((text, None), |(rule, asked)| (rule, Some(asked)));
        match rule.split_once('=') {
            Some((name, value)) if self != Dialect::Python => {
                let asked = asked.map(|asked| format!(" ({asked}")).unwrap_or_default();
                format!("{}{asked}", self.rule(name, value.trim_matches('"')))
            }
            _ => text.to_owned(),
        }
    }
}

/// What [`Dialect::without`] is as a statement in C.
pub(crate) fn c_default(name: &str) -> String {
    match name {
        "dtype" => "request.dtype = (DLDataType){0, 0, 0}".to_owned(),
        "device" => "request.device = (DLDevice){0, 0}".to_owned(),
        "order" => "request.order = FH_ORDER_ANY".to_owned(),
        "writable" => "request.writable = FH_WRITABLE_ANY".to_owned(),
        "on_loss" => "request.on_loss = FH_ON_LOSS_ERROR".to_owned(),
        _ => format!("request.{name} = 0"),
    }
}

/// What to do about a refusal that is made before anybody knows who asked. It is written in Rust, until a face says otherwise
/// ([`crate::Error::in_dialect`]).
#[derive(Clone, Copy)]
pub(crate) enum Advice {
    OlderVersion,
    VersionedCapsule,
    OtherDevice,
}

impl Advice {
    pub(crate) const ALL: [Advice; 3] = [Advice::OlderVersion, Advice::VersionedCapsule, Advice::OtherDevice];

    pub(crate) fn say(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Advice::OlderVersion, Dialect::Python) => {
                "upgrade Freehold, or ask the producer for version 1 (max_version=(1, 3))"
            }
            (Advice::OlderVersion, _) => "upgrade Freehold, or ask the producer for version 1.3 at most",
            (Advice::VersionedCapsule, Dialect::Python) => {
                "ask for a versioned capsule: __dlpack__(max_version=(1, 0)) or later"
            }
            (Advice::VersionedCapsule, Dialect::C) => {
                "ask for a versioned capsule: fh_export_versioned(tensor, (DLPackVersion){1, 3}, label, &out, &error)"
            }
            (Advice::VersionedCapsule, Dialect::Rust) => "ask for a versioned capsule: tensor.to_versioned(&options)",
            (Advice::OtherDevice, Dialect::Python) => "use cpu, or run `python -m freehold doctor`",
            (Advice::OtherDevice, Dialect::C) => "use (DLDevice){kDLCPU, 0}",
            (Advice::OtherDevice, Dialect::Rust) => "use Device::CPU",
        }
    }

    /// The same advice in a language, if a fix is one.
    pub(crate) fn again(fix: &str, dialect: Dialect) -> Option<&'static str> {
        Advice::ALL.into_iter().find(|advice| fix == advice.say(Dialect::Rust)).map(|advice| advice.say(dialect))
    }
}

fn c_value(name: &str, value: &str) -> String {
    match (name, value) {
        ("on_loss", _) => format!("FH_ON_LOSS_{}", value.to_uppercase()),
        ("dtype", _) => DType::from_name(value)
            .map_or_else(|| value.to_owned(), |d| format!("(DLDataType){{{}, {}, {}}}", d.code, d.bits, d.lanes)),
        ("device", _) => {
            Device::parse(value).map_or_else(|| value.to_owned(), |d| format!("(DLDevice){{{}, {}}}", d.kind.0, d.id))
        }
        ("order", _) => format!("FH_ORDER_{}", value.to_uppercase()),
        ("writable", "True") => "FH_WRITABLE_YES".to_owned(),
        ("writable", "False") => "FH_WRITABLE_NO".to_owned(),
        (_, "True") => "1".to_owned(),
        _ => value.to_owned(),
    }
}

fn rust_argument(name: &str, value: &str) -> String {
    match name {
        "detach" => ".detach()".to_owned(),
        "freeze" => ".freeze()".to_owned(),
        "writable" => format!(".writable({})", value.to_lowercase()),
        "on_loss" => format!(".on_loss(OnLoss::{})", capital(value)),
        "dtype" => {
            let dtype = DType::from_name(value);
            let name = dtype.map_or_else(
                || value.to_uppercase(),
                |d| if d.is_bool() { "BOOL".to_owned() } else { d.to_string().to_uppercase() },
            );
            format!(".dtype(DType::{name})")
        }
        "device" => {
            let device = Device::parse(value).unwrap_or(Device::CPU);
            format!(".device(Device::new(DeviceKind({}), {}))", device.kind.0, device.id)
        }
        "order" => format!(".order(Order::{value})"),
        _ => format!(" /* {name}={value} */"),
    }
}

/// A field of a policy.
pub(crate) fn rust_rule(rule: &str, value: &str) -> String {
    match (rule, value) {
        ("max_copy_bytes", bytes) => format!("max_copy_bytes: Some({bytes})"),
        ("devices", "any") => "devices: DeviceSet::ALL".to_owned(),
        ("devices", some) => format!("devices: {some}"),
        _ => format!("{rule}: {}Policy::{}", capital(rule), capital(value)),
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExportOptions, Tensor};

    #[test]
    fn each_face_is_told_what_to_write_in_its_own_language() {
        let t = Tensor::from(vec![1.0f32]).read_only();
        let refused = || t.to_legacy(&ExportOptions::default()).err().expect("it is read-only");
        for (dialect, said) in [
            (Dialect::Python, "__dlpack__(max_version="),
            (Dialect::C, "fh_export_versioned("),
            (Dialect::Rust, ".to_versioned("),
        ] {
            let error = refused().in_dialect(dialect);
            assert!(error.fixes()[0].contains(said), "{error}");
            assert_eq!(error.fixes().len(), refused().fixes().len());
        }
        for advice in Advice::ALL {
            for dialect in [Dialect::C, Dialect::Rust] {
                let said = advice.say(dialect);
                assert!(!said.contains("max_version=") && !said.contains("python"), "{said}");
            }
        }
    }

    #[test]
    fn arguments_and_rules_have_the_names_of_their_language() {
        for (name, value, python, c, rust) in [
            ("order", "F", "order=\"F\"", "request.order = FH_ORDER_F", ".order(Order::F)"),
            (
                "dtype",
                "\"float32\"",
                "dtype=\"float32\"",
                "request.dtype = (DLDataType){2, 32, 1}",
                ".dtype(DType::F32)",
            ),
            (
                "device",
                "cuda:1",
                "device=\"cuda:1\"",
                "request.device = (DLDevice){2, 1}",
                ".device(Device::new(DeviceKind(2), 1))",
            ),
            ("writable", "False", "writable=False", "request.writable = FH_WRITABLE_NO", ".writable(false)"),
            ("detach", "True", "detach=True", "request.detach = 1", ".detach()"),
        ] {
            let said = [Dialect::Python, Dialect::C, Dialect::Rust].map(|dialect| dialect.given(name, value));
            assert_eq!(said, [python, c, rust]);
        }
        let text = "copies=\"error\" (asked: 8 B)";
        assert_eq!(Dialect::Python.rule_text(text), text);
        assert_eq!(Dialect::C.rule_text(text), "policy.copies = FH_COPIES_ERROR (asked: 8 B)");
        assert_eq!(Dialect::Rust.rule_text(text), "Policy { copies: CopiesPolicy::Error } (asked: 8 B)");
    }
}
