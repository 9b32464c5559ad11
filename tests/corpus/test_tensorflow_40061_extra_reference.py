"""tensorflow/tensorflow#40061: `from_dlpack` returned its tensor with one reference too many, so that no tensor from a capsule
was ever freed, and the capsule's deleter never called."""

import ctypes

import numpy as np

import freehold as fh
from producers import call_with_gil, take
from stand_in import as_package, line_of


class EagerTensor:
    def __init__(self, managed):
        self.managed = managed

    def __del__(self):
        call_with_gil(*self.managed)


@as_package("tensorflow")
def from_dlpack(x):
    tensor = EagerTensor(take(x.__dlpack__()))
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(tensor))  # the reference that nobody has
    return tensor


def test_the_tensors_that_outlived_everyone(sites):
    array = np.ones(1000, np.float32)
    for _ in range(3):
        from_dlpack(fh.share(array))
    where = line_of(from_dlpack, "x.__dlpack__")
    holders = [leak for leak in sites.leaks() if leak["role"] == "holder"]
    assert [(h["framework"], h["code"], h["site"]) for h in holders] == [("tensorflow", "CP03", where)] * 3
    buffer = fh.ledger.owner(array)
    assert buffer["owner"]["framework"] == "numpy" and len(buffer["holders"]) >= 3
