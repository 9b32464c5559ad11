"""The end of a process, with objects of every framework alive in every order, and worker processes of PyTorch's DataLoader:
they end well, say nothing, and give back what was lent.

Rows X13 and X24, hard cases 5 and 27.
"""

import importlib.util

import pytest

from frameworks import NO_SKIP
from producers import assert_runs

# How each framework is imported, and makes four numbers of its own. TensorFlow is imported after Paddle, or Paddle crashes.
FRAMEWORKS = {
    "numpy": ("import numpy", "numpy.arange(4, dtype='f4')"),
    "torch": ("import torch", "torch.arange(4.0)"),
    "jax": ("import jax", "jax.numpy.arange(4.0)"),
    "tensorflow": ("import paddle, tensorflow", "tensorflow.range(4.0)"),
    "paddle": ("import paddle", "paddle.arange(4, dtype='float32')"),
    "mlx": ("import mlx.core", "mlx.core.arange(4.0)"),
    "pyarrow": ("import pyarrow", "pyarrow.array([0, 1, 2, 3], 'float')"),
    "polars": ("import polars", "polars.Series([0, 1, 2, 3], dtype=polars.Float32)"),
    "tvm_ffi": ("import tvm_ffi", "tvm_ffi.from_dlpack(numpy.arange(4, dtype='f4'))"),
    "onnxruntime": ("import onnxruntime", "onnxruntime.OrtValue.ortvalue_from_numpy(numpy.arange(4, dtype='f4'))"),
    "drjit": ("import drjit.scalar", "drjit.scalar.ArrayXf([0, 1, 2, 3])"),
}
NO_TARGET = ("polars", "onnxruntime", "drjit")

# The interpreter empties a module's names in the order in which they came, those with an underscore before the others.
PROGRAM = """if True:
    import itertools, os, sys, warnings
    warnings.simplefilter("ignore")
    stderr = os.dup(2)  # what a framework says while it is imported is its own affair
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    {imports}
    {source}
    os.dup2(stderr, 2)

    def made():
        x = {source}
        f = fh.share(x)
        things = [x, f, fh.share(f, "numpy"), f.__dlpack__(max_version=(1, 3)), fh.convert([1.0, 2.0], {target!r})]
        things.append(fh.convert(x, {target!r}, dtype="float32"))
        return things

    class Ring:
        pass

    for number, order in enumerate(itertools.permutations(range(6), 4)):
        things = made()
        for i in order:
            globals()[("_" if number % 3 == i % 3 else "") + f"n{{number}}_{{i}}"] = things[i]
    ring = Ring()
    ring.ring, ring.things = ring, made()
    sys.modules["kept"] = ring
    sys.kept = made()
    del ring, things
"""


# TensorFlow takes long to import, so it is in one order only.
ORDERS = [(name, first) for name in FRAMEWORKS for first in ("freehold", "framework")]
ORDERS.remove(("tensorflow", "freehold"))


@pytest.mark.parametrize(("name", "first"), ORDERS)
def test_x13_case_5_alive_at_the_end(name, first):
    """X13, case 5: whatever is imported first and whatever goes first, the process ends with 0 and says nothing."""
    for module in {"mlx": ["mlx.core"], "tensorflow": ["tensorflow", "paddle"]}.get(name, [name]):
        if module not in ("numpy", "torch"):
            skip_in_the_test(module)
    imports = ["import numpy", FRAMEWORKS[name][0]]
    imports.insert(0 if first == "freehold" else 2, "import freehold as fh")
    target = "numpy" if name in NO_TARGET else name
    code = PROGRAM.format(imports="; ".join(imports), source=FRAMEWORKS[name][1], target=target)
    assert_runs(code, TF_CPP_MIN_LOG_LEVEL="3", JAX_PLATFORMS="cpu", GLOG_minloglevel="3")


def skip_in_the_test(module):
    if importlib.util.find_spec(module.split(".")[0]) is None and not NO_SKIP:
        pytest.skip(f"{module} is not installed")


ALL = [name for name in FRAMEWORKS if name not in ("tensorflow",)]


def test_x13_case_5_all_of_them_in_one_process():
    """X13, case 5: a chain through every framework, alive at the end."""
    code = "\n".join(
        ["import warnings; warnings.simplefilter('ignore')", "import freehold as fh", *(FRAMEWORKS[name][0] for name in ALL)]
        + [f"{name}_own = {FRAMEWORKS[name][1]}" for name in ALL]
        + [f"{name}_lent = fh.share({name}_own)" for name in ALL]
        + ["chain = [fh.copy([1.0, 2.0], dtype='float32')]"]
        + [f"chain.append(fh.convert(chain[-1], {name!r}))" for name in ALL if name not in NO_TARGET] * 2
    )
    for name in ("jax", "paddle", "mlx.core", "pyarrow", "polars", "tvm_ffi", "onnxruntime", "drjit"):
        skip_in_the_test(name)
    assert_runs(code, JAX_PLATFORMS="cpu", GLOG_minloglevel="3")


# -- workers -------------------------------------------------------------------------------------------------------------------

LOADER = """if True:
    import gc, warnings
    import numpy as np, torch
    import freehold as fh
    warnings.simplefilter("ignore")

    class Lent(torch.utils.data.Dataset):
        '''Samples that are handed over in the worker, from memory of the parent.'''

        def __init__(self, table, kept):
            self.table, self.kept = table, kept

        def __len__(self):
            return len(self.table)

        def __getitem__(self, i):
            if {fork}:  # what the parent holds is not on the child's ledger, and what the child does not on the parent's
                assert fh.ledger.owner(self.kept) is None or i > 1
            row = fh.share(self.table[i], "torch")
            other = fh.convert(self.table[i][::-1], "torch", dtype="float64")
            assert fh.explain(row, self.table[i]).aliases
            return row, other, torch.from_dlpack(fh.share(self.kept)).sum()

    def main():
        table = np.arange(24, dtype="f4").reshape(8, 3)
        kept = fh.{kept}(np.ones(4, "f4"))
        lent = fh.share(table)
        before = fh.ledger.stats()["live"]
        loader = torch.utils.data.DataLoader(Lent(table, kept), batch_size=2, num_workers={workers}, {options})
        for _ in range(2):
            rows, others, sums = zip(*loader)
            assert torch.equal(torch.cat(rows), torch.from_numpy(table)) and float(sum(map(sum, sums))) == 32
            assert torch.cat(others).tolist() == table[:, ::-1].astype("f8").tolist()
        mark = fh.ledger.mark()
        again = fh.share(rows[0], "numpy")  # what a worker made and sent is a tensor like any other here
        assert again.tolist() == table[:2].tolist()
        del again, rows, others, sums, loader
        gc.collect()
        assert not fh.ledger.leaks(since=mark) and fh.ledger.stats()["live"] == before
        lent, kept = None, None
        assert fh.ledger.live() == []
        print("done")
"""
WORKERS = {
    "forked": dict(fork=True, kept="share", workers=2, options="multiprocessing_context='fork'"),
    "forked, and kept": dict(fork=True, kept="copy", workers=2, options="multiprocessing_context='fork', persistent_workers=True"),
    "spawned, with a pickle": dict(fork=False, kept="copy", workers=1, options="multiprocessing_context='spawn', persistent_workers=True"),
}


@pytest.mark.parametrize("how", WORKERS)
def test_x24_workers_of_a_data_loader(how, tmp_path):
    """X24: workers share through Freehold, forked or spawned; the parent's ledger is the parent's and ends empty."""
    text = LOADER.format(**WORKERS[how])
    (tmp_path / "loader.py").write_text("\n".join(line[4:] for line in text.splitlines()[1:]) + "\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import loader; loader.main()"
    assert assert_runs(code).split() == ["done"]
