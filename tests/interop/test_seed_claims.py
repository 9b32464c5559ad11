"""Five claims of the tutorials that Freehold was built after are false today. Each is shown here beside what Freehold
does, which is what they promise: where the first half of a test fails, a framework has changed.
"""

import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch

import freehold as fh
from row_tools import codes, do


def quietly(call):
    """PyTorch warns once a process about read-only memory, so whether it warns here is not up to the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def read_only():
    x = np.array([1.0, 2.0, 3.0])
    x.setflags(write=False)
    return x


def test_a07_a09_from_numpy_requires_a_writable_array():
    """A07 A09: "from_numpy requires: writable array (not read-only). Read-only array fails." """
    # Today: it shares, and a write through the tensor changes the array that nobody may write.
    ro = read_only()
    t = quietly(lambda: torch.from_numpy(ro))
    t[0] = 100
    assert ro.tolist() == [100, 2, 3]
    # Freehold: refused, as promised; as a read-only view where there is such a thing; and the array is as it was.
    ro = read_only()
    decision, error = do("share", ro, "torch")
    assert error.code == "RO01" and codes(decision)[0] == "RO01" and isinstance(error, (BufferError, ValueError))
    with pytest.raises(fh.BoundaryError, match="RO01"):
        fh.share(ro, writable=True)
    decision, view = do("share", ro, "numpy")
    with pytest.raises(ValueError):
        view[0] = 100
    assert ro.tolist() == [1, 2, 3]


def test_a07_torch_warns_once_a_process_and_freehold_refuses_every_time():
    """A07: today's only sign of it is one UserWarning a process, which hides the second bug."""
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
            import warnings
            import freehold as fh, numpy as np, torch
            warnings.simplefilter("always")
            refused = 0
            with warnings.catch_warnings(record=True) as seen:
                for _ in range(3):
                    ro = np.arange(3.0)
                    ro.setflags(write=False)
                    torch.from_numpy(ro)
                    try:
                        fh.share(ro, "torch")
                    except fh.BoundaryError:
                        refused += 1
            print(len(seen), refused)
            """),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["1", "3"]


def test_a13_as_tensor_copies_read_only_arrays():
    """A13: "When as_tensor() copies: read-only arrays." """
    # Today: it shares.
    ro = read_only()
    t = quietly(lambda: torch.as_tensor(ro))
    assert t.data_ptr() == ro.__array_interface__["data"][0]
    t[0] = 100
    assert ro[0] == 100
    # Freehold: convert copies, once, and says why.
    ro = read_only()
    decision, t = do("convert", ro, "torch")
    assert decision.verdict == "copy" and decision.steps == ("fresh",) and "RO01" in codes(decision)
    assert t.data_ptr() != ro.__array_interface__["data"][0]
    t[0] = 100
    assert ro.tolist() == [1, 2, 3] and t.tolist() == [100, 2, 3]


def test_a14_as_tensor_copies_negative_strides():
    """A14: "When as_tensor() copies: negative strides (e.g. arr[::-1])." """
    x = np.arange(4.0)[::-1]
    # Today: it raises, and so do the functions that promise a copy.
    for call in (torch.as_tensor, torch.from_numpy, torch.tensor, lambda a: torch.asarray(a, copy=True)):
        with pytest.raises(ValueError, match="negative"):
            call(x)
    # Freehold: convert and copy copy.
    for verb in ("convert", "copy"):
        decision, t = do(verb, x, "torch")
        assert decision.verdict == "copy" and "layout" in decision.steps and "ST01" in codes(decision)
        assert t.tolist() == [3, 2, 1, 0]
        t[0] = 50
        assert x.tolist() == [3, 2, 1, 0]


def test_a50_detach_cpu_numpy_copies():
    """A50: "tensor.detach().cpu().numpy() | Copy | GPU tensor or has grad". """
    # Today: on the host it shares, and the alias is writable: the leaf changes under the graph.
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    today = t.detach().cpu().numpy()
    today[0] = 100
    assert t.tolist() == [100, 2]
    # Freehold: `copy` copies; `convert` says that it shares, and the array is read-only.
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    decision, copied = do("copy", t, "numpy", detach=True)
    assert decision.verdict == "copy"
    copied[0] = 100
    decision, view = do("convert", t, "numpy", detach=True)
    assert decision.verdict == "share" and codes(decision) == ["GR02"] and not decision.writable
    with pytest.raises(ValueError):
        view[0] = 100
    assert t.tolist() == [1, 2]


def test_b21_numpy_drops_the_computation_graph():
    """B21: "Not on tensors that require gradients: .numpy() drops the computation graph." """
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    # Today: it raises. The graph is lost after detach() only, and then a write corrupts the gradient without a word.
    with pytest.raises(RuntimeError, match="requires grad"):
        t.numpy()
    loss = (t**2).sum()
    t.detach().numpy()[0] = 100
    loss.backward()
    assert t.grad[0] == 200, "the gradient at 1 is 2"
    # Freehold: no verb drops it in silence, the message names both exits, and neither corrupts a gradient.
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (t**2).sum()
    for verb in ("share", "convert", "copy"):
        decision, error = do(verb, t, "numpy")
        assert error.code == "GR01" and "graph" in str(error) and "detach=True" in "".join(error.fixes)
    shared, copied = (eval(fix, {"fh": fh, "t": t}) for fix in error.fixes)
    with pytest.raises(ValueError):
        shared[0] = 100
    copied[0] = 100
    loss.backward()
    assert t.grad.tolist() == [2, 4]
    assert do("share", t, "torch")[1].requires_grad, "PyTorch to PyTorch keeps the graph"
