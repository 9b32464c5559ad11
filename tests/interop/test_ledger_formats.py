"""Each format of the ledger is opened by the program that it is for."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import freehold as fh
from ledger_synthetic import HOSTILE, snapshot
from test_ledger_schema import VALIDATOR

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scene():
    """A ledger with a history: shares, a copy, a refusal, lives that are over. Kept until the test is over."""
    level, fh.ledger.level = fh.ledger.level, 3
    a = np.arange(6, dtype="float32").reshape(2, 3)
    held = [fh.share(a, "torch"), fh.convert(a.T, "torch", order="C"), fh.share(a)]
    for _ in range(3):
        fh.share(a, "numpy")
    a.flags.writeable = False
    with pytest.raises(fh.BoundaryError):
        fh.share(a, "torch")
    a.flags.writeable = True
    yield a
    held.clear()
    fh.ledger.level = level


@pytest.fixture
def saved(scene, tmp_path):
    def save(name):
        path = tmp_path / name
        fh.ledger.save(path)
        return path

    return save


def test_json_follows_the_schema(saved, scene):
    written = json.loads(saved("x.json").read_text())
    VALIDATOR.validate(written)
    assert written["history"]["closed"] and written["findings"]["copies"]
    assert any(__file__ in copy["site"] for copy in written["findings"]["copies"])


def test_json_lines_are_the_objects_of_the_schema(saved):
    lines = [json.loads(line) for line in saved("x.jsonl").read_text().splitlines()]
    assert lines[0]["type"] == "snapshot" and lines[0]["schema"] == "freehold.ledger/2"
    kinds = {line.pop("type") for line in lines}
    assert {"stats", "buffer", "copy", "copies", "lent", "framework", "lane", "closed"} <= kinds


def test_pytorch_opens_the_pickle(saved):
    from torch.cuda import _memory_viz as viz

    data = pickle.loads(saved("x.pickle").read_bytes())
    cpu = data["device_traces"][-1]
    actions = [event["action"] for event in cpu]
    assert actions.count("alloc") >= 2 and {"segment_alloc", "alloc"} <= set(actions)
    assert all(event["addr"] < 2**53 for event in cpu)
    assert any(event["category"] == "unknown" for event in cpu), "or the viewer in the browser throws"
    frames = [frame for event in cpu for frame in event["frames"]]
    assert any("numpy -> torch f32[2,3] (share" in frame["name"] and frame["line"] > 0 for frame in frames)
    assert f"segments: {len(data['segments'])}" in viz.segsum(data)
    assert "cudaMalloc" in viz.trace(data)
    assert "snapshot.pickle" in viz.trace_plot(data) and "snapshot.pickle" in viz.segment_plot(data)


def test_the_pickle_is_one_that_the_viewer_in_the_browser_reads(saved):
    """The opcodes of torch/utils/viz/MemoryViz.js; a longer integer would be one that it cannot add to others."""
    import pickletools

    known = {"PROTO", "EMPTY_DICT", "EMPTY_LIST", "MARK", "SETITEMS", "APPENDS", "BINUNICODE", "BININT", "LONG1", "NEWFALSE", "NEWTRUE", "STOP"}
    length = 0
    for opcode, argument, _ in pickletools.genops(saved("x.pickle").read_bytes()):
        assert opcode.name in known, opcode.name
        assert opcode.name != "LONG1" or argument < 2**63
        length += 1
    assert length > 100


def test_long_lists_are_appended_in_parts(tmp_path):
    """The viewer passes what one opcode appends as arguments of a call, of which browsers take a limited number."""
    import pickletools

    fh_again(snapshot(20_000), tmp_path / "x.pickle")
    depth, marks, most = 0, [], 0
    for opcode, _, _ in pickletools.genops((tmp_path / "x.pickle").read_bytes()):
        if opcode.name == "MARK":
            marks.append(depth)
        elif opcode.name in ("APPENDS", "SETITEMS"):
            at = marks.pop()
            most, depth = max(most, depth - at), at
        elif opcode.name not in ("PROTO", "STOP"):
            depth += 1
    assert 0 < most <= 1000


def fh_again(data, path):
    """Writes a snapshot that was saved as JSON in another format, as `python -m freehold view` does."""
    fh._freehold._save_again(json.dumps(data), path)


def test_prometheus_parses_openmetrics(saved):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(saved("x.prom").read_text())}
    handovers = {tuple(sample.labels.values()): sample.value for sample in families["fh_handovers"].samples}
    assert handovers["numpy", "torch", "share"] >= 1
    live = fh.ledger.stats()["live"]
    assert [s.value for s in families["fh_live_bytes"].samples if s.labels["device"] == "cpu"] == [live["by_device"][0]["bytes"]]
    assert families["fh_copied_bytes"].unit == "bytes"
    assert any(sample.labels == {"reason": "LY01"} for sample in families["fh_copied_bytes"].samples)
    assert any(sample.labels.get("code") == "RO01" for sample in families["fh_refused"].samples)
    assert all(family.documentation for family in families.values())


def test_openmetrics_takes_any_name(tmp_path):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    fh_again(snapshot(40, hostile=True), tmp_path / "x.prom")
    families = {f.name: f for f in text_string_to_metric_families((tmp_path / "x.prom").read_text(encoding="utf-8"))}
    assert {sample.labels["framework"] for sample in families["fh_framework_owned_bytes"].samples} >= set(HOSTILE)


@pytest.mark.parametrize("hostile", [False, True])
def test_graphviz_renders_dot(saved, tmp_path, hostile):
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("Graphviz is not installed (apt: graphviz)")
    path = saved("x.dot")
    if hostile:
        fh_again(snapshot(240, hostile=True), path)
    done = subprocess.run([dot, "-Tsvg", str(path)], capture_output=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    svg = done.stdout.decode()
    import xml.etree.ElementTree as xml

    text = " ".join(part.strip() for part in xml.fromstring(svg).itertext())
    assert "buffer #" in text and (all(name.strip() in text for name in HOSTILE if name.isprintable()) if hostile else "numpy f32[2,3]" in text)


def test_mermaid_is_a_flowchart_of_quoted_labels(saved, tmp_path):
    lines = saved("x.mmd").read_text().splitlines()
    fh_again(snapshot(40, hostile=True), tmp_path / "x.mmd")
    hostile = (tmp_path / "x.mmd").read_text(encoding="utf-8").splitlines()
    assert lines[0] == hostile[0] == "flowchart LR"
    node = r'[bh]\d+(\["[^"<>]*(<br/>[^"<>]*)*"\]|\(\["[^"<>]*(<br/>[^"<>]*)*"\]\))'
    edge = r'h\d+ (===|-\.-) b\d+|h\d+ -->\|"[^"<>]*"\| h\d+'
    for line in [*lines[1:], *hostile[1:]]:
        assert re.fullmatch(rf"  ({node}|{edge})", line), line


def test_a_trace_is_what_perfetto_wants(saved):
    """Its structure is tested in Rust, crates/freehold-ledger/tests/formats.rs; here that Python's objects are in it."""
    events = json.loads(saved("x.trace.json").read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert {"numpy", "torch", "freehold ledger"} <= names
    assert any(event.get("cat") == "copy" and event["args"]["reasons"] == ["LY01"] for event in events)


def test_an_unknown_extension_is_refused_by_name(tmp_path):
    with pytest.raises(fh.BoundaryError) as error:
        fh.ledger.save(tmp_path / "ledger.txt")
    text = str(error.value)
    assert error.value.code == "AR01" and "ledger.txt" in text
    assert all(end in text for end in (".json", ".jsonl", ".pickle", ".trace.json", ".prom", ".dot", ".mmd", ".html"))
    assert not (tmp_path / "ledger.txt").exists()


def test_a_place_that_cannot_be_written_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        fh.ledger.save(tmp_path / "no" / "ledger.html")
    assert error.value.filename == str(tmp_path / "no" / "ledger.html")


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "freehold", *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_view_prints_a_saved_ledger_and_writes_the_page(saved, tmp_path):
    path, page, metrics = saved("x.json"), tmp_path / "out.html", tmp_path / "out.prom"
    printed = run("view", path)
    assert printed.returncode == 0, printed.stderr
    live = [line for line in fh.ledger.report(stable=True).splitlines() if line.startswith("  buffer #")]
    assert live and all(line in printed.stdout for line in live)
    done = run("view", path, "--html", page, "--to", metrics)
    assert done.returncode == 0 and str(page) in done.stdout, done.stderr
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>") and "# EOF" in metrics.read_text()


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"{}", "names no schema"), (b"\xff\xfe", "not text"), (b"nonsense", "not a saved ledger"), (b'{"schema": "freehold.ledger/1"}', "freehold.ledger/2"), (None, "No such file")],
)
def test_view_says_what_is_wrong_with_a_file(tmp_path, content, part):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    done = run("view", path)
    assert done.returncode == 1 and part in done.stderr and "Traceback" not in done.stderr
