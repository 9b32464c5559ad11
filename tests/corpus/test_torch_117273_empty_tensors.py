"""pytorch/pytorch#117273: `from_dlpack` of a tensor without elements never called its deleter, so that whatever owned it
(often a Python object) was leaked, a little at a time."""

import numpy as np

import freehold as fh
from producers import call_with_gil, take
from stand_in import as_package, line_of


@as_package("torch")
def from_dlpack(x):
    capsule = x.__dlpack__(max_version=(1, 0))
    numel = int(np.prod(x.shape))
    address, deleter = take(capsule)
    if numel == 0:
        return np.empty(x.shape)  # a new tensor; the managed one is forgotten
    call_with_gil(address, deleter)
    return None


def test_the_empty_tensor_is_named(sites):
    array = np.zeros((3, 0))
    from_dlpack(fh.share(array))
    assert sites.never_returned() == ("torch", "CP03", line_of(from_dlpack, "x.__dlpack__"))
    (leak,) = [leak for leak in sites.leaks() if leak["role"] == "holder"]
    assert leak["shape"] == [3, 0] and leak["extent_bytes"] == 0 and leak["from"] == "numpy"


def test_a_tensor_with_elements_came_back(sites):
    from_dlpack(fh.share(np.zeros(3)))
    assert sites.leaks() == []
