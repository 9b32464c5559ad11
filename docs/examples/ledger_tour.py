"""Four mistakes in forty lines, and the ledger that names each of them with its line.

    python docs/examples/ledger_tour.py [PAGE.html]

A small pipeline: NumPy loads, PyTorch computes, JAX evaluates. It leaks a batch a step, converts 64 MB that need not
be converted, overwrites a buffer that it lent, and keeps 100 MB alive for forty bytes. Nothing fails; the ledger tells.
"""

import sys

import jax  # noqa: F401  (a target of fh.convert has to be imported by the program)
import numpy as np
import torch  # noqa: F401

import freehold as fh

fh.ledger.level = 3  # with the line of code behind each handover, and a history

# 1. The avoidable copy: float64 by default, float32 asked for at the border.
features = np.ones((16, 1024, 1024))
weights = fh.convert(features, "torch", dtype="float32")  # 128 MB read, 64 MB written

# 2. The leak: a cache of views that nobody empties.
cache = []
fh.ledger.mark()
for step in range(4):
    batch = np.full((256, 1024), float(step), dtype="float32")
    tensor = fh.share(batch, "torch")
    cache.append(tensor)  # meant for the last one, keeps them all
    del batch, tensor

# 3. The write under a lender's feet: lent frozen, written through another name.
table = np.arange(1024, dtype="float32")
window = table[:]
lent = fh.share(window, freeze=True)
scores = fh.convert(lent, "jax")
table[0] = -1.0  # `window` is read-only now, `table` is not
del lent, scores

# 4. The tiny view that pins 100 MB: the first row is kept, and the whole recording with it.
recording = np.zeros((100, 250_000), dtype="float32")
preview = fh.share(recording[0, :10], "torch")
del recording

print(fh.ledger.report())
page = sys.argv[1] if len(sys.argv) > 1 else "ledger.html"
fh.ledger.save(page)
print(f"the same as a page: {page}")
