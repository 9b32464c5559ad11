"""Rows B15 to B26 and B30: the gotchas. What the frameworks do today is asserted beside what Freehold does."""

import re
import threading

import numpy as np
import pytest
import torch

import freehold as fh
from row_tools import address, blocking, codes, do, ledger_of


def leaf():
    return torch.tensor([1.0, 2.0], requires_grad=True)


def test_b15_zero_copy_is_for_plain_host_memory_only():
    """B15: "the conversion is zero-copy": true for plain dtypes and strides on the host; the plan says where not."""
    plain = np.arange(6.0).reshape(2, 3)
    readonly = plain.copy()
    readonly.flags.writeable = False
    conditions = {
        "plain": (plain, [], "share"),
        "strided": (plain[:, ::2], [], "share"),
        "fortran": (np.asfortranarray(plain), [], "share"),
        "reversed": (plain[:, ::-1], ["ST01"], "copy"),
        "big-endian": (plain.astype(">f8"), ["BO01"], "copy"),
        "read-only": (readonly, ["RO01"], "copy"),
        "broadcast": (np.broadcast_to(plain[0], (4, 3)), ["RO01"], "copy"),
        "a field of a packed record": (np.zeros(3, dtype=[("a", "u1"), ("b", "f8")])["b"], ["ST03"], "copy"),
    }
    for name, (x, expected, verdict) in conditions.items():
        planned, t = do("convert", x, "torch")
        assert (blocking(planned), planned.verdict) == (expected, verdict), name
        assert t.tolist() == x.tolist(), name
        if verdict == "copy":
            assert do("share", x, "torch")[1].code == expected[0], name


def test_b16_a_device_that_is_not_here_is_named():
    """B16: CUDA tensors and `.numpy()`: numpy has no CUDA memory; a device that is absent is refused with the list."""
    if torch.cuda.is_available():
        pytest.skip("this is the half that is checked without a GPU")
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(2).to("cuda")
    planned, refused = do("convert", torch.ones(2), "numpy", device="cuda")
    assert refused.code == "DV02" and re.search(r"no cuda:0 here; have cpu\.$", str(refused), re.MULTILINE)
    assert refused.fixes[0].startswith('fh.convert(t, "numpy", device="cpu")')


def test_b17_detached_views_are_read_only_and_copy_is_clone():
    """B17: a write through `detach()` changes the leaf; our detached view refuses it, and `copy` is the clone."""
    t = leaf()
    t.detach()[0] = 50
    assert t[0].item() == 50, "what PyTorch does today"
    planned, view = do("convert", t, "numpy", detach=True)
    assert (planned.verdict, codes(planned), planned.writable) == ("share", ["GR02"], False)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    planned, clone = do("copy", t, "numpy", detach=True)
    assert planned.verdict == "copy" and list(planned.steps) == ["fresh"] and clone.flags.writeable
    clone[0] = 1
    assert t[0].item() == 50 and view[0] == 50


def test_b18_mixed_floats_narrow_when_asked_integers_never_silently():
    """B18: `.float()` before model usage: dtype= narrows floats as asked; integers only if every value fits."""
    planned, t = do("convert", np.array([0.1, 1e300, np.nan]), "torch", dtype="float32")
    assert codes(planned) == ["CA01"] and list(planned.steps) == ["cast"] and planned.bytes_copied == 12
    assert t[0].item() == np.float32(0.1) and t[1].item() == float("inf") and torch.isnan(t[2])
    before = fh.ledger.stats()["handovers"]
    for x, dtype in ((np.array([1, 2**40 + 5]), "int32"), (np.array([1.0, 1.5]), "int64"), (np.array([-1]), "uint8")):
        with pytest.raises(fh.BoundaryError, match="1 of") as lost:
            fh.convert(x, "torch", dtype=dtype)
        assert lost.value.code == "CA02"
        allowed = fh.convert(x, "torch", dtype=dtype, on_loss="allow")
        assert allowed.shape == x.shape
    assert fh.convert(np.array([1, 2**40 + 5]), "torch", dtype="int32", on_loss="allow")[1] == 2**31 - 1, "saturates"
    assert fh.ledger.stats()["handovers"] != before
    # Mixed types meet only where somebody says so: nothing is promoted on the way.
    assert fh.convert(np.array([1.0], dtype="float16"), "torch").dtype == torch.float16


def test_b19_one_writer_when_the_other_side_asks_to_read():
    """B19: in-place operations affect both; with writable=False one side reads and one writes, and copy parts them."""
    t = torch.zeros(3)
    both = fh.share(t, "numpy")
    t += 1
    both += 1
    assert t.tolist() == both.tolist() == [2.0, 2.0, 2.0], "two writers, as asked"
    del both
    planned, reader = do("convert", t, "numpy", writable=False)
    assert planned.verdict == "share" and not planned.writable and not reader.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        reader += 1
    with pytest.raises(ValueError):
        reader.flags.writeable = True
    t += 1
    assert reader.tolist() == [3.0, 3.0, 3.0]
    holders = fh.ledger.owner(t)["holders"]
    assert ["read_only" in h["flags"] for h in holders] == [True], "one writer: the owner"
    apart = fh.copy(t, "numpy")
    t += 1
    assert apart.tolist() == [3.0, 3.0, 3.0] and not fh.explain(t, apart).aliases


def test_b20_inside_a_training_loop_copies_are_errors_and_counted():
    """B20: not in training loops: a policy refuses what costs, and the ledger says what was paid, where."""
    batches = [np.full((2, 2), i, dtype=np.float32) for i in range(3)]
    def copies_made():
        return sum(h["count"] for h in fh.ledger.stats()["handovers"] if h["verdict"] == "copy")

    made = copies_made()
    with fh.policy(copies="error", sync="error") as rules:
        assert rules.sync == "error"
        for batch in batches:
            assert fh.convert(batch, "torch").sum().item() == batch.sum()
        with pytest.raises(fh.BoundaryError) as refused:
            fh.convert(batches[0].astype(np.float64), "torch", dtype="float32")
        assert refused.value.code == "PO01"
    assert copies_made() == made, "the loop copied nothing"
    level = fh.ledger.level
    fh.ledger.level = 3
    try:
        for batch in batches:
            fh.copy(batch, "torch")
    finally:
        fh.ledger.level = level
    sites = {copy["site"] for copy in sorted(fh.ledger.copies(), key=lambda copy: copy["at_ns"])[-len(batches) :]}
    assert len(sites) == 1, "one line of code, one site"
    assert re.fullmatch(r".*test_rows_b_gotchas\.py:\d+ in test_\w+", sites.pop())


def test_b20_a_warning_names_the_line_that_copies():
    """B20: copies="warn" warns at the line of the caller."""
    with fh.policy(copies="warn"), pytest.warns(fh.BoundaryWarning, match="16 B copied.*cast.*CA01") as caught:
        fh.convert(np.ones(4), "torch", dtype="float32")
    assert caught[0].filename == __file__


def test_b21_numpy_on_a_graph_raises_and_the_message_says_what_detach_costs():
    """B21: "`.numpy()` drops the computation graph": it raises; the graph is lost only after detach. GR01 says both."""
    t = leaf()
    with pytest.raises(RuntimeError, match="requires grad"):
        t.numpy()
    for verb in ("share", "convert", "copy"):
        planned, refused = do(verb, t, "numpy")
        assert refused.code == "GR01" and planned.verdict == "reject"
        text = str(refused)
        assert "cannot carry the autograd graph" in text and "would drop the graph" in text
        assert any("detach=True" in fix for fix in refused.fixes)
    (t * 2).sum().backward()
    assert t.grad.tolist() == [2.0, 2.0], "a refusal leaves the graph as it was"


def test_b22_a_budget_of_no_bytes_refuses_with_the_bytes():
    """B22: not on GPU batches: policy(max_copy_bytes=0, devices=...) refuses, and says how many bytes it would be."""
    a = np.ones((8, 8))
    with fh.policy(max_copy_bytes=0, devices="cpu") as rules:
        assert rules.max_copy_bytes == 0 and rules.devices == ("cpu",)
        planned, refused = do("convert", a, "torch", dtype="float32")
        assert refused.code == "PO01" and "256 B" in str(refused) and "max_copy_bytes" in str(refused)
        planned, shared = do("convert", a, "torch")
        assert planned.verdict == "share"
    with fh.policy(devices="cuda"):
        planned, refused = do("share", a, "torch")
        assert refused.code == "PO01" and "devices" in str(refused) and "cpu" in str(refused)
        with pytest.raises(fh.BoundaryError) as refused:
            fh.copy(a, out=np.zeros((8, 8)))
        assert refused.value.code == "PO01"
    assert fh.plan(a, "torch").verdict == "share"
    with pytest.raises(fh.BoundaryError) as wrong:
        fh.policy(devices="abacus")
    assert wrong.value.code == "AR01"


def test_b24_predictions_out_and_a_reused_batch_buffer():
    """B24: `.detach().cpu().numpy()` shares on the host; a batch buffer that is reused must be copied."""
    model = torch.nn.Linear(2, 1)
    preds = model(torch.ones(3, 2))
    today = preds.detach().cpu().numpy()
    assert address(today) == preds.data_ptr() and today.flags.writeable, "shares, and writable, today"
    planned, ours = do("convert", preds, "numpy", detach=True)
    assert planned.verdict == "share" and address(ours) == preds.data_ptr() and not ours.flags.writeable
    planned, kept = do("copy", preds, "numpy", detach=True)
    with torch.no_grad():
        preds.fill_(-1)
    assert ours.tolist() == [[-1.0]] * 3 and kept.tolist() != ours.tolist()


def test_b25_a_dtype_that_is_there_already_costs_nothing():
    """B25: `arr.astype(np.float32)` copies even when it is float32 already; convert(dtype=) then shares."""
    a = np.ones(4, dtype=np.float32)
    assert not np.shares_memory(a.astype(np.float32), a), "NumPy's default today"
    planned, t = do("convert", a, "torch", dtype="float32")
    assert planned.verdict == "share" and planned.bytes_copied == 0
    t[0] = 3
    assert a[0] == 3
    planned, t = do("convert", a.astype(np.float64), "torch", dtype="float32")
    assert planned.verdict == "copy" and list(planned.steps) == ["cast"] and t.dtype == torch.float32


def test_b26_order_c_and_the_card_that_says_which_dimension_broke():
    """B26: `permute(1, 0).contiguous()` against weird shape bugs: order="C"; explain shows strides and what broke."""
    t = torch.arange(6.0).reshape(2, 3).permute(1, 0)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        t.view(6)
    planned, c = do("convert", t, "torch", order="C")
    assert codes(planned) == ["LY01"] and list(planned.steps) == ["layout"] and planned.bytes_copied == 24
    assert planned.layout == "C" and c.view(6).tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    card = fh.explain(t)
    assert "(1, 3) elements" in card and "(4, 12) bytes" in card
    assert "dim 1 has stride 3, C wants 1" in card
    planned, same = do("convert", t.T, "torch", order="C")
    assert planned.verdict == "share", "already in order"
    assert do("share", t, "torch")[0].layout == "F", "as it lies: column-major"
    # A dimension of one element has no say in what is contiguous.
    assert fh.plan(torch.zeros(3, 1, 2)[:, ::1].permute(1, 0, 2), "torch", order="C").verdict == "share"


def test_b30_a_write_through_a_detached_view_corrupts_the_gradient():
    """B30: a write through `.detach().numpy()` silently corrupts backward: 200 for 2. Ours is read-only (GR02)."""
    x = torch.tensor([1.0], requires_grad=True)
    y = (x * x).sum()
    x.detach().cpu().numpy()[0] = 100.0
    y.backward()
    assert x.grad.item() == 200.0, "what PyTorch does today; the right answer is 2"

    x = torch.tensor([1.0], requires_grad=True)
    y = (x * x).sum()
    view = fh.convert(x, "numpy", detach=True)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 100.0
    y.backward()
    assert x.grad.item() == 2.0


def test_b30_trust_shares_it_writable_and_records_the_hazard():
    """B30: under readonly="trust" the writable alias is handed out, and the ledger keeps the hazard."""
    x = torch.tensor([1.0], requires_grad=True)
    planned, refused = do("share", x, "numpy", detach=True, writable=True)
    assert refused.code == "GR02" and "backward" in str(refused)
    seen = len(fh.ledger.hazards())
    with fh.policy(readonly="trust"):
        planned, view = do("share", x, "numpy", detach=True, writable=True)
    assert planned.writable and view.flags.writeable and planned.to_dict()["trusted"]
    view[0] = 7
    assert x[0].item() == 7
    hazard = fh.ledger.hazards()[-1]
    assert len(fh.ledger.hazards()) == seen + 1 and hazard["code"] == "GR02" and "torch" in hazard["note"]


def test_b30_the_policy_of_one_thread_is_not_another_ones():
    """B30: trusting is a rule of the block that says so, not of the process."""
    t, seen = leaf(), []
    with fh.policy(readonly="trust"):
        other = threading.Thread(target=lambda: seen.append(fh.plan(t, "numpy", detach=True, writable=True, copy=False)))
        other.start()
        other.join()
        assert fh.plan(t, "numpy", detach=True, writable=True, copy=False).verdict == "share"
    assert seen[0].verdict == "reject" and ledger_of(t) is None
