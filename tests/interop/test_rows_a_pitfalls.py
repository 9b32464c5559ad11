"""Rows A39 to A51: the pitfalls, what takes their place, the summary table, and the chapters that it points to."""

import gc
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import freehold as fh
from row_tools import VERBS, address, blocking, codes, copied_bytes, copies_made, do, ledger_of, on_a_device

DOCS = Path(__file__).resolve().parents[2] / "docs"

# -- A39, A40: unexpected mutations


def test_a39_the_pitfall_and_who_could_have_caused_it():
    """A39: a shared array changes under the tensor; the ledger names everyone who can write to the buffer."""
    arr = np.array([1.0, 2.0, 3.0])
    t = fh.share(arr, "torch")
    arr[0] = 0
    assert t[0] == 0
    aliases = fh.ledger.aliases(t)
    assert {alias["holder"]["framework"] for alias in aliases} == {"numpy", "torch"}
    assert all(alias["bytes"] == 24 and "read_only" not in alias["holder"]["flags"] for alias in aliases)


@pytest.mark.parametrize("to", [None, "numpy", "torch"])
def test_a39_freeze_makes_the_source_read_only_while_it_is_lent(to):
    """A39: with freeze=True the source is read-only while it is lent, and as it was after the return."""
    hazards = len(fh.ledger.hazards())
    arr = np.array([1.0, 2.0, 3.0])
    lent = fh.share(arr, to, freeze=True)
    with pytest.raises(ValueError, match="read-only"):
        arr[0] = 0
    assert fh.explain(arr, lent).aliases and np.asarray(lent)[0] == 1
    again = fh.share(arr, to, freeze=True)
    del lent
    gc.collect()
    assert not arr.flags.writeable, "somebody still has it"
    del again
    gc.collect()
    fh.ledger.live()
    assert arr.flags.writeable
    arr[0] = 5
    assert len(fh.ledger.hazards()) == hazards, "nobody wrote"


def test_a39_what_lends_nothing_freezes_nothing():
    """A39: a plan, a refusal and a copy with freeze=True: the array stays writeable."""
    arr = np.array([1.0, 2.0])
    assert fh.plan(arr, "torch", freeze=True).verdict == "share" and arr.flags.writeable
    with pytest.raises(fh.BoundaryError):
        fh.share(np.broadcast_to(arr, (2, 2)), "torch", freeze=True)
    assert arr.flags.writeable
    fh.convert(arr, "torch", dtype="float32", freeze=True)
    assert arr.flags.writeable


def test_a39_a_with_block_is_the_time_of_the_loan():
    """A39: borrow-style: frozen inside the block, writeable after it."""
    arr = np.arange(4.0)
    with fh.share(arr, freeze=True) as view:
        assert not arr.flags.writeable and np.asarray(view)[3] == 3
        assert view.writable, "it is the owner that may not write, not the borrower"
    assert arr.flags.writeable


def test_a39_an_array_that_was_read_only_stays_read_only():
    """A39: giving back restores what was there, and not more."""
    arr = np.arange(4.0)
    arr.flags.writeable = False
    with fh.share(arr, freeze=True):
        pass
    assert not arr.flags.writeable


def al01():
    return [hazard for hazard in fh.ledger.hazards() if hazard["code"] == "AL01"]


def test_a39_the_canary_reports_a_write_while_it_was_lent():
    """A39: what cannot be made read-only is watched by checksum: `AL01` with the buffer and to whom it was lent."""
    t = torch.tensor([1.0, 2.0, 3.0])
    arr = fh.share(t, "numpy", freeze=True)
    assert not arr.flags.writeable, "so it was not the receiver"
    number = fh.ledger.owner(t)["id"]
    before = len(al01())
    t[0] = 0
    del arr
    gc.collect()
    (hazard,) = al01()[before:]
    assert f"buffer #{number}" in hazard["note"] and "changed while lent to numpy" in hazard["note"]
    assert [holder["framework"] for holder in hazard["holders"]] == ["torch", "numpy"]
    with pytest.warns(fh.BoundaryWarning, match=f"AL01: buffer #{number}"):
        fh.share(np.arange(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fh.share(np.arange(2))  # said once


def test_a39_a_view_of_an_array_is_watched():
    """A39: a view cannot be frozen, since its base can still be written through: the canary watches it."""
    arr = np.zeros(6)
    before = len(al01())
    lent = fh.share(arr[1:4], freeze=True)
    arr[2] = 1
    del lent
    assert len(al01()) == before + 1
    with pytest.warns(fh.BoundaryWarning, match="AL01"):
        fh.share(arr)


def test_a39_the_canary_is_silent_where_nobody_wrote():
    """A39: reading, and writing after the return, is no hazard."""
    t = torch.tensor([1.0, 2.0, 3.0])
    before = len(al01())
    arr = fh.share(t, "numpy", freeze=True)
    assert arr.sum() == 6
    del arr
    gc.collect()
    t[0] = 0
    assert len(al01()) == before


def test_a40_the_decision_is_the_document():
    """A40: what was assumed is written down: in the decision's dict, in its repr, and on the ledger."""
    arr = np.arange(6.0).reshape(2, 3)[:, ::-1]
    decision, t = do("convert", arr, "torch", dtype="float32")
    document = decision.to_dict()
    assert document["verdict"] == "copy" and document["steps"] == ["layout", "cast"]
    assert [reason["code"] for reason in document["reasons"]] == codes(decision) == ["CA01", "ST01"]
    assert document["bytes_copied"] == 24 and document["source"] == "f64[2,3] numpy cpu"
    for part in ("copy", "layout", "cast", "24 B", "CA01", "ST01", "f64[2,3] numpy cpu"):
        assert part in repr(decision), part
    record = fh.ledger.owner(t)["owner"]
    assert (record["verdict"], record["reasons"], record["steps"], record["bytes"]) == (
        document["verdict"],
        codes(decision),
        document["steps"],
        document["bytes_copied"],
    )
    import json

    assert json.loads(json.dumps(document)) == document


def test_a40_copy_is_the_other_solution():
    """A40: the seed's solution for the pitfall, in its words."""
    arr = np.array([1.0, 2.0, 3.0])
    t = fh.copy(arr, "torch")
    arr[0] = 0
    assert t.tolist() == [1, 2, 3]


# -- A41 to A45: devices and dtypes


def test_a41_the_device_is_the_sources_unless_another_is_asked_for():
    """A41: `device=None` keeps the device of the source, and the decision says which that is."""
    for to in (None, "numpy", "torch"):
        decision, t = do("convert", np.array([1.0, 2.0]), to)
        assert decision.device == "cpu" and decision.to_dict()["device"] == "cpu"
        assert "numpy cpu" in repr(decision) and re.search(r"-> .*\bcpu\b", repr(decision)), "both sides"
    assert t.device.type == "cpu" == torch.from_numpy(np.zeros(1)).device.type
    device = on_a_device()
    assert fh.plan(device).device == fh.share(device).device == "cuda:0"


def test_a42_moving_is_a_copy_and_never_an_alias():
    """A42: a move to a device breaks sharing: it is never planned as a share, and memory stays where it was."""
    t = torch.tensor([1.0, 2.0])
    for verb, (_, rule) in VERBS.items():
        decision = fh.plan(t, "torch", device="cuda", **({} if verb == "share" else rule))
        assert decision.verdict != "share"
        if not torch.cuda.is_available():
            assert codes(decision) == ["DV02"]
    on_device = on_a_device()
    assert fh.plan(on_device, "torch", device="cpu", copy=False).verdict == "reject"


@pytest.mark.parametrize("verb", VERBS)
def test_a43_no_dtype_is_ever_implied(verb):
    """A43: Python floats are float64 in NumPy, and stay float64: the decision prints it and hints `HT01`."""
    arr = np.array([1.0, 2.0])
    assert torch.from_numpy(arr).dtype is torch.float64
    decision, t = do(verb, arr, "torch")
    assert t.dtype is torch.float64 and decision.dtype == "float64"
    assert "f64[2]" in str(decision) and "f64[2]" in repr(decision)
    (hint,) = decision.hints
    assert hint[0] == "HT01" and "float32" in hint[1] and "dtype=" in hint[1]
    assert blocking(decision) == [] or verb == "copy"


def test_a43_a_list_of_floats_is_float64_for_every_target():
    """A43: the same numbers have the same dtype whoever receives them."""
    assert fh.copy([1.0, 2.0], "numpy").dtype == np.float64
    assert fh.copy([1.0, 2.0], "torch").dtype is torch.float64


def test_a44_the_targets_default_dtype_is_only_a_hint():
    """A44: PyTorch's default is float32; that is known, used in the hint, and changes no result."""
    target = fh.targets()["torch"]
    assert target.default_dtype == "float32" == str(torch.get_default_dtype()).removeprefix("torch.")
    assert torch.tensor([1.0, 2.0]).dtype is torch.float32
    for dtype, hinted in [("float64", True), ("float32", False), ("float16", False), ("int64", False)]:
        decision, t = do("convert", np.zeros(2, dtype=dtype), "torch")
        assert decision.dtype == dtype and ("HT01" in codes(decision)) is hinted and decision.verdict == "share"
    assert "HT01" not in codes(fh.plan(np.zeros(2), "numpy")), "float64 is what NumPy has"


def test_a45_the_dtype_said_out_loud():
    """A45: the solution: an explicit dtype, in the same call; then there is nothing to hint."""
    arr = np.array([1.0, 2.0])
    decision, t = do("convert", arr, "torch", dtype="float32")
    assert t.dtype is torch.float32 and "HT01" not in codes(decision)
    decision, t = do("convert", np.array([1.0, 2.0], dtype=np.float32), "torch", dtype="float32")
    assert decision.verdict == "share"


# -- A46 to A50: the summary


def test_a46_share_or_the_reason_why_not():
    """A46: share is for speed; where it cannot, it says the reason and never copies behind the caller's back."""
    before = copied_bytes()
    assert do("share", np.arange(3, dtype="float32"), "torch")[0].verdict == "share"
    refusals = {
        "ST01": np.arange(3.0)[::-1],
        "RO01": np.frombuffer(bytes(8), dtype="float64"),
        "BO01": np.arange(3, dtype=">f8"),
        "ST03": np.zeros(3, dtype=[("a", "u1"), ("b", "<f4")])["b"],
        "AL02": np.lib.stride_tricks.as_strided(np.zeros(3), (2, 3), (0, 8)),
    }
    for code, x in refusals.items():
        decision, error = do("share", x, "torch")
        assert error.code == code and decision.verdict == "reject"
    assert copied_bytes() == before


def test_a46_the_array_will_not_be_mutated_becomes_checkable():
    """A46: "the array won't be mutated" is prevented by freeze=True, or found by the canary (`AL01`)."""
    arr = np.arange(3.0)
    t = fh.share(arr, "torch", freeze=True)
    with pytest.raises(ValueError):
        arr += 1
    assert t.tolist() == [0, 1, 2]
    view_of_bytes = bytearray(range(8))
    before = len(al01())
    lent = fh.share(view_of_bytes, freeze=True)
    view_of_bytes[0] = 9
    del lent
    gc.collect()
    assert len(al01()) == before + 1
    with pytest.warns(fh.BoundaryWarning, match="AL01"):
        fh.share(arr)


def test_a47_convert_never_raises_where_a_copy_would_do():
    """A47: best effort means: shared, or the cheapest legal copy, and the decision says which."""
    sources = {
        "share": [np.arange(4.0), np.arange(8.0)[::2], np.asfortranarray(np.zeros((2, 2)))],
        "copy": [
            np.arange(4.0)[::-1],
            np.frombuffer(bytes(8), dtype="float64"),
            np.arange(3, dtype=">i4"),
            np.zeros(3, dtype=[("a", "u1"), ("b", "<f4")])["b"],
            np.broadcast_to(np.float64(3), (4,)),
            np.ma.masked_array([1.0, 2.0], mask=[False, False]).data[::-1],
        ],
    }
    for verdict, arrays in sources.items():
        for x in arrays:
            decision, t = do("convert", x, "torch")
            assert decision.verdict == verdict and t.tolist() == x.tolist()
            assert decision.bytes_copied == (0 if verdict == "share" else x.nbytes), "no byte more than needed"


FIXABLE = {
    "ST01": lambda: np.arange(4.0)[::-1],
    "ST03": lambda: np.arange(3).astype([("a", "u1"), ("b", "<f4")])["b"],
    "BO01": lambda: np.arange(4, dtype=">i2"),
    "RO01": lambda: np.frombuffer(b"12345678", dtype="int16"),
    "AL02": lambda: np.broadcast_to(np.arange(3.0), (2, 3)),
    "LZ01": lambda: torch.tensor([1 + 2j, 3 - 1j]).conj(),
    "two at once": lambda: np.arange(4, dtype=">f4")[::-1],
}


@pytest.mark.parametrize("case", FIXABLE)
def test_a48_copy_succeeds_for_every_dense_input(case):
    """A48: copy gives independence for everything that has values, also where torch.tensor raises."""
    for to in (None, "numpy", "torch"):
        x = FIXABLE[case]()
        expected = x.tolist()
        decision, y = do("copy", x, to)
        assert decision.verdict == "copy" and decision.steps[0] == "fresh" and decision.writable
        array = fh.share(y, "numpy")
        assert array.tolist() == expected
        array.flat[0] = 77
        assert x.tolist() == expected


@pytest.mark.parametrize("case", ["ST01", "BO01", "ST03"])
def test_a48_what_torch_does_today(case):
    """A48: torch.tensor raises for negative strides, big-endian data and odd byte strides."""
    with pytest.raises((ValueError, TypeError)):
        torch.tensor(FIXABLE[case]())


WITHOUT_ML_DTYPES = """
import sys
sys.modules["ml_dtypes"] = None  # as if it were not installed: then NumPy has no bfloat16
import freehold as fh, torch
t = torch.ones(2, dtype=torch.bfloat16)
try:
    fh.share(t, "numpy")
except fh.BoundaryError as error:
    print(error.code, fh.plan(t, "numpy").verdict)
    fixed = eval(error.fixes[0])
    print(fixed.tolist(), fixed.dtype)
"""


def test_a49_tensor_to_array_share_or_the_code():
    """A49: on the host without a graph it shares; else `DV01`, `GR01`, `LZ01` or `DT02` says what is in the way."""
    assert do("share", torch.ones(2), "numpy")[0].verdict == "share"
    device = on_a_device()
    assert codes(fh.plan(device, "numpy", copy=False))[0] == "DV01"
    for code, t in [
        ("GR01", torch.ones(2, requires_grad=True)),
        ("LZ01", torch.tensor([1j, 2]).conj()),
        ("LZ01", torch.tensor([1j, 2]).conj().imag),
    ]:
        decision, error = do("share", t, "numpy")
        assert codes(decision)[0] == code and error.fixes
    ran = subprocess.run([sys.executable, "-c", WITHOUT_ML_DTYPES], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["DT02", "reject", "[1.0,", "1.0]", "float32"]


def test_a50_detach_cpu_numpy_is_said_and_not_left_to_folklore():
    """A50: for a tensor with a graph on the host it is a share, and the decision says so; on a device, a move."""
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    today = t.detach().cpu().numpy()
    assert today.__array_interface__["data"][0] == t.data_ptr(), "the seed says copy"
    decision, arr = do("convert", t, "numpy", detach=True, device="cpu")
    assert decision.verdict == "share" and decision.bytes_copied == 0 and address(arr) == t.data_ptr()
    assert ledger_of(t.detach()) == ("torch", ["numpy"])
    made = copies_made()
    decision, copied = do("copy", t, "numpy", detach=True)
    assert decision.verdict == "copy" and copies_made() == made + 1
    copied[0] = 9
    assert t[0] == 1


# -- A51: see also


def test_a51_the_three_chapters_and_what_they_promise():
    """A51: tensor basics, memory layout and strides, dtypes: the book has them, and the seed's table of three ways."""
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    chapters = [line.lower() for line in text.splitlines() if line.startswith("## ")]
    assert len(chapters) == 3
    for chapter, word in zip(chapters, ("tensor", "strides", "dtype"), strict=True):
        assert word in chapter
    assert "concepts.md" in (DOCS / "SUMMARY.md").read_text(encoding="utf-8")
    words = {"buffer", "tensor", "view", "holder", "owner", "capsule", "alias", "shape", "strides", "dtype"}
    assert {word for word in words if not re.search(rf"\b{word}", text, re.IGNORECASE)} == set()
    for verb in ("share", "convert", "copy"):
        assert f"`fh.{verb}`" in text
