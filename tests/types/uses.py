"""What type checkers must infer, for every verb and target, and what they must refuse. Checked, never run.

A line that ends in `# refused` must be an error: test_types.py looks for exactly those.
"""

from typing import Any, Literal, Optional, Union

import cupy
import jax
import mlx.core
import numpy as np
import paddle
import pyarrow
import tensorflow
import torch
import tvm_ffi
from typing_extensions import assert_type

import freehold as fh
from freehold._targets import Target, Targets
from freehold._text import Overlap, Reason, Text

x = np.zeros(3)

assert_type(fh.share(x), fh.Tensor)
assert_type(fh.share(x, None), fh.Tensor)
assert_type(fh.share(x, "numpy"), np.ndarray[Any, Any])
assert_type(fh.share(x, "torch"), torch.Tensor)
assert_type(fh.share(x, "jax"), jax.Array)
assert_type(fh.share(x, "tensorflow"), tensorflow.Tensor)
assert_type(fh.share(x, "paddle"), paddle.Tensor)
assert_type(fh.share(x, "mlx"), mlx.core.array)
assert_type(fh.share(x, "pyarrow"), Union[pyarrow.Array, pyarrow.Tensor])
assert_type(fh.share(x, "tvm_ffi"), tvm_ffi.Tensor)
assert_type(fh.share(x, "cupy"), cupy.ndarray)
assert_type(fh.share(x, torch.Tensor), torch.Tensor)
assert_type(fh.share(x, jax), Any)

assert_type(fh.convert(x), fh.Tensor)
assert_type(fh.convert(x, None), fh.Tensor)
assert_type(fh.convert(x, "numpy"), np.ndarray[Any, Any])
assert_type(fh.convert(x, "torch"), torch.Tensor)
assert_type(fh.convert(x, "jax"), jax.Array)
assert_type(fh.convert(x, "tensorflow"), tensorflow.Tensor)
assert_type(fh.convert(x, "paddle"), paddle.Tensor)
assert_type(fh.convert(x, "mlx"), mlx.core.array)
assert_type(fh.convert(x, "pyarrow"), Union[pyarrow.Array, pyarrow.Tensor])
assert_type(fh.convert(x, "tvm_ffi"), tvm_ffi.Tensor)
assert_type(fh.convert(x, "cupy"), cupy.ndarray)
assert_type(fh.convert(x, torch.Tensor), torch.Tensor)
assert_type(fh.convert(x, jax), Any)

assert_type(fh.copy(x), fh.Tensor)
assert_type(fh.copy(x, None), fh.Tensor)
assert_type(fh.copy(x, "numpy"), np.ndarray[Any, Any])
assert_type(fh.copy(x, "torch"), torch.Tensor)
assert_type(fh.copy(x, "jax"), jax.Array)
assert_type(fh.copy(x, "tensorflow"), tensorflow.Tensor)
assert_type(fh.copy(x, "paddle"), paddle.Tensor)
assert_type(fh.copy(x, "mlx"), mlx.core.array)
assert_type(fh.copy(x, "pyarrow"), Union[pyarrow.Array, pyarrow.Tensor])
assert_type(fh.copy(x, "tvm_ffi"), tvm_ffi.Tensor)
assert_type(fh.copy(x, "cupy"), cupy.ndarray)
assert_type(fh.copy(x, torch.Tensor), torch.Tensor)
assert_type(fh.copy(x, jax), Any)

name: str = input()
assert_type(fh.convert(x, name), Any)

assert_type(fh.share(x, "torch", writable=None, freeze=True, stream=None, detach=True), torch.Tensor)
assert_type(
    fh.convert(
        x,
        "numpy",
        dtype=np.float32,
        device="cpu",
        order="C",
        writable=True,
        freeze=False,
        stream=0,
        detach=True,
        on_loss="saturate",
        fill=0,
        copy=False,
    ),
    np.ndarray[Any, Any],
)
assert_type(
    fh.copy(x, "jax", dtype="float32", device="cpu", order="F", stream=None, detach=True, on_loss="allow", fill=0.0), jax.Array
)
into = torch.Tensor()
assert_type(fh.copy(x, out=into), torch.Tensor)
assert_type(fh.copy(x, out=into, on_loss="allow"), torch.Tensor)

assert_type(fh.from_dlpack(x), fh.Tensor)
assert_type(fh.from_dlpack(x, device="cpu", copy=None), fh.Tensor)

decision = fh.plan(x, "torch", dtype="float16", copy=True)
assert_type(decision, fh.Decision)
assert_type(decision.verdict, Literal["share", "copy", "reject"])
assert_type(decision.reasons, list[Reason])
assert_type(decision.reasons[0].code, str)
assert_type(decision.codes, tuple[str, ...])
assert_type(decision.bytes_copied, int)
assert_type(decision.engine, Optional[str])
assert_type(decision.layout, Literal["C", "F", "strided"])
assert_type(decision.explain(), Text)
assert_type(decision.to_dict(), dict[str, Any])

assert_type(fh.explain(x), Text)
assert_type(fh.explain(x, x), Overlap)
assert_type(fh.explain(x, x).aliases, Optional[bool])
assert_type(fh.explain(x, x).bytes, Optional[int])

with fh.share(x) as view:
    assert_type(view, fh.Tensor)
    assert_type(view.shape, tuple[int, ...])
    assert_type(view.dtype, str)
    assert_type(np.asarray(view).shape, tuple[Any, ...])
    memoryview(view)

with fh.policy(readonly="trust", copies="warn", max_copy_bytes=None, devices=["cpu"], threads=2) as rules:
    assert_type(rules.readonly, Literal["copy", "reject", "trust"])
    assert_type(rules.max_copy_bytes, Optional[int])

assert_type(fh.ledger.level, int)
fh.ledger.level = 3
mark = fh.ledger.mark()
assert_type(fh.ledger.leaks(since=mark), list[dict[str, Any]])
assert_type(fh.ledger.owner(x), Optional[dict[str, Any]])
assert_type(fh.ledger.report(stable=True), Text)

assert_type(fh.targets(), Targets)
assert_type(fh.targets()["torch"], Target)
assert_type(fh.targets()["torch"].dtypes, tuple[str, ...])
assert_type(fh.get_include(), str)
assert_type(fh.get_cmake_dir(), str)

try:
    pass
except fh.BoundaryError as error:
    assert_type(error.code, str)
    assert_type(error.decision, Optional[fh.Decision])
    assert_type(error.fixes, tuple[str, ...])
    buffer_error: BufferError = error
    value_error: ValueError = error

fh.share(x, "torch", dtype="float32")  # refused
fh.share(x, 3)  # refused
fh.convert(x, "torch", order="K")  # refused
fh.convert(x, "torch", on_loss="ignore")  # refused
fh.copy(x, "torch", copy=True)  # refused
fh.copy(x, out=into, dtype="float32")  # refused
fh.plan(x, "torch", ordr="C")  # refused
fh.policy(copies="forbid")  # refused
fh.policy(copy="warn")  # refused
fh.plan(x).verdict = "share"  # refused
fh.share(x).shape = (3,)  # refused
fh.ledger.leaks()  # refused
fh.BoundaryError.code = 3  # refused
