"""NumPy and PyTorch by turns: what is shared, what is new, and how to see it."""

import numpy as np
import torch

import freehold as fh

samples = np.array([1.0, 2.0, 3.0], dtype=np.float32)
t = fh.share(samples, "torch")  # no copy: t is samples
squares = t**2  # PyTorch allocates the result
back = fh.share(squares, "numpy")  # no copy: back is squares, not samples

print(fh.explain(samples, t).aliases, fh.explain(samples, back).aliases, fh.explain(squares, back).aliases)
# >> True False True
back[0] = 100
print(squares.tolist(), samples.tolist())
# >> [100.0, 4.0, 9.0] [1.0, 2.0, 3.0]

# In-place operations write to what is shared.
t.mul_(2)
print(samples.tolist())
# >> [2.0, 4.0, 6.0]

# A step that NumPy does better, on memory of PyTorch's, and the result handed on: two shares, and one result of NumPy's.
ranks = fh.share(np.argsort(np.argsort(fh.share(squares, "numpy"))), "torch")
print(ranks.tolist(), ranks.dtype)
# >> [2, 0, 1] torch.int64

# Two libraries, three buffers, and who has which. PyTorch's own results are on the ledger once they are handed over.
for buffer in fh.ledger.live():
    print(buffer["owner"]["framework"], "->", sorted({holder["framework"] for holder in buffer["holders"]}))
# >> numpy -> ['torch']
# >> torch -> ['numpy']
# >> numpy -> ['torch']
print(sum(row["bytes"] for row in fh.ledger.stats()["copied"]))
# >> 0
