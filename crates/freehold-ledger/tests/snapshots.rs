//! What a person and a program read: one scene as text and as JSON.
//!
//! Ids, addresses and shapes are the same in every run; times, thread and process are not, and are redacted. The
//! JSON is also read by `tests/interop/test_ledger_schema.py`, against `docs/ledger-schema.json`.
#![cfg(not(miri))]

mod common;

use common::{array, copy, held_by, ledger, share};
use freehold_ledger::{Counter, HolderDesc, HolderFlags, Label, Ledger, Level, Role, Sync, TextOptions};
use freehold_tensor::{Code, DType, Device, DeviceKind, Steps};

/// One of everything: a buffer that three frameworks share, a cast, a transfer to the GPU, a small view of a large
/// array, an export that waits for its consumer, a refusal, a deleter that ran twice.
fn scene() -> Ledger {
    let ledger = ledger();
    let cuda = Device::new(DeviceKind::CUDA, 0);

    let image = HolderDesc {
        shape: &[2, 3, 4],
        strides: &[12, 4, 1],
        dtype: DType::F32,
        alloc: Some((0x10000, 96)),
        ..array(Label::NUMPY, 0x10000, &[1])
    };
    let x = ledger.open(&HolderDesc { flags: HolderFlags::READ_ONLY, ..image }, None);
    let lent = HolderFlags::READ_ONLY | HolderFlags::FROZEN;
    let torch = HolderDesc { flags: lent, site: Label::intern("train.py:12"), ..held_by(Label::TORCH, &image) };
    let t = ledger.open(&torch, Some(&share(x, Label::NUMPY, &[Code::RO02])));
    let column = HolderDesc { address: 0x10004, shape: &[2, 3], strides: &[12, 4], ..held_by(Label::JAX, &image) };
    ledger.open(&HolderDesc { flags: HolderFlags::READ_ONLY, ..column }, Some(&share(t, Label::TORCH, &[])));

    let half = HolderDesc {
        dtype: DType::BF16,
        alloc: Some((0x20000, 48)),
        address: 0x20000,
        flags: HolderFlags::COPIED,
        role: Role::Owner,
        ..torch
    };
    let cast = copy(t, Label::TORCH, Steps::LAYOUT | Steps::CAST, &[Code::CA01, Code::ST02], 48);
    let h = ledger.open(&half, Some(&cast));
    let on_gpu = HolderDesc { device: cuda, address: 0x7_0000_0000, alloc: Some((0x7_0000_0000, 48)), ..half };
    let transfer =
        freehold_ledger::Edge { sync: Sync::Event, ..copy(h, Label::TORCH, Steps::DEVICE, &[Code::DV01], 48) };
    ledger.open(&HolderDesc { framework: Label::CUPY, ..on_gpu }, Some(&transfer));

    let rows = HolderDesc { alloc: Some((0x40_0000, 10_000_000)), ..array(Label::NUMPY, 0x40_0000, &[10]) };
    let r = ledger.open(&rows, None);
    let capsule = HolderDesc { flags: HolderFlags::EXPORTED, ..held_by(Label::UNKNOWN, &rows) };
    ledger.open(&capsule, Some(&share(r, Label::NUMPY, &[])));

    // Copies that were made and let go; two of them alike.
    for _ in 0..2 {
        let edge = copy(x, Label::NUMPY, Steps::FRESH, &[Code::RO01], 96);
        ledger.close(ledger.open(&HolderDesc { site: Label::intern("eval.py:7"), ..half }, Some(&edge)));
    }
    let gone = ledger.open(&rows, None);
    ledger.close(gone);
    ledger.close(gone);
    ledger.hazard(Code::AL01, &[t], "buffer #1 changed while lent to torch".to_owned());
    ledger.reject(Label::NUMPY, Label::TORCH, Code::RO01);
    ledger.reject(Label::UNKNOWN, Label::TORCH, Code::CP01);
    ledger.count(Counter::UnconsumedCapsules);
    ledger
}

#[test]
fn text_report_reads_in_ten_seconds() {
    insta::assert_snapshot!("report", scene().text_report_with(TextOptions::STABLE));
}

#[test]
fn text_report_of_an_empty_ledger_is_one_line() {
    insta::assert_snapshot!("empty", ledger().text_report_with(TextOptions::STABLE));
}

#[test]
fn text_report_summarises_what_is_long() {
    let ledger = ledger();
    for i in 0..60 {
        ledger.open(&array(Label::NUMPY, 0x1000 * (i + 1), &[3]), None);
    }
    let report = ledger.text_report_with(TextOptions { max_lines: 2, ..TextOptions::STABLE });
    insta::assert_snapshot!("long", report);
}

#[test]
fn text_report_shows_addresses_and_times_if_asked() {
    let report = scene().text_report();
    assert!(report.contains("  at 0x10000\n"), "{report}");
    assert!(report.lines().any(|line| line.contains("owned by numpy") && line.contains(" thread ")), "{report}");
}

#[test]
fn json_snapshot_is_the_versioned_schema() {
    let ledger = scene();
    // A history is kept from this level on.
    ledger.set_level(Level::Sites);
    ledger.close(ledger.open(&array(Label::PANDAS, 0x90_0000, &[4]), None));
    let mut json = Vec::new();
    ledger.write_json(&mut json, true).expect("a vector takes all");
    assert_eq!(json.last(), Some(&b'\n'));
    let written: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(written["schema"], freehold_ledger::SCHEMA);
    assert_eq!(written["pid"], std::process::id());
    // Parsed once more, because a redaction changes values and not the text around them.
    insta::assert_json_snapshot!("snapshot", written, {
        ".version" => "0.0.0",
        ".pid" => 1,
        ".taken_unix_ms" => 0,
        ".taken_ns" => 0,
        ".**.opened_ns" => 0,
        ".**.at_ns" => 0,
        ".**.closed_ns" => 0,
        ".**.oldest_ns" => 0,
        ".**.youngest_ns" => 0,
        ".**.closed_by" => 1,
        ".**.thread" => 1,
        ".**.id" => insta::dynamic_redaction(stable_id),
        ".**.parent" => insta::dynamic_redaction(stable_id),
        ".**.holder" => insta::dynamic_redaction(stable_id),
    });
}

/// A holder's id contains the index of its thread's shard, which depends on the other tests; the rest does not.
fn stable_id(value: insta::internals::Content, _: insta::internals::ContentPath<'_>) -> insta::internals::Content {
    match value.as_str().and_then(|id| id.parse::<u64>().ok()) {
        Some(id) => (id & !(0xFF << 24) | 1 << 24).to_string().into(),
        None => value,
    }
}
