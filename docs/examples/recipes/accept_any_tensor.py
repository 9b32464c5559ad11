"""A library function that takes a tensor of any framework, and states what it needs in one line."""

import array

import numpy as np
import torch

import freehold as fh


def column_means(x):
    """Means of the columns of a 2-d tensor, as float32, on the host.

    What fits is used where it lies; anything else is brought into shape in one pass. A caller who must not pay for
    that says so: ``with fh.policy(copies="error"): column_means(x)``.
    """
    with fh.convert(x, dtype="float32", device="cpu", order="C") as view:
        # Typed, C order, on the host: what a C or SIMD kernel would want. NumPy stands in for it here.
        return np.asarray(view).mean(axis=0).tolist()


print(column_means(np.array([[1.0, 2.0], [3.0, 4.0]])))
# >> [2.0, 3.0]
print(column_means(torch.tensor([[1, 2], [3, 4]], dtype=torch.int16).T))
# >> [1.5, 3.5]
print(column_means([[1, 2], [3, 4]]))
# >> [2.0, 3.0]
print(column_means(memoryview(array.array("d", [1, 2, 3, 4])).cast("B").cast("d", shape=[2, 2])))
# >> [2.0, 3.0]

with fh.policy(copies="error"):
    print(column_means(torch.ones(2, 2)))
    # >> [1.0, 1.0]
    try:
        column_means(np.ones((2, 2)))  # float64: a cast would copy
    except fh.BoundaryError as error:
        print(error.code, error.fixes[0].split(" #")[0])
    # >> PO01 fh.copy(x, dtype="float32", device="cpu", order="C")
