//! The decision flowchart, printed by asking [`crate::decide`] itself.

use std::fmt::Write;

use crate::{
    Caps, CopyRule, DType, Decision, Device, Label, Layout, Order, Policy, Request, TensorDesc, Traits, decide,
};

/// The answer to one question, for a source that differs from a plain one in one way.
struct Case {
    question: &'static str,
    shape: &'static [i64],
    strides: &'static [i64],
    traits: Traits,
    request: Request,
}

fn cases() -> Vec<Case> {
    const C: &[i64] = &[3, 1];
    let plain =
        |question| Case { question, shape: &[2, 3], strides: C, traits: Traits::empty(), request: Request::convert() };
    vec![
        Case { traits: Traits::REQUIRES_GRAD, ..plain("does an autograd graph hang on it?") },
        Case { traits: Traits::REQUIRES_GRAD, request: Request::convert().detach(), ..plain("  ... and detach=True?") },
        Case { request: Request::convert().dtype(DType::F16), ..plain("is another dtype asked for?") },
        Case { traits: Traits::NEG, ..plain("are lazy conj/neg bits set?") },
        Case { traits: Traits::SWAPPED, ..plain("are the bytes in the other byte order?") },
        Case { strides: &[-3, 1], ..plain("is a stride negative?") },
        Case {
            strides: &[1, 2],
            request: Request::convert().order(Order::C),
            ..plain("is order=\"C\" asked of a column-major source?")
        },
        Case { traits: Traits::READ_ONLY, ..plain("is it read-only?") },
        Case { strides: &[0, 1], ..plain("do elements overlap (a broadcast view)?") },
        plain("none of these"),
    ]
}

fn answer(case: &Case, source: &str, caps: &Caps, copy: CopyRule) -> Decision {
    let desc = TensorDesc {
        address: 4096,
        device: Device::CPU,
        dtype: DType::F32,
        layout: Layout::new(case.shape, case.strides),
        traits: case.traits,
        framework: Label::intern(source),
    };
    decide(&desc, &Request { copy, ..case.request }, caps, &Policy::DEFAULT)
}

fn brief(decision: &Decision) -> String {
    let steps = decision.steps.names().collect::<Vec<_>>().join(", ");
    let verdict = decision.verdict.name().to_uppercase();
    let mut text = match (decision.verdict, decision.writable) {
        (crate::Verdict::Share, false) => format!("{verdict} read-only"),
        (crate::Verdict::Copy, _) => format!("{verdict} {steps}"),
        _ => verdict,
    };
    if let Some(code) = decision.code().filter(|c| !matches!(c, crate::Code::HT01)) {
        let _ = write!(text, " ({code})");
    }
    text
}

/// The flowchart for a source framework and a target: what `share`, `convert` and `copy` do, question by question,
/// each answer computed by [`crate::decide`] when this is called.
///
/// ```
/// use freehold::{Caps, flowchart};
///
/// let text = flowchart("numpy", &Caps::TORCH);
/// let row = text.lines().find(|line| line.starts_with("is a stride negative?")).expect("a row each question");
/// let answers: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
/// assert_eq!(answers[1..], ["REJECT (ST01)", "COPY layout (ST01)", "COPY fresh, layout (ST01)"]);
/// ```
pub fn flowchart(source: &str, caps: &Caps) -> String {
    let mut out = format!("{source} tensor -> {}?\n", caps.name);
    let _ = writeln!(out, "    |");
    let _ = writeln!(out, "    +- must be independent        -> fh.copy(x, \"{}\")", caps.name);
    let _ = writeln!(out, "    +- must share, or say why not -> fh.share(x, \"{}\")", caps.name);
    let _ = writeln!(out, "    +- whatever is cheapest       -> fh.convert(x, \"{}\")", caps.name);
    let _ = writeln!(out, "\n{:<52}{:<30}{:<32}copy", "first question answered yes", "share", "convert");
    for case in cases() {
        let row =
            [CopyRule::Never, CopyRule::IfNeeded, CopyRule::Always].map(|c| brief(&answer(&case, source, caps, c)));
        let _ = writeln!(out, "{:<52}{:<30}{:<32}{}", case.question, row[0], row[1], row[2]);
    }
    out
}
