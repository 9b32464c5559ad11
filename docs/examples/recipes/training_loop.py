"""Keep hidden copies out of a training loop: inside it a copy that nobody asked for is an error."""

import numpy as np
import torch

import freehold as fh

batches = [np.full((2, 3), i, dtype=np.float32) for i in range(3)]
model = torch.nn.Linear(3, 1)

with fh.policy(copies="error", sync="error"):
    for batch in batches:
        loss = model(fh.convert(batch, "torch")).square().mean()
        loss.backward()

    try:
        fh.convert(batches[0].astype(np.float64), "torch", dtype="float32")  # somebody's data was float64
    except fh.BoundaryError as error:
        print(error.code, error.decision.bytes_copied)
    # >> PO01 0

# A byte budget for each handover instead of a ban:
with fh.policy(max_copy_bytes=1024):
    print(fh.convert(batches[0].T, "torch", order="C").is_contiguous())
# >> True

# What the loop cost is on the ledger.
print(any(entry["from"] == "numpy" and entry["to"] == "torch" for entry in fh.ledger.stats()["handovers"]))
# >> True
