"""The ledger's JSON is what docs/ledger-schema.json says: no more, no less.

The snapshot of the Rust tests holds one of everything; where the package is installed, a live ledger is checked too.
"""

import copy
import json
import pathlib

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/ledger-schema.json").read_text())
SNAPSHOT = ROOT / "crates/freehold-ledger/tests/snapshots/snapshots__snapshot.snap"


def strict(schema):
    """The same schema, where a property that it does not describe is an error."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


VALIDATOR = jsonschema.Draft202012Validator(strict(SCHEMA))


@pytest.fixture
def snapshot():
    _, _, body = SNAPSHOT.read_text().split("---\n", 2)
    return json.loads(body)


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_snapshot_of_the_rust_tests_is_valid(snapshot):
    VALIDATOR.validate(snapshot)


def test_the_snapshot_has_one_of_everything(snapshot):
    """Otherwise the test above says little about the parts that are missing."""
    for part in ("buffers", "copies", "hazards"):
        assert snapshot[part], part
    for part in ("handovers", "copied", "refused", "hazards", "counters"):
        assert snapshot["stats"][part], part
    for part in ("copies", "pinned", "lent", "frameworks", "peak"):
        assert snapshot["findings"][part], part
    for part in ("closed", "lanes"):
        assert snapshot["history"][part], part
    assert {b["owner"] is None or bool(b["holders"]) for b in snapshot["buffers"]} == {True, False}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "freehold.ledger/1"),
        (("pid",), None),
        (("extra",), 1),
        (("buffers", 0, "id"), 0),
        (("buffers", 0, "base"), 65536),
        (("buffers", 0, "owner", "role"), "landlord"),
        (("buffers", 0, "owner", "id"), 4294967296),
        (("buffers", 0, "holders", 0, "reasons"), ["because"]),
        (("buffers", 0, "holders", 0, "flags"), ["frozen", "frozen"]),
        (("copies", 0, "bytes"), -1),
        (("stats", "level"), "loud"),
        (("findings", "lent", 0, "state"), "lost"),
        (("findings", "peak", "exact"), "yes"),
        (("history", "closed", 0, "lane"), 0),
        (("history", "lanes", 0, "base"), 4096),
    ],
)
def test_what_breaks_the_schema_is_refused(snapshot, path, value):
    broken = copy.deepcopy(snapshot)
    *parents, last = path
    target = broken
    for part in parents:
        target = target[part]
    target[last] = value
    assert not VALIDATOR.is_valid(broken)


def test_a_live_ledger_writes_valid_json(tmp_path):
    fh = pytest.importorskip("freehold")
    np = pytest.importorskip("numpy")
    x = np.arange(12.0).reshape(3, 4)
    shared, copied = fh.share(x), fh.copy(x, dtype="float32")
    path = tmp_path / "ledger.json"
    fh.ledger.save(str(path))
    written = json.loads(path.read_text())
    VALIDATOR.validate(written)
    held = [holder for buffer in written["buffers"] for holder in [buffer["owner"], *buffer["holders"]] if holder]
    assert hex(x.ctypes.data) in {holder["address"] for holder in held}
    assert any(entry["bytes"] == copied.nbytes for entry in written["copies"]) and shared is not None
