"""Write tensors to files with the tools that already exist: NumPy's formats, CSV, a raw buffer."""

import io
import tempfile
from pathlib import Path

import numpy as np
import torch

import freehold as fh

weights = torch.arange(6, dtype=torch.float32).reshape(2, 3).requires_grad_()
view = fh.share(weights, "numpy", detach=True)  # no copy: the file is the only one
folder = Path(tempfile.mkdtemp())

np.savez(folder / "weights.npz", weights=view)
print(np.load(folder / "weights.npz")["weights"].tolist())
# >> [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]

text = io.StringIO()
np.savetxt(text, view, fmt="%g", delimiter=",")
print(text.getvalue().split())
# >> ['0,1,2', '3,4,5']

# bfloat16 has no NumPy dtype: float32 holds all its values.
half = weights.detach().to(torch.bfloat16)
np.save(folder / "half.npy", fh.convert(half, "numpy", dtype="float32"))
print(np.load(folder / "half.npy").dtype)
# >> float32

# Anything that takes a buffer takes an fh.Tensor: here, the bytes straight from the tensor's memory.
(folder / "raw.bin").write_bytes(fh.share(weights, detach=True))
print((folder / "raw.bin").stat().st_size)
# >> 24
