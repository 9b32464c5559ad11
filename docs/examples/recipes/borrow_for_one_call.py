"""Borrow a tensor for one call of another library, and know that it was given back."""

import warnings

import numpy as np
import torch

import freehold as fh

t = torch.tensor([[3.0, 1.0, 2.0], [9.0, 7.0, 8.0]])

# A function that PyTorch lacks, or that you trust more: no copy goes in, and the view ends with the block.
with fh.share(t) as view:
    print(np.median(np.from_dlpack(view), axis=1).tolist())
# >> [2.0, 8.0]

# Something that keeps a view after the block is reported: with a warning, and on the ledger until it is gone.
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with fh.share(t) as view:
        kept = np.from_dlpack(view)
print(caught[0].category.__name__, "still lent" in str(caught[0].message))
# >> BoundaryWarning True
print(fh.ledger.owner(t) is not None)
# >> True
del kept
print(fh.ledger.owner(t))
# >> None
