"""The arguments of a call, the policy around it, and the error that comes out of it."""

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from producers import refused

# -- arguments -------------------------------------------------------------------------------------------------------------------


def test_targets_by_name_module_and_type():
    a = np.zeros(2, "f4")
    for to in ("torch", torch, torch.Tensor, "tor" + "ch"):
        assert isinstance(fh.share(a, to), torch.Tensor)
    for to in ("numpy", np, np.ndarray):
        assert isinstance(fh.share(fh.share(a), to), np.ndarray)
    for to in (None, "freehold", fh, fh.Tensor):
        assert isinstance(fh.share(a, to), fh.Tensor)
    for to in ("nobody", 3, object()):
        refused("AR01", fh.share, a, to)


@pytest.mark.parametrize(
    "dtype",
    ["float32", "f32", np.float32, np.dtype("f4"), torch.float32, ml_dtypes.finfo(np.float32).dtype],
)
def test_dtypes_of_anybody(dtype):
    assert fh.convert(np.zeros(2), dtype=dtype).dtype == "float32"


def test_more_dtypes():
    a = np.zeros(2, "f4")
    for dtype, name in ((int, "int64"), (float, "float64"), (bool, "bool"), (complex, "complex128")):
        assert fh.convert(a, dtype=dtype, on_loss="allow").dtype == name
    for dtype in (ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), torch.bfloat16, "bfloat16", "bf16"):
        assert fh.convert(a, dtype=dtype).dtype == "bfloat16"
    for dtype in ("float33", str, object, np.dtype("O"), 3, [("a", "f4")]):
        refused("AR01", fh.convert, a, dtype=dtype)


def test_devices_of_anybody():
    a = np.zeros(2)
    for device in ("cpu", "cpu:0", (1, 0), torch.device("cpu"), (1, None)):
        assert fh.convert(a, device=device).device == "cpu"
    for device in ("cuda:7", torch.device("cuda:7"), (2, 7)):
        refused("DV02", fh.convert, a, device=device)
    for device in ("gpu", 3, object(), (1,), ("cpu", 0)):
        with pytest.raises((fh.BoundaryError, IndexError)):
            fh.convert(a, device=device)


def test_misspelt_arguments():
    a = np.zeros(2)
    for wrong in ({"order": "K"}, {"on_loss": "ignore"}, {"stream": "s"}):
        refused("AR01", fh.convert, a, **wrong)
    with pytest.raises(TypeError):
        fh.convert(a, dtypes="float32")


def test_out():
    a = np.arange(6.0).reshape(2, 3)
    into = torch.zeros(2, 3, dtype=torch.float32)
    assert fh.copy(a[:, ::-1], out=into) is into and into.tolist() == [[2, 1, 0], [5, 4, 3]]
    back = np.zeros((3, 2), "i4").T
    fh.copy(into, out=back)
    assert back.tolist() == [[2, 1, 0], [5, 4, 3]]
    view = a[0, 1:]
    fh.copy(a[0, :2], out=view)
    assert a[0].tolist() == [0, 0, 1], "a source that overlaps is copied out first"
    refused("AR01", fh.copy, a, out=np.zeros((3, 2)))
    refused("RO01", fh.copy, a, out=np.broadcast_to(np.zeros(3), (2, 3)))
    refused("OB01", fh.copy, a, out=[1, 2])
    refused("AR01", fh.copy, a, "torch", out=into)
    refused("GR01", fh.copy, torch.ones(2, 3, requires_grad=True), out=a)
    with fh.policy(max_copy_bytes=1):
        refused("PO01", fh.copy, a, out=into)


# -- policy ------------------------------------------------------------------------------------------------------------------------


def test_policy_is_of_this_context():
    import threading

    seen = []
    with fh.policy(copies="error"):
        refused("PO01", fh.convert, np.arange(3.0)[::-1], "torch")
        thread = threading.Thread(target=lambda: seen.append(fh.policy().copies))
        thread.start()
        thread.join()
        with fh.policy(max_copy_bytes=8) as inner:
            assert (inner.copies, inner.max_copy_bytes) == ("error", 8)
        assert fh.policy().max_copy_bytes is None
    assert seen == ["allow"] and fh.policy().copies == "allow"


def test_a_plan_names_the_way_through_both_layouts():
    a = np.zeros((512, 512), "f4")
    for x, to, begins in (
        (a, "float64", "run, f32 -> f64"),
        (a[:, ::2], None, "strided, f32"),
        (a.T, "float16", "tiles "),
        (np.broadcast_to(a[0], (9, 512)), None, "rows, f32"),
        (np.broadcast_to(a[:, :1], (512, 512)), None, "fill, f32"),
        (a[:0], None, "empty, f32"),
    ):
        plan = fh.plan(x, "torch", copy=True, order="C", **({"dtype": to} if to else {}))
        assert plan.engine.startswith(begins), plan.engine
        assert plan.to_dict()["engine"] == plan.engine
    assert fh.plan(a, "torch").engine is None and fh.plan(a[::-1], "torch", copy=False).engine is None


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_saturation_is_a_choice(name):
    x = np.array([1e6, -1e6, np.inf, -np.inf, 465.0, 3.0, np.nan], "f4")
    allowed = fh.convert(x, "numpy", dtype=name)
    assert allowed.tobytes() == x.astype(getattr(ml_dtypes, name)).tobytes()
    largest = float(ml_dtypes.finfo(getattr(ml_dtypes, name)).max)
    saturated = fh.convert(x, "numpy", dtype=name, on_loss="saturate").astype("f4")
    assert saturated[:4].tolist() == [largest, -largest, largest, -largest] and np.isnan(saturated[6])
    assert saturated[5] == 3
    if name == "float8_e4m3fn":
        theirs = torch.from_numpy(x).to(torch.float8_e4m3fn)
        assert fh.convert(x, "torch", dtype=name, on_loss="saturate").view(torch.uint8).tolist()[:6] == theirs.view(
            torch.uint8
        ).tolist()[:6], "PyTorch saturates, infinities too"
    assert fh.copy(np.array([300, -1]), "numpy", dtype="uint8", on_loss="saturate").tolist() == [255, 0]


def test_threads_are_a_rule():
    x = np.arange(1 << 21, dtype="f4")
    for threads in (1, 2, 3):
        with fh.policy(threads=threads) as rules:
            assert rules.threads == fh.policy().threads == threads and f"threads={threads}" in repr(rules)
            assert (np.asarray(fh.copy(x[::-1], dtype="float64")) == x[::-1]).all()
    assert fh.policy().threads is None
    for wrong in (0, -1, "many", 1.5):
        refused("AR01", fh.policy, threads=wrong)


def test_policy_as_a_setter():
    before = fh.policy()
    try:
        fh.policy(readonly="reject")
        a = np.zeros(2)
        a.flags.writeable = False
        refused("RO01", fh.convert, a, "torch")
    finally:
        fh.policy(readonly=before.readonly)
    for wrong in ({"speed": "high"}, {"copies": "never"}, {"max_copy_bytes": "much"}):
        refused("AR01", fh.policy, **wrong)


def test_copies_warn_at_the_callers_line():
    a = np.arange(3.0)[::-1]
    with fh.policy(copies="warn"):
        with pytest.warns(fh.BoundaryWarning, match="24 B copied .layout.: ST01") as caught:
            fh.convert(a, "torch")
        assert caught[0].filename == __file__
        fh.copy(a, "torch")
        fh.convert(a[::-1], "torch")
    assert len(caught) == 1


# -- errors ------------------------------------------------------------------------------------------------------------------------


def test_an_error_carries_its_decision():
    a = np.zeros(3)
    a.flags.writeable = False
    kept = fh.share(a)
    with pytest.raises(fh.BoundaryError) as refused:
        fh.share(a, "torch")
    error = refused.value
    assert error.code == "RO01" and error.decision.codes == ("RO01",) and not error.decision
    assert error.decision.reasons[0].code == "RO01" and error.decision.to_dict()["verdict"] == "reject"
    text = str(error)
    assert "numpy.ndarray (flags.writeable=False), buffer #" in text and "also held by: numpy" in text
    assert isinstance(error.fixes, tuple) and 'fh.copy(x, "torch")' in error.fixes[0]
    del kept
    with pytest.raises(fh.BoundaryError) as again:
        error.decision.run()
    assert again.value.code == "RO01"
