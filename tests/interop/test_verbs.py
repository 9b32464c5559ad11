"""The face of the package: its names, their signatures, every spelling of an argument, and what bad ones are told."""

import inspect
import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from row_tools import read_only

SIGNATURES = {
    "share": "(x, to=None, *, writable=None, freeze=False, stream=None, detach=False)",
    "convert": "(x, to=None, *, dtype=None, device=None, order=None, writable=None, freeze=False, stream=None, "
    "detach=False, on_loss='error', fill=None, copy=None)",
    "copy": "(x, to=None, *, dtype=None, device=None, order=None, out=None, stream=None, detach=False, "
    "on_loss='error', fill=None)",
    "from_dlpack": "(x, /, *, device=None, copy=None)",
    "explain": "(x, y=None)",
    "targets": "() -> 'Targets'",
}
SIGNATURES["plan"] = SIGNATURES["convert"]


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_verbs_have_these_signatures(name):
    function = getattr(fh, name)
    assert str(inspect.signature(function)) == SIGNATURES[name]
    assert function.__doc__, "a name at the prompt says what it does"


def test_the_twelve_names_and_no_other():
    twelve = {*SIGNATURES, "Tensor", "Decision", "ledger", "policy", "BoundaryError"}
    assert len(twelve) == 12
    # BoundaryWarning is the category to filter warnings by.
    assert set(fh.__all__) == twelve | {"BoundaryWarning"}
    assert {name for name in dir(fh) if not name.startswith("_")} >= twelve


def test_what_the_objects_offer():
    for name in ("verdict", "steps", "reasons", "bytes_copied", "bytes_allocated", "sync", "writable", "hints"):
        assert isinstance(inspect.getattr_static(fh.Decision, name), type(inspect.getattr_static(fh.Decision, "verdict")))
    assert all(callable(getattr(fh.Decision, name)) for name in ("run", "to_dict", "__bool__"))
    for name in ("live", "owner", "holders", "aliases", "mark", "leaks", "stats", "save"):
        assert callable(getattr(fh.ledger, name))
    assert fh.ledger.level == 2, "the default"
    for name in ("__dlpack__", "__dlpack_device__", "__array__", "__buffer__", "__reduce_ex__", "__enter__", "__exit__"):
        assert hasattr(fh.Tensor, name) or name == "__buffer__" and sys.version_info < (3, 12)
    assert type(fh.Tensor.__dlpack_c_exchange_api__).__name__ == "PyCapsule"


def test_nothing_is_imported_that_the_caller_did_not_import():
    script = """
        import sys
        import freehold as fh
        t = fh.copy([1.0, 2.0])
        fh.plan(memoryview(b"ab")); fh.explain(t); fh.targets(); fh.ledger.stats()
        print([name for name in ("numpy", "torch", "pandas", "jax", "ml_dtypes") if name in sys.modules])
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("[]\n", "", 0)


TARGETS = {
    "numpy": ["numpy", np, np.ndarray],
    "torch": ["torch", "".join(["tor", "ch"]), torch, torch.Tensor, torch.nn.Parameter],
    "freehold": [None, "freehold", fh, fh.Tensor],
}


@pytest.mark.parametrize("name, spelling", [(name, to) for name, tos in TARGETS.items() for to in tos])
def test_every_spelling_of_to(name, spelling):
    kind = {"numpy": np.ndarray, "torch": torch.Tensor, "freehold": fh.Tensor}[name]
    for verb in (fh.share, fh.convert, fh.copy):
        made = verb(memoryview(bytearray(b"abc")), spelling)
        assert isinstance(made, kind) and np.asarray(made).tolist() == [97, 98, 99]
    assert fh.plan(bytearray(b"abc"), spelling).verdict == "share"


DTYPES = {
    "float32": ["float32", np.float32, np.dtype("float32"), torch.float32, np.dtype("<f4"), "f32"],
    "float64": ["float64", float, np.float64, torch.float64, "double"],
    "int64": ["int64", int, np.int64, torch.int64, torch.long],
    "bool": ["bool", bool, np.bool_, np.dtype(bool), torch.bool],
    "complex128": ["complex128", complex, np.complex128, torch.complex128],
    "float16": ["float16", np.float16, torch.half, "half"],
    "bfloat16": ["bfloat16", "bf16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), torch.bfloat16],
    "float8_e4m3fn": ["float8_e4m3fn", ml_dtypes.float8_e4m3fn, torch.float8_e4m3fn],
    "uint16": ["uint16", np.uint16, torch.uint16],
}


@pytest.mark.parametrize("name, spelling", [(name, dtype) for name, dtypes in DTYPES.items() for dtype in dtypes])
def test_every_spelling_of_dtype(name, spelling):
    x = np.array([0.0, 1.0])
    assert fh.plan(x, dtype=spelling).dtype == name
    assert fh.convert(x, dtype=spelling, on_loss="allow").dtype == name
    assert fh.copy(x, dtype=spelling, on_loss="allow").dtype == name


@pytest.mark.parametrize("spelling", ["cpu", "cpu:0", torch.device("cpu"), (1, 0), (1, None)], ids=repr)
def test_every_spelling_of_device(spelling):
    x = np.zeros(2)
    assert fh.convert(x, device=spelling).device == fh.copy(x, device=spelling).device == "cpu"
    assert fh.from_dlpack(x, device=spelling).device == fh.plan(x, device=spelling).device == "cpu"


@pytest.mark.parametrize("spelling", ["cuda:5", torch.device("cuda", 5), (2, 5)], ids=repr)
def test_a_device_that_is_not_here_is_dv02_however_it_is_spelled(spelling):
    with pytest.raises(fh.BoundaryError, match="cuda:5") as refused:
        fh.convert(np.zeros(2), device=spelling)
    assert refused.value.code == "DV02"


def test_order():
    a = np.arange(6.0).reshape(2, 3)
    for x in (a, np.asfortranarray(a), a[:, ::-1], torch.from_numpy(a).T):
        for order, flag in (("C", "C_CONTIGUOUS"), ("F", "F_CONTIGUOUS")):
            made = fh.copy(x, "numpy", order=order)
            assert made.flags[flag] and made.tolist() == x.tolist()
            made = fh.convert(x, "numpy", order=order)
            assert made.flags[flag] and made.tolist() == x.tolist()
        assert fh.plan(x, "numpy", order="any").verdict == fh.plan(x, "numpy").verdict == "share"


def test_fill_is_for_what_has_no_value_and_changes_nothing_else():
    masked = np.ma.array([1, 2, 3], mask=[False, True, False])
    assert fh.convert(masked, "torch", fill=-9).tolist() == [1, -9, 3] and masked.mask.tolist() == [False, True, False]
    assert fh.copy(masked, "numpy", fill=0, dtype="float32").tolist() == [1.0, 0.0, 3.0]
    planned = fh.plan(np.arange(3), "torch", fill=7)
    assert planned.verdict == "share" and fh.convert(np.arange(3), "torch", fill=7).tolist() == [0, 1, 2]


def test_from_dlpack_is_the_array_apis():
    a = np.arange(3.0)
    shared, made = fh.from_dlpack(a), fh.from_dlpack(a, copy=True)
    a[0] = 9
    assert np.from_dlpack(shared).tolist() == [9.0, 1.0, 2.0] and np.from_dlpack(made).tolist() == [0.0, 1.0, 2.0]
    assert fh.from_dlpack(a, copy=False).data_ptr == a.ctypes.data
    with pytest.raises(TypeError):
        fh.from_dlpack(x=a)


@pytest.mark.parametrize("out", [
    lambda: np.zeros((2, 3), dtype="float32"),
    lambda: np.zeros((3, 2), dtype="int16").T,
    lambda: np.zeros((4, 6))[::2, ::-2],
    lambda: torch.zeros(2, 3, dtype=torch.bfloat16),
    lambda: torch.zeros(3, 2).T,
    lambda: fh.copy(np.zeros((2, 3))),
    lambda: memoryview(bytearray(48)).cast("d", shape=[2, 3]),
], ids=["numpy f4", "numpy i2 F", "numpy strided, reversed", "torch bf16", "torch F", "fh.Tensor", "memoryview"])
@pytest.mark.parametrize("source", ["numpy", "numpy, reversed", "torch", "list"])
def test_copy_into_any_memory_that_is_there(source, out):
    values = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    x = {
        "numpy": np.array(values),
        "numpy, reversed": np.array(values)[::-1, ::-1].copy()[::-1, ::-1],
        "torch": torch.tensor(values),
        "list": values,
    }[source]
    place = out()
    before = sum(row["count"] for row in fh.ledger.stats()["copied"])
    assert fh.copy(x, out=place) is place, "gives back what it was given"
    assert fh.convert(place, "numpy", dtype="float64").tolist() == values
    if source != "list":
        fh.copy(x, out=place)
        assert sum(row["count"] for row in fh.ledger.stats()["copied"]) >= before + 2, "on the ledger like any copy"


def test_copy_into_memory_that_overlaps_its_source():
    a = np.arange(8.0)
    fh.copy(a[:-1], out=a[1:])
    assert a.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    fh.copy(a, out=a[::-1])
    assert a.tolist() == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    fh.copy(a, out=a)
    assert a.tolist() == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0]


REFUSED_OUT = {
    "read-only": (lambda: read_only(np.zeros(3)), {}, "RO01", "read-only"),
    "another shape": (lambda: np.zeros(4), {}, "AR01", r"\[3\] and \[4\]"),
    "elements overlap": (lambda: np.lib.stride_tricks.as_strided(np.zeros(1), (3,), (0,)), {}, "AL02", "overlap"),
    "a list": (lambda: [0.0, 0.0, 0.0], {}, "OB01", "list"),
    "with dtype=": (lambda: np.zeros(3), {"dtype": "float32"}, "AR01", "without"),
    "with to=": (lambda: np.zeros(3), {"to": "torch"}, "AR01", "without"),
    "with order=": (lambda: np.zeros(3), {"order": "C"}, "AR01", "without"),
    "with device=": (lambda: np.zeros(3), {"device": "cpu"}, "AR01", "without"),
    "values that do not fit": (lambda: np.zeros(3, dtype="int8"), {}, "CA02", "first"),
}


@pytest.mark.parametrize("why", REFUSED_OUT)
def test_copy_into_refuses(why):
    make, wishes, code, words = REFUSED_OUT[why]
    place = make()
    x = np.array([1.5, 2.0, 3.0])
    with pytest.raises(fh.BoundaryError, match=words) as refused:
        fh.copy(x, out=place, **wishes)
    assert refused.value.code == code and x.tolist() == [1.5, 2.0, 3.0]
    if code in ("RO01", "AR01"):
        assert not np.asarray(place).any(), "untouched"


def test_copy_into_keeps_the_rules_of_every_copy():
    place = np.zeros(3)
    with fh.policy(max_copy_bytes=8), pytest.raises(fh.BoundaryError) as refused:
        fh.copy(np.ones(3), out=place)
    assert refused.value.code == "PO01" and not place.any()
    with pytest.raises(fh.BoundaryError) as refused:
        fh.copy(torch.ones(3, requires_grad=True), out=place)
    assert refused.value.code == "GR01" and not place.any()
    fh.copy(torch.ones(3, requires_grad=True), out=place, detach=True)
    assert place.all()


BAD_ARGUMENTS = {
    "to": ("abacus", 3, object()),
    "dtype": ("float33", str, object, object(), 7, np.dtype("O"), "datetime64[ns]", [("a", "f4")]),
    "device": ("abacus:0", "cuda:x", "gpu", object(), 3, 3.5, (1,), (99,), ("cpu", 0), "meta"),
    "order": ("Z", "K", ""),
    "on_loss": ("ignore", "Error"),
    "stream": ("main", object(), 1.5),
}


@pytest.mark.parametrize("name, value", [(n, v) for n, values in BAD_ARGUMENTS.items() for v in values], ids=repr)
def test_a_bad_argument_is_named_with_what_it_must_be(name, value):
    for verb in (fh.convert, fh.copy, fh.plan):
        with pytest.raises(fh.BoundaryError, match=rf"{name} is .*; it must ") as refused:
            verb(np.zeros(2), **{name: value})
        assert refused.value.code == "AR01" and refused.value.fixes
        assert "does be" not in str(refused.value) and f"pass {name} so that it " in refused.value.fixes[0]


def test_bad_rules_levels_and_files_are_named_too(tmp_path):
    for call, words in [
        (lambda: fh.policy(readonly="maybe"), "readonly is .*copy, reject or trust"),
        (lambda: fh.policy(speed=1), "speed is .*name one of the rules"),
        (lambda: fh.policy(max_copy_bytes=-1), "max_copy_bytes is .*whole number"),
        (lambda: setattr(fh.ledger, "level", 9), "level is 9"),
        (lambda: setattr(fh.ledger, "level", "loud"), "level is "),
        (lambda: fh.ledger.save(tmp_path / "x.docx"), "path is "),
    ]:
        with pytest.raises(fh.BoundaryError, match=words) as refused:
            call()
        assert refused.value.code == "AR01"
    assert fh.ledger.level == 2 and list(tmp_path.iterdir()) == []


def test_wrong_types_of_flags_are_pythons_own_errors():
    for wishes in ({"detach": "yes"}, {"freeze": None}, {"writable": 1}, {"order": 3}, {"nonsense": 1}):
        with pytest.raises(TypeError):
            fh.convert(np.zeros(2), **wishes)


def test_boundary_error_is_both_classes_and_carries_the_decision():
    assert fh.BoundaryError.__mro__[1:3] == (BufferError, ValueError)
    for kind in (BufferError, ValueError, fh.BoundaryError):
        with pytest.raises(kind) as refused:
            fh.share(np.arange(3.0)[::-1], "torch")
    error = refused.value
    assert error.code == "ST01" and error.decision.verdict == "reject" and not error.decision
    assert [reason.code for reason in error.decision.reasons] == ["ST01"] and "stride -1" in error.decision.reasons[0].text
    assert isinstance(error.fixes, tuple) and all(isinstance(fix, str) for fix in error.fixes)
    lines = str(error).splitlines()
    assert lines[0].startswith("[ST01] share(f64[3] numpy cpu -> torch)") and lines[-1].strip() == "docs/e/ST01.md"
    assert "convert would copy 24 B" in str(error) and f"Do: {error.fixes[0]}" in str(error)
    with pytest.raises(fh.BoundaryError) as again:
        error.decision.run()
    assert again.value.code == "ST01"
    bare = fh.BoundaryError("made by hand")
    assert (bare.code, bare.decision, bare.fixes) == (None, None, None)
