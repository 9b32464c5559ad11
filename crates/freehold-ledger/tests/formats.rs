//! What is written, and what is read again. Other people's programs read the formats in `tests/interop`.
#![cfg(not(miri))]

mod common;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use common::{array, copy, held_by, share};
use freehold_ledger::{Counter, Edge, Format, HolderDesc, HolderFlags, Label, Ledger, Lent, Level, Snapshot, Sync};
use freehold_tensor::{Code, DType, Device, DeviceKind, Steps};
use serde_json::Value;

/// Lives and handovers of three frameworks, some over, one on another device, at a level that keeps a history.
fn scene() -> Ledger {
    let ledger = Ledger::new(Level::Sites);
    let rows = HolderDesc { alloc: Some((0x40_0000, 10_000_000)), ..array(Label::NUMPY, 0x40_0000, &[10]) };
    let owner = ledger.open(&HolderDesc { site: Label::intern("load.py:3 in load"), ..rows }, None);
    let view = HolderDesc { site: Label::intern("train.py:12"), ..held_by(Label::TORCH, &rows) };
    let torch = ledger.open(&view, Some(&share(owner, Label::NUMPY, &[Code::RO02])));
    for _ in 0..3 {
        let jax = ledger.open(&held_by(Label::JAX, &rows), Some(&share(torch, Label::TORCH, &[])));
        ledger.close(jax);
    }
    let gpu = HolderDesc {
        device: Device::new(DeviceKind::CUDA, 1),
        dtype: DType::BF16,
        site: Label::intern("train.py:20"),
        flags: HolderFlags::COPIED,
        ..array(Label::CUPY, 0x7_0000_0000, &[8])
    };
    let moved = ledger.open(&gpu, Some(&copy(owner, Label::NUMPY, Steps::DEVICE, &[Code::DV01], 64)));
    let capsule = HolderDesc { flags: HolderFlags::EXPORTED, ..held_by(Label::UNKNOWN, &gpu) };
    ledger.open(&capsule, Some(&share(moved, Label::CUPY, &[])));
    ledger.close(moved);
    ledger.hazard(Code::AL01, &[torch], "buffer #1 changed while lent to torch".to_owned());
    ledger
}

fn written(snapshot: &Snapshot, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    snapshot.write(format, &mut out).expect("a vector takes all");
    assert!(!out.is_empty(), "{format:?}");
    out
}

fn text(snapshot: &Snapshot, format: Format) -> String {
    String::from_utf8(written(snapshot, format)).expect("UTF-8")
}

#[test]
fn a_saved_snapshot_reads_back_as_it_was_and_is_written_the_same() {
    let snapshot = scene().snapshot();
    let again = Snapshot::from_json(&text(&snapshot, Format::Json)).expect("our own");
    assert_eq!(again, snapshot);
    for &format in Format::ALL {
        assert_eq!(written(&again, format), written(&snapshot, format), "{format:?}");
    }
}

#[test]
fn what_is_not_a_saved_ledger_is_refused_in_words() {
    let good = text(&scene().snapshot(), Format::Json);
    let cases = [
        ("", "not a saved ledger"),
        ("[1]", "not a saved ledger"),
        ("{\"a\": 1}", "names no schema"),
        ("{\"schema\": \"freehold.ledger/1\"}", "its schema is freehold.ledger/1"),
        (&good.replace("\"f64\"", "\"f65\""), "f65"),
        (&good.replace("\"pid\"", "\"pit\""), "pid"),
        (&good[..good.len() / 2], "not a saved ledger"),
    ];
    for (text, part) in cases {
        let error = Snapshot::from_json(text).expect_err(part);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_end_of_a_name_says_the_format() {
    for &format in Format::ALL {
        let path = format!("/tmp/some.ledger{}", format.extension());
        assert_eq!(Format::of_path(Path::new(&path)), Some(format));
        assert_eq!(Format::of_path(Path::new(&path.to_uppercase())), Some(format));
    }
    for path in ["", "json", "x.txt", "x.json.gz", "/", "dir.html/"].map(Path::new) {
        let expected = path.to_string_lossy().ends_with("html/").then_some(Format::Html);
        assert_eq!(Format::of_path(path), expected, "{path:?}");
    }
    let error = scene().save(Path::new("x.txt")).expect_err("no format");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains(".trace.json"), "{error}");
}

/// Events in the order of time, lives that begin and end once or are live, flows with both ends, whole counters.
#[test]
fn a_trace_is_well_formed() {
    let snapshot = scene().snapshot();
    let trace: Value = serde_json::from_slice(&written(&snapshot, Format::Trace)).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list");
    let timed: Vec<&Value> = events.iter().filter(|event| event["ph"] != "M").collect();
    let times: Vec<f64> = timed.iter().map(|event| event["ts"].as_f64().expect("a time")).collect();
    assert!(times.is_sorted(), "in the order of time");

    let named: HashSet<u64> =
        events.iter().filter(|e| e["name"] == "process_name").map(|e| e["pid"].as_u64().expect("a pid")).collect();
    assert!(timed.iter().all(|event| named.contains(&event["pid"].as_u64().expect("a pid"))));

    let mut open: HashMap<(String, u64), f64> = HashMap::new();
    for event in &timed {
        let key = || (event["id"].as_str().expect("an id").to_owned(), event["pid"].as_u64().expect("a pid"));
        let at = event["ts"].as_f64().expect("a time");
        match event["ph"].as_str() {
            Some("b") => assert_eq!(open.insert(key(), at), None, "begins twice"),
            Some("e") => assert!(open.remove(&key()).is_some_and(|begun| begun <= at), "ends before it begins"),
            _ => {}
        }
    }
    let live: HashSet<String> =
        snapshot.buffers.iter().flat_map(|buffer| buffer.members()).map(|holder| holder.id.to_string()).collect();
    assert_eq!(open.keys().map(|(id, _)| id.clone()).collect::<HashSet<_>>(), live, "what has no end is live");

    let ids = |ph: &str| {
        let of = timed.iter().filter(|event| event["ph"] == ph);
        of.map(|event| event["id"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let (starts, ends) = (ids("s"), ids("f"));
    assert_eq!(starts.len(), 6, "a flow for each handover");
    assert_eq!(starts.iter().collect::<HashSet<_>>(), ends.iter().collect::<HashSet<_>>());
    assert_eq!(starts.len(), starts.iter().collect::<HashSet<_>>().len());

    let last = |name: &str| {
        let mut of = timed.iter().filter(|event| event["ph"] == "C" && event["name"] == name);
        of.next_back().expect("a counter")["args"]["bytes"].as_u64().expect("bytes")
    };
    assert_eq!(last("live_bytes"), snapshot.stats.live.bytes);
    assert_eq!(last("copied_bytes"), 64);
    assert_eq!(last("shared_bytes"), 10_000_000, "numpy and torch hold the rows");
}

/// A name that is markup in one of the formats is text in all of them.
#[test]
fn hostile_names_are_inert() {
    let ledger = Ledger::new(Level::Sites);
    let names =
        ["</script><script>alert(1)</script>", "<!-- \" ' \\ & -->", "\u{202e}gnp.exe", "a\"]; rm [label=\"\n}"];
    for (i, name) in names.iter().enumerate() {
        let holder = array(Label::intern(name), 0x1000 * (i as u64 + 1), &[3]);
        let site = Label::intern(&format!("{name}:{i} in {name}"));
        let owner = ledger.open(&HolderDesc { site, ..holder }, None);
        ledger.open(&held_by(Label::TORCH, &holder), Some(&share(owner, holder.framework, &[])));
        ledger.hazard(Code::AL01, &[owner], (*name).to_owned());
    }
    let snapshot = ledger.snapshot();
    let page = text(&snapshot, Format::Html).to_lowercase();
    // The page's own elements: the data, three carried formats, the libraries and our scripts.
    assert_eq!(page.matches("</script").count(), page.matches("<script").count());
    assert_eq!(page.matches("</script").count(), 4 + 1 + 7);
    assert!(!page.contains("<!--") && page.contains("\\u003c/script>\\u003cscript>alert(1)"));

    let dot = text(&snapshot, Format::Dot);
    for line in dot.lines() {
        let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert!(quotes % 2 == 0, "{line}");
    }
    let mermaid = text(&snapshot, Format::Mermaid);
    assert!(mermaid.lines().skip(1).all(|line| line.starts_with("  ") && !line.replace("<br/>", "").contains('<')));
    let metrics = text(&snapshot, Format::OpenMetrics);
    assert!(
        metrics.ends_with("# EOF\n") && metrics.lines().all(|line| line.starts_with('#') || line.starts_with("fh_"))
    );
}

#[test]
fn history_keeps_lives_that_are_over_and_the_peak() {
    let ledger = scene();
    let (closed, lanes) = {
        let history = ledger.snapshot().history;
        (history.closed, history.lanes)
    };
    assert_eq!(closed.iter().map(|c| c.framework).collect::<Vec<_>>(), ["jax", "jax", "jax", "cupy"]);
    assert!(closed.iter().all(|c| c.opened_ns <= c.closed_ns && c.from.is_some()));
    assert!(closed.is_sorted_by_key(|c| c.closed_ns));
    assert_eq!(lanes.len(), 2, "the rows, and the copy on the device with the capsule of it");
    assert!(lanes.iter().all(|lane| lane.buffer.is_some() && lane.closed_ns.is_none()));

    // A large buffer that came and went is the peak, and its holder is named.
    let large = HolderDesc {
        alloc: Some((0x8000_0000, 1 << 30)),
        site: Label::intern("peak.py:9"),
        ..array(Label::PANDAS, 0x8000_0000, &[1 << 20])
    };
    let id = ledger.open(&large, None);
    ledger.close(id);
    let snapshot = ledger.snapshot();
    let peak = snapshot.findings.peak.expect("something was live");
    assert!(peak.exact);
    assert_eq!(peak.bytes, (1 << 30) + snapshot.stats.live.bytes);
    assert_eq!((peak.holders[0].framework, peak.holders[0].site), ("pandas", "peak.py:9"));
    assert_eq!(peak.holders[0].buffer, None, "it is gone");
    let gone = snapshot.history.lanes.last().expect("a lane");
    assert_eq!((gone.len, gone.buffer), (1 << 30, None));
    assert!(gone.closed_ns.is_some_and(|at| at >= gone.opened_ns));
}

#[test]
fn level_2_keeps_no_history_and_samples_the_peak() {
    let ledger = Ledger::new(Level::Records);
    let a = array(Label::NUMPY, 0x1000, &[100]);
    let id = ledger.open(&a, None);
    assert_eq!(ledger.snapshot().findings.peak.expect("live").bytes, 800);
    ledger.close(id);
    let snapshot = ledger.snapshot();
    assert!(snapshot.history.closed.is_empty() && snapshot.history.lanes.is_empty());
    let peak = snapshot.findings.peak.expect("it was seen");
    assert_eq!((peak.bytes, peak.exact), (800, false));
}

#[test]
fn findings_name_what_to_change() {
    let findings = scene().snapshot().findings;
    let copies = &findings.copies[0];
    assert_eq!((copies.from, copies.to, copies.site, copies.count), ("numpy", "cupy", "train.py:20", 1));
    assert!(!copies.asked && copies.fix.contains("on the device"), "{}", copies.fix);
    let pinned = &findings.pinned[0];
    assert_eq!((pinned.len, pinned.used_bytes, pinned.frees), (10_000_000, 80, 9_999_920));
    assert_eq!(pinned.holders[0].site, "train.py:12");
    let states: HashMap<Lent, &str> = findings.lent.iter().map(|lent| (lent.state, lent.to)).collect();
    assert_eq!(states[&Lent::Unconsumed], "unknown");
    assert_eq!(states[&Lent::Held], "torch");
    let numpy = findings.frameworks.iter().find(|f| f.framework == "numpy").expect("numpy owns");
    assert_eq!((numpy.owned, numpy.owned_bytes, numpy.copied_out), (1, 10_000_000, 64));
}

/// A step that keeps what it took shows as views since the mark.
#[test]
fn a_leak_is_what_a_step_took_and_kept() {
    let ledger = Ledger::new(Level::Sites);
    let lend = |i: u64| {
        let a = array(Label::NUMPY, 0x1000 * (i + 1), &[4]);
        let owner = ledger.open(&a, None);
        let view = HolderDesc { site: Label::intern("step.py:5"), ..held_by(Label::TORCH, &a) };
        ledger.open(&view, Some(&share(owner, Label::NUMPY, &[])));
    };
    lend(0);
    ledger.mark();
    (1..4).for_each(lend);
    let lent = &ledger.snapshot().findings.lent[0];
    assert_eq!((lent.count, lent.since_mark, lent.buffers, lent.bytes, lent.site), (4, 3, 4, 128, "step.py:5"));
    assert!(lent.oldest_ns >= lent.youngest_ns);
    let report = ledger.text_report();
    assert!(report.contains("at step.py:5  3 since the last mark"), "{report}");
}

/// Copies that are no longer listed still count, with their reason and place; kinds without end are put together.
#[test]
fn copies_count_by_place_beyond_those_that_are_listed() {
    let ledger = Ledger::new(Level::Records);
    let a = array(Label::NUMPY, 0x1000, &[3]);
    for i in 0..20_000u64 {
        let site = if i < 10_000 { Label::intern("hot.py:1") } else { Label::intern(&format!("generated:{i}")) };
        let edge = copy(freehold_ledger::HolderId::NONE, Label::NUMPY, Steps::CAST, &[Code::CA01], 10);
        let id = ledger.open(&HolderDesc { framework: Label::TORCH, site, ..a }, Some(&edge));
        ledger.close(id);
    }
    let snapshot = ledger.snapshot();
    let copies = &snapshot.findings.copies;
    let hot = copies.iter().find(|group| group.site == "hot.py:1").expect("counted");
    assert_eq!((hot.count, hot.bytes, &hot.reasons[..]), (10_000, 100_000, &[Code::CA01][..]));
    assert_eq!(snapshot.stats.copied[0].bytes, 200_000);
    assert!(copies.iter().any(|group| group.site == "(other)" && group.count > 1000));
    assert!(copies.len() <= 1000);
}

/// B20: what made the host wait for a device, by place.
#[test]
fn waits_for_a_device_count_by_place() {
    let ledger = Ledger::new(Level::Counters);
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let shared = share(freehold_ledger::HolderId::NONE, Label::TORCH, &[]);
    let copied = copy(freehold_ledger::HolderId::NONE, Label::CUPY, Steps::DEVICE, &[Code::DV01], 24);
    for (n, edge) in [(3, &shared), (5, &copied)] {
        for i in 0..n {
            let site = Label::intern(if i == 0 { "once.py:1" } else { "loop.py:2" });
            let holder = HolderDesc { site, ..a };
            ledger.open(&holder, Some(&Edge { sync: Sync::Host, ..*edge }));
            ledger.open(&holder, Some(&Edge { sync: Sync::Event, ..*edge }));
            ledger.copied(freehold_ledger::HolderId::NONE, &holder, &Edge { sync: Sync::Host, ..*edge });
        }
    }
    let snapshot = ledger.snapshot();
    let found: Vec<_> =
        snapshot.findings.waits.iter().map(|wait| (wait.from, wait.to, wait.site, wait.count)).collect();
    let expected = [
        ("cupy", "numpy", "loop.py:2", 8),
        ("torch", "numpy", "loop.py:2", 4),
        ("cupy", "numpy", "once.py:1", 2),
        ("torch", "numpy", "once.py:1", 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(ledger.counted(Counter::HostWaits), 16);
    assert!(
        snapshot.text(Default::default()).contains("cupy -> numpy         8 times  at loop.py:2"),
        "{}",
        snapshot.text(Default::default())
    );
}
