"""The frameworks besides NumPy and PyTorch: how each makes a tensor, where it has it, and what it reads there.

Every fact here is asked of the framework itself, so that the tests compare Freehold's word with it.
"""

import importlib
import importlib.util
import os

import numpy as np
import pytest

import freehold as fh
from capsules import DTYPES, opened
from producers import over_bytes

# What `make test` installs. With a skip not allowed, a framework that is missing fails its tests instead.
REQUIRED = ("jax", "tensorflow", "paddle", "mlx.core", "pyarrow", "polars", "tvm_ffi", "onnxruntime", "PIL", "drjit")
NO_SKIP = os.environ.get("CI") == "true" or bool(os.environ.get("FREEHOLD_NO_SKIP"))

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def framework(name):
    """A framework's module, for a test file: skips the file where it is not installed and that is allowed."""
    assert name in REQUIRED
    if importlib.util.find_spec(name.split(".")[0]) is None:
        if NO_SKIP:
            raise ModuleNotFoundError(f"{name} is not installed; scripts/setup.sh test installs it")
        pytest.skip(f"{name} is not installed", allow_module_level=True)
    if name == "tensorflow" and importlib.util.find_spec("paddle") is not None:
        importlib.import_module("paddle")  # Paddle 3.3.1 crashes (SIGSEGV) when it is imported after TensorFlow 2.21.
    return importlib.import_module(name)


def aligned(array, to=64):
    """The same values in C order at an address that is a multiple of `to`: NumPy promises 16."""
    array = np.asarray(array)
    memory = np.zeros(array.nbytes + 2 * to, "u1")
    start = -memory.ctypes.data % to
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def misaligned(array, by=4):
    """The same values in C order, `by` bytes past a multiple of 64."""
    memory = aligned(np.zeros(array.nbytes + by, "u1"))
    copy = memory[by:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def own_way(take, shape=(4,), dtype="float32", **fields):
    """What a framework makes of a legacy or versioned producer by itself: ("shares" | "copies" | "refuses", its dtype)."""
    memory = aligned(np.zeros(2048, "u1"))
    producer = over_bytes(shape, dtype, memory=memory, **fields)
    try:
        y = take(producer)
    except Exception:  # each has its own; pyarrow even loses its own to a deleter in Python, and gives SystemError
        return "refuses", None
    tensor = producer.exported[-1].struct.tensor
    return ("shares" if pointer(y) == tensor.data + tensor.byte_offset else "copies"), dtype_of(y)


# -- where a tensor is, as its framework says ---------------------------------------------------------------------------


def _of_capsule(x):
    capsule = x.__dlpack__()
    tensor = opened(capsule).tensor
    return (tensor.data or 0) + tensor.byte_offset


def pointer(x):
    """Address of the first element, not asked of Freehold; 0 where there is no element."""
    kind = type(x).__module__.split(".")[0]
    if kind == "numpy":
        return x.__array_interface__["data"][0]
    if kind in ("torch", "paddle"):
        return x.data_ptr()
    if kind in ("jax", "jaxlib"):
        return x.unsafe_buffer_pointer()
    if kind == "pyarrow":
        if hasattr(x, "buffers"):
            return x.buffers()[1].address + x.offset * np.dtype(x.type.to_pandas_dtype()).itemsize
        return np.asarray(x.to_numpy()).__array_interface__["data"][0]
    if kind == "freehold":
        return x.data_ptr
    return _of_capsule(x)


def shape_of(x):
    """The shape as a tuple of integers."""
    if type(x).__module__.startswith("pyarrow") and hasattr(x, "buffers"):
        return (len(x),)
    return tuple(int(n) for n in x.shape)


def dtype_of(x):
    """The dtype by its plain name."""
    if type(x).__module__.startswith("tvm_ffi"):  # its own name for a complex dtype is an error
        capsule = x.__dlpack__()
        tensor = opened(capsule).tensor
        return next(name for name, numbers in DTYPES.items() if numbers == (tensor.code, tensor.bits))
    name = str(x.type if hasattr(x, "type") and type(x).__module__.startswith("pyarrow") else x.dtype)
    if name.startswith("<dtype: "):
        name = x.dtype.name
    name = name.rsplit(".", 1)[-1]
    return {"float": "float32", "double": "float64", "halffloat": "float16", "bool_": "bool"}.get(name, name)


def values(x):
    """The values as nested lists, read by the framework itself."""
    kind = type(x).__module__.split(".")[0]
    if kind == "pyarrow":
        return x.to_pylist() if hasattr(x, "to_pylist") else np.asarray(x.to_numpy()).tolist()
    if kind == "tensorflow":
        return x.numpy().tolist()
    if kind == "tvm_ffi":
        return np.from_dlpack(x).tolist()
    if kind in ("jax", "jaxlib", "freehold"):
        return np.asarray(x).tolist()
    if kind == "polars":
        return x.to_list()
    return x.tolist()
