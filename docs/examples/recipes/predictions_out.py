"""Evaluation: predictions out of a model as NumPy arrays, with the autograd graph left alone."""

import numpy as np
import torch

import freehold as fh

model = torch.nn.Linear(3, 2)
batch = torch.ones(4, 3)
predictions = model(batch)

# What `.detach().cpu().numpy()` does, with one difference: the array is read-only. The other one is a writable alias of
# a tensor that the backward pass still needs.
scores = fh.convert(predictions, "numpy", detach=True)
print(scores.shape, scores.flags.writeable, np.shares_memory(scores, predictions.detach().numpy()))
# >> (4, 2) False True

# A buffer that is written again for the next batch must be copied out, or every result is the last one.
buffer = torch.empty(2)
kept, aliased = [], []
for step in range(3):
    buffer.fill_(step)
    kept.append(fh.copy(buffer, "numpy"))
    aliased.append(fh.convert(buffer, "numpy"))
print([k.tolist() for k in kept], [a.tolist() for a in aliased])
# >> [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]] [[2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]
