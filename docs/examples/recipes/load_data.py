"""Load arrays from disk into PyTorch: one pass, the dtype said out loud, no float64 in between."""

import tempfile
from pathlib import Path

import numpy as np

import freehold as fh

folder = Path(tempfile.mkdtemp())
np.save(folder / "features.npy", np.linspace(0, 1, 12).reshape(4, 3))  # float64, as NumPy makes them
np.save(folder / "labels.npy", np.array([0, 2, 1, 2], dtype=np.int32))

# Independent tensors of the dtypes that a model wants: cast and copied in the same pass.
features = fh.copy(np.load(folder / "features.npy"), "torch", dtype="float32")
labels = fh.copy(np.load(folder / "labels.npy"), "torch", dtype="int64")
print(features.dtype, labels.dtype, tuple(features.shape))
# >> torch.float32 torch.int64 (4, 3)

# A file too large for memory: map it, and convert only the rows that are used. The mapping is read-only, and a write
# through torch.from_numpy would crash the process; Freehold copies what is asked for, and says so before.
mapped = np.load(folder / "features.npy", mmap_mode="r")
plan = fh.plan(mapped[1:3], "torch")
print(plan.verdict, plan.bytes_copied, plan.codes[0])
# >> copy 48 RO01
batch = fh.convert(mapped[1:3], "torch", dtype="float32")
batch[0, 0] = -1
print(batch.shape[0], mapped[1, 0] == -1)
# >> 2 False
