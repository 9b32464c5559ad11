//! What is advised about each finding, to readers of each language. Safe code: Miri leaves it to others.
#![cfg(not(miri))]

mod common;

use common::{array, copy, held_by, ledger, share};
use freehold_ledger::{Dialect, Findings, HolderDesc, HolderFlags, Label, Ledger, Snapshot};
use freehold_tensor::{Code, Steps};

const DIALECTS: [Dialect; 3] = [Dialect::Python, Dialect::C, Dialect::Rust];

/// What no reader of a language should be told to type.
fn foreign(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Python => &["::", "fh_", "FH_", "request."],
        Dialect::C => &["fh.", "dtype=", "order=", "detach=", "with block", "::", "from_dlpack"],
        Dialect::Rust => &["fh.", "dtype=", "order=", "detach=", "with block", "fh_", "FH_", "request.", "from_dlpack"],
    }
}

/// A ledger with one copy for these reasons.
fn copied(steps: Steps, reasons: &[Code]) -> Ledger {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[4]);
    let owner = ledger.open(&a, None);
    let edge = copy(owner, Label::NUMPY, steps, reasons, 32);
    ledger.open(&HolderDesc { framework: Label::TORCH, ..array(Label::TORCH, 0x9000, &[4]) }, Some(&edge));
    ledger
}

/// A ledger with views that are held of one array each, with these flags; the first is small and of a large buffer.
fn lent(views: u64, flags: HolderFlags) -> Ledger {
    let ledger = ledger();
    for i in 0..views {
        let address = 0x100_0000 * (i + 1);
        let a = HolderDesc { alloc: Some((address, 4 << 20)), ..array(Label::NUMPY, address, &[10]) };
        let owner = ledger.open(&a, None);
        let view = HolderDesc { flags, ..held_by(Label::TORCH, &a) };
        ledger.open(&view, Some(&share(owner, Label::NUMPY, &[])));
    }
    ledger
}

type Line = fn(&Findings) -> &str;

/// The advice about a finding in each language; once where it is the same in all.
fn said(what: &str, ledger: &Ledger, line: Line) -> String {
    let all = DIALECTS.map(|dialect| {
        let said = line(&ledger.snapshot().in_dialect(dialect).findings).to_owned();
        for word in foreign(dialect) {
            assert!(!said.contains(word), "{what}: {word} in advice for {dialect:?}: {said}");
        }
        said
    });
    if all.iter().all(|said| *said == all[0]) {
        return format!("{what}\n  {}\n", all[0]);
    }
    let lines = DIALECTS.iter().zip(&all).map(|(dialect, said)| format!("  {dialect:?}: {said}\n"));
    format!("{what}\n{}", lines.collect::<String>())
}

#[test]
fn every_reader_is_told_what_to_write_in_its_own_language() {
    let copies: Line = |findings| &findings.copies[0].fix;
    let held: Line = |findings| &findings.lent[0].fix;
    let mut text = said("asked for", &copied(Steps::FRESH, &[]), copies);
    text += &said("no reason", &copied(Steps::LAYOUT, &[]), copies);
    for code in Code::ALL {
        text += &said(code.name(), &copied(Steps::LAYOUT, &[*code]), copies);
    }
    let none = HolderFlags::empty();
    text += &said("pinned", &lent(1, none), |findings| &findings.pinned[0].fix);
    text += &said("held", &lent(1, none), held);
    text += &said("many held", &lent(3, none), held);
    text += &said("frozen", &lent(1, HolderFlags::FROZEN), held);
    text += &said("unconsumed", &lent(1, HolderFlags::EXPORTED), held);
    insta::assert_snapshot!("advice", text);
}

#[test]
fn only_the_advice_depends_on_the_language() {
    let snapshot = copied(Steps::CAST, &[Code::CA01]).snapshot();
    let c = snapshot.clone().in_dialect(Dialect::C);
    assert_ne!(snapshot, c);
    assert_eq!(snapshot, c.clone().in_dialect(Dialect::Rust), "a ledger says what it says in Rust");
    // A file keeps the language of the program that wrote it.
    let mut json = Vec::new();
    c.write_json(&mut json, false).expect("a vector takes all");
    let read = Snapshot::from_json(std::str::from_utf8(&json).expect("UTF-8")).expect("it was just written");
    assert_eq!(read.findings, c.findings);
    assert_eq!(read.in_dialect(Dialect::Python).findings, snapshot.in_dialect(Dialect::Python).findings);
}
