"""Rows A27 to A38: from PyTorch to NumPy, what stands in the way, the patterns of daily work, and the flowchart."""

import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import freehold as fh
from freehold import _freehold
from row_tools import VERBS, address, blocking, codes, copied_bytes, do, ledger_of, on_a_device

# -- A27 to A32: requirements


def test_a27_tensor_to_array_shares():
    """A27: PyTorch to NumPy shares, with the seed's example and the write in the other direction."""
    t = torch.tensor([1.0, 2.0, 3.0])
    decision, arr = do("share", t, "numpy")
    assert (decision.verdict, codes(decision), decision.writable) == ("share", [], True)
    t[0] = 99.0
    assert arr[0] == 99.0 and t.numpy()[0] == 99.0
    arr[2] = -1
    assert t[2] == -1 and address(t) == address(arr)
    assert ledger_of(t) == ("torch", ["numpy"])


def test_a27_the_array_keeps_the_tensors_memory():
    """A27: the array outlives the tensor, and PyTorch frees the memory only when the array goes."""
    t = torch.arange(4.0)
    arr = fh.share(t, "numpy")
    mark = fh.ledger.mark()
    del t
    assert arr.tolist() == [0, 1, 2, 3] and fh.ledger.owner(arr)["owner"]["framework"] == "torch"
    arr[0] = 7
    assert fh.share(arr, "torch")[0] == 7
    del arr
    assert fh.ledger.leaks(since=mark) == []


def test_a28_an_array_needs_host_memory():
    """A28: NumPy takes host memory only: a source on a device is refused (`DV01`), and nothing reads its address."""
    for verb in ("share", "convert"):
        decision = fh.plan(on_a_device(), "numpy", copy=VERBS[verb][1].get("copy"))
        if verb == "share":
            assert decision.verdict == "reject" and codes(decision)[0] == "DV01"
    with pytest.raises(fh.BoundaryError) as error:
        fh.share(on_a_device(), "numpy")
    assert error.value.code == "DV01" and "cuda:0" in str(error.value) and error.value.fixes


@pytest.mark.parametrize("verb", VERBS)
def test_a28_a_meta_tensor_is_not_told_to_move(verb):
    """A28: a meta tensor has no storage: `LY03`, and not the advice to call `.cpu()`, which fails as well."""
    t = torch.ones(2, device="meta")
    with pytest.raises(TypeError, match="cpu"):
        t.numpy()  # today: "use Tensor.cpu() to copy the tensor to host memory first"
    with pytest.raises((NotImplementedError, RuntimeError)):
        t.cpu()
    decision, error = do(verb, t, "numpy")
    assert codes(decision) == ["LY03"] and ".cpu()" not in str(error)


@pytest.mark.parametrize("verb", VERBS)
def test_a29_a_graph_is_never_dropped_silently(verb):
    """A29: a tensor that requires grad is refused (`GR01`) by every verb; the message names both exits, which run."""
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError):
        t.numpy()
    decision, error = do(verb, t, "numpy")
    assert codes(decision)[0] == "GR01" and len(error.fixes) == 2
    shared, copied = (eval(fix, {"fh": fh, "t": t}) for fix in error.fixes)
    assert fh.explain(t, shared).aliases and not shared.flags.writeable
    assert not fh.explain(t, copied).aliases and copied.flags.writeable


def test_a29_without_a_graph_nothing_is_in_the_way():
    """A29: under no_grad, after detach, and for dtypes without gradients the array shares."""
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    with torch.no_grad():
        assert do("share", t * 2, "numpy")[0].verdict == "share"
    assert do("share", t.detach(), "numpy")[0].verdict == "share"
    assert do("share", torch.arange(3), "numpy")[0].verdict == "share"


def test_a30_on_the_host_there_is_no_copy_to_the_host():
    """A30: `.cpu().numpy()` in one call: convert; memory that is on the host already is shared and needs no waiting."""
    t = torch.tensor([1.0, 2.0])
    decision, arr = do("convert", t, "numpy", device="cpu")
    assert decision.verdict == "share" and decision.sync == "none" and decision.device == "cpu"
    arr[0] = 5
    assert t[0] == 5
    assert t.cpu().data_ptr() == t.data_ptr(), "today, too"


def test_a31_a_detached_view_is_read_only():
    """A31: detach=True shares the leaf's memory, read-only by default (`GR02`); today the alias is writable."""
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    today = leaf.detach().numpy()
    assert today.flags.writeable and np.shares_memory(today, leaf.detach().numpy())
    decision, arr = do("convert", leaf, "numpy", detach=True)
    assert (decision.verdict, codes(decision), decision.writable) == ("share", ["GR02"], False)
    assert do("share", leaf, "numpy", detach=True)[0].verdict == "share"
    with pytest.raises(ValueError):
        arr[0] = 100
    with torch.no_grad():
        leaf[1] = -3
    assert arr[1] == -3 and address(arr) == leaf.data_ptr()
    (holder,) = fh.ledger.owner(leaf.detach())["holders"]
    assert {"read_only", "detached"} <= set(holder["flags"]) and holder["reasons"] == ["GR02"]


def test_a31_a_copy_of_a_detached_tensor_may_be_written():
    """A31: who wants to write gets a copy, by `copy` or by writable=True; the leaf and its gradient are safe."""
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (leaf**2).sum()
    for arr in (do("copy", leaf, "numpy", detach=True)[1], do("convert", leaf, "numpy", detach=True, writable=True)[1]):
        arr[:] = 100
    loss.backward()
    assert leaf.tolist() == [1, 2] and leaf.grad.tolist() == [2, 4]


def test_a32_what_is_here_and_what_is_not():
    """A32: `fh.targets()` lists the devices found; asking for an absent one says what there is (`DV02`)."""
    devices = fh.targets()["torch"].devices
    assert devices[0] == "cpu" and (len(devices) > 1) is torch.cuda.is_available()
    if torch.cuda.is_available():
        pytest.skip("what follows is about a machine without a GPU")
    for device in ("cuda", "cuda:0", torch.device("cuda:0"), (2, 0)):
        decision, error = do("convert", np.arange(3.0), "torch", device=device)
        assert codes(decision) == ["DV02"] and not decision
        assert "no cuda" in str(error) and "have cpu" in str(error)
        assert any("cpu" in fix for fix in error.fixes)


# -- A33 to A36: patterns


def test_a33_loading_data_is_one_pass_of_each_array(tmp_path):
    """A33: np.load, then float32 features and int64 labels: one copy each, of the bytes of the result."""
    np.save(tmp_path / "data.npy", np.random.default_rng(0).random((8, 3)))
    np.save(tmp_path / "labels.npy", np.arange(8, dtype="int32"))
    data, labels = np.load(tmp_path / "data.npy"), np.load(tmp_path / "labels.npy")
    before = copied_bytes()
    decision, X = do("copy", data, "torch", dtype="float32")
    assert decision.steps == ("fresh", "cast") and decision.bytes_allocated == 8 * 3 * 4
    _, y = do("copy", labels, "torch", dtype=torch.long)
    assert copied_bytes() - before == 8 * 3 * 4 + 8 * 8
    assert torch.equal(X, torch.tensor(data, dtype=torch.float32))
    assert torch.equal(y, torch.tensor(labels, dtype=torch.long))


def test_a33_there_is_no_float64_temporary():
    """A33: the process never holds more than the source and the float32 result."""
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
            import re
            import freehold as fh, numpy as np, torch
            def peak():
                return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
            fh.copy(np.ones(16), "torch", dtype="float32")
            data = np.ones(1 << 24)[::-1]
            before = peak()
            t = fh.copy(data, "torch", dtype="float32")
            assert t.sum() == 1 << 24
            print(peak() - before)
            """),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    # The source has 128 MiB, the result 64 MiB; a float64 temporary would make it 192.
    assert (60 << 20) < int(ran.stdout) < (100 << 20)


def test_a34_a_training_loop_with_safe_batches_and_its_bytes_on_the_ledger():
    """A34: copy each batch, and the ledger says how many bytes a step costs; house rules keep other copies out."""
    source = np.arange(12, dtype=np.float32).reshape(4, 3)
    steps, kept = [], []
    for row in range(0, 4, 2):
        before = copied_bytes()
        batch = fh.copy(source[row : row + 2], "torch")
        steps.append(copied_bytes() - before)
        source[row : row + 2] = -1
        kept.append(batch)
    assert steps == [24, 24]
    assert torch.cat(kept).tolist() == np.arange(12).reshape(4, 3).tolist(), "the reused buffer changed no batch"
    with fh.policy(copies="error"):
        assert fh.copy(source, "torch") is not None, "a copy by name is allowed"
        assert fh.convert(source, "torch") is not None
        with pytest.raises(fh.BoundaryError) as error:
            fh.convert(source, "torch", dtype="float64")
        assert error.value.code == "PO01" and "96 B" in str(error.value)
    with fh.policy(copies="warn"), pytest.warns(fh.BoundaryWarning, match="96 B copied"):
        fh.convert(source, "torch", dtype="float64")


def test_a35_detach_cpu_numpy_for_plots():
    """A35: `.detach().cpu().numpy()` for imshow in one call, with or without a graph, and without a copy."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for grad in (False, True):
        image = torch.linspace(0, 1, 64).reshape(8, 8).requires_grad_(grad)
        decision, arr = do("convert", image, "numpy", detach=True)
        assert decision.verdict == "share" and decision.writable is not grad
        figure, axes = plt.subplots()
        shown = axes.imshow(arr, cmap="gray")
        figure.canvas.draw()
        assert np.array_equal(shown.get_array(), image.detach().numpy())
        plt.close(figure)
        del shown, axes, figure, arr


def test_a36_mixed_operations_and_the_ledger():
    """A36: zero-copy in, an operation, zero-copy out: two buffers, two shares; the operation itself is PyTorch's."""
    arr = np.array([1, 2, 3, 4, 5], dtype=np.float32)
    mark, before = fh.ledger.mark(), copied_bytes()
    t = fh.share(arr, "torch")
    squared = t**2
    result = fh.share(squared, "numpy")
    assert result.tolist() == [1, 4, 9, 16, 25] and copied_bytes() == before
    opened = fh.ledger.leaks(since=mark)
    assert len({holder["buffer"] for holder in opened}) == 2
    shares = [(h["from"], h["framework"]) for h in opened if h["verdict"] == "share"]
    assert sorted(shares) == [("numpy", "torch"), ("torch", "numpy")]
    assert not fh.explain(arr, result).aliases and fh.explain(squared, result).aliases
    arr[0] = 50
    assert result[0] == 1
    squared[0] = -1
    assert result[0] == -1


# -- A37, A38: the flowchart


def flowchart(source, target):
    """question -> (share, convert, copy), as the flowchart says, and its text."""
    text = _freehold._flowchart(source, target)
    rows = {}
    for line in text.splitlines():
        cells = re.split(r"\s{2,}", line.rstrip())
        if line.rstrip().endswith(("COPY fresh", ")")) and len(cells) >= 4:
            rows[cells[-4].strip(" .")] = cells[-3:]
    return rows, text


def brief(decision):
    """A decision in the words of the flowchart."""
    verdict = decision.verdict.upper()
    if verdict == "SHARE" and not decision.writable:
        verdict += " read-only"
    elif verdict == "COPY":
        verdict += " " + ", ".join(decision.steps)
    reasons = [code for code in codes(decision) if code != "HT01"]
    return verdict + (f" ({reasons[0]})" if reasons else "")


def plain():
    return np.arange(6, dtype="float32").reshape(2, 3)


# question: how to make the source in each framework (None: it cannot be made there), and the wishes
CASES = {
    "does an autograd graph hang on it?": (None, lambda: torch.ones(2, 3).requires_grad_(), {}),
    "and detach=True?": (None, lambda: torch.ones(2, 3).requires_grad_(), {"detach": True}),
    "is another dtype asked for?": (plain, lambda: torch.from_numpy(plain()), {"dtype": "float16"}),
    "are lazy conj/neg bits set?": (None, lambda: torch.tensor([1 + 2j, 3 - 1j]).conj().imag, {}),
    "are the bytes in the other byte order?": (lambda: plain().astype(">f4"), None, {}),
    "is a stride negative?": (lambda: plain()[::-1], None, {}),
    'is order="C" asked of a column-major source?': (
        lambda: np.asfortranarray(plain()),
        lambda: torch.from_numpy(np.asfortranarray(plain())),
        {"order": "C"},
    ),
    "is it read-only?": (lambda: np.frombuffer(bytes(24), dtype="float32").reshape(2, 3), None, {}),
    "do elements overlap (a broadcast view)?": (
        lambda: np.lib.stride_tricks.as_strided(plain(), (2, 3), (0, 4)),
        lambda: torch.ones(3).expand(2, 3),
        {},
    ),
    "none of these": (plain, lambda: torch.from_numpy(plain()), {}),
}


@pytest.mark.parametrize("pair", ["numpy-torch", "torch-numpy", "numpy-freehold", "torch-freehold"])
def test_a37_a38_the_flowchart_says_what_the_calls_do(pair):
    """A37 A38: the flowchart, for every pair, is computed by the decision code: each cell is what the call does."""
    source, target = pair.split("-")
    rows, _ = flowchart(source, target)
    assert set(rows) == set(CASES), "every question has its row"
    asked = 0
    for question, (from_numpy, from_torch, wishes) in CASES.items():
        make = from_numpy if source == "numpy" else from_torch
        if make is None:
            continue
        for verb, cell in zip(VERBS, rows[question], strict=True):
            # A verb without the wish (share takes no dtype) is planned with its rule instead.
            wanted = wishes if verb != "share" else {name: v for name, v in wishes.items() if name == "detach"}
            x, to = make(), None if target == "freehold" else target
            assert brief(fh.plan(x, to, **wishes, **VERBS[verb][1])) == cell, (question, verb)
            do(verb, x, to, **wanted)
            asked += 1
    assert asked >= 18


def test_a37_the_flowchart_offers_safety_sharing_and_best_effort():
    """A37: safety, zero-copy and auto-decide are its three ways, and each of them is a line that runs."""
    _, text = flowchart("numpy", "torch")
    x = np.arange(3.0)
    calls = re.findall(r"-> (fh\.\w+\(x, \"torch\"\))", text)
    results = [eval(call, {"fh": fh, "x": x}) for call in calls]
    assert [call[3:].split("(")[0] for call in calls] == ["copy", "share", "convert"]
    x[0] = 9
    assert [float(t[0]) for t in results] == [0, 9, 9]


def test_a37_explain_prints_the_path_that_was_taken():
    """A37: `Decision.explain()` prints the questions in order, the answer that mattered, and stops where it refused."""
    x = np.arange(3.0)[::-1]
    path = str(fh.plan(x, "torch").explain())
    assert path.startswith("f64[3] numpy cpu")
    assert re.search(r"does the target take the strides\?\s+ST01 .*stride -1", path)
    assert re.search(r"is it on the right device\?\s+nothing in the way", path)
    assert path.splitlines()[-2].startswith("=> copy (layout)") or "=> copy (layout)" in path
    refused = str(fh.plan(torch.ones(2, requires_grad=True), "numpy").explain())
    assert "GR01" in refused and "strides" not in refused and "=> reject" in refused


def test_a38_the_two_branches_back():
    """A38: on the host without a graph: share; else detach, and the device step only where there is a device."""
    t = torch.tensor([1.0, 2.0])
    assert do("share", t, "numpy")[0].verdict == "share"
    g = t.clone().requires_grad_()
    assert blocking(do("convert", g, "numpy")[0])[0] == "GR01"
    decision, arr = do("convert", g, "numpy", detach=True, device="cpu")
    assert decision.verdict == "share" and decision.steps == () and not arr.flags.writeable
