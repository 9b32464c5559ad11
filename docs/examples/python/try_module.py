"""Calls one of the two modules with tensors of NumPy, PyTorch and JAX: python try_module.py nanobind_module"""

import gc
import importlib
import sys

import jax.numpy as jnp
import numpy as np
import torch

module = importlib.import_module(sys.argv[1])
rows = [[3.0, 4.0], [0.0, 0.0], [5.0, 12.0]]
expected = np.array([[0.6, 0.8], [0, 0], [5 / 13, 12 / 13]], dtype="float32")

# Any framework in, any framework out; what is not compact float32 is copied once.
sources = {
    "numpy float32": np.array(rows, dtype="float32"),
    "numpy float64, by columns": np.asfortranarray(rows),
    "numpy int16, backwards": np.array(rows[::-1], dtype="int16")[::-1],
    "torch": torch.tensor(rows),
    "torch bfloat16, transposed": torch.tensor(rows, dtype=torch.bfloat16).T.contiguous().T,
    "jax": jnp.array(rows),
}
for name, source in sources.items():
    made = module.unit_rows(source)
    for take in (np.from_dlpack, torch.from_dlpack, jnp.from_dlpack):
        np.testing.assert_allclose(np.asarray(take(made)), expected, rtol=1e-6)
    print(f"{name}: ok")

# In place, in the caller's own memory.
for vector in (np.ones(3, dtype="float32"), torch.ones(3)):
    module.scale(vector, 2.5)
    assert vector.tolist() == [2.5, 2.5, 2.5]


def refused(call, *parts):
    try:
        call()
    except BufferError as error:
        assert all(part in str(error) for part in parts), error
        print(str(error).splitlines()[0])
        return
    raise AssertionError("nothing was refused")


fixed = np.ones(3, dtype="float32")
fixed.flags.writeable = False
refused(lambda: module.scale(fixed, 2), "RO01", "x: writable: expected writable, got read-only")
refused(lambda: module.scale(jnp.ones(3), 2), "RO01")
refused(lambda: module.scale(np.ones(3), 2), "DT02", "x: dtype: expected float32, got float64")
refused(lambda: module.unit_rows(np.ones(3, dtype="float32")), "AR01", "x: rank: expected 2, got 1")
assert fixed.tolist() == [1, 1, 1]

# A capsule that nobody takes goes by itself, and so does everything else.
made.__dlpack__(max_version=(1, 0))
made.__dlpack__()
assert np.from_dlpack(made, copy=True).flags.writeable
del made, vector
gc.collect()
assert module.live() == 0, module.live()
print("live: 0")
