"""The policy around a call, the engine that its plan names, and the error that comes out of it."""

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from producers import refused

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
