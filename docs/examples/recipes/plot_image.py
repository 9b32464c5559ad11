"""Show a tensor with matplotlib, whether it requires grad or not, without a copy."""

import matplotlib
import numpy as np
import torch

import freehold as fh

matplotlib.use("Agg")  # no screen needed; leave this line out in a notebook
import matplotlib.pyplot as plt

image = torch.linspace(0, 1, 28 * 28).reshape(28, 28).requires_grad_()

# `image.numpy()` raises as soon as grad is on. detach=True ends the graph here; the array is read-only, so nothing that
# is plotted can change what a backward pass will need.
pixels = fh.convert(image, "numpy", detach=True)
figure, axes = plt.subplots()
shown = axes.imshow(pixels, cmap="gray")
print(shown.get_array().shape, fh.plan(image, "numpy", detach=True))
# >> (28, 28) f32[28,28] torch cpu requires_grad -> f32[28,28] numpy cpu: share, read-only: GR02

# Curves: NumPy's own functions take an fh.Tensor wherever they take an array.
loss = fh.share(torch.tensor([4.0, 2.0, 1.0, 0.5]))
axes.plot(np.log2(loss))
print(axes.lines[0].get_ydata().tolist())
# >> [2.0, 1.0, 0.0, -1.0]
plt.close(figure)
