"""pytorch/pytorch#117058: a managed tensor whose data pointer is NULL, as an array without elements may have, was kept in a
`std::unique_ptr` over that pointer, which calls no deleter for NULL."""

import numpy as np

import freehold as fh
from capsules import opened
from producers import call_with_gil, take
from stand_in import as_package, line_of


class UniqueVoidPtr:
    """Calls its deleter at the end, unless the pointer is NULL."""

    def __init__(self, data, address, deleter):
        self.data, self.address, self.deleter = data, address, deleter

    def __del__(self):
        if self.data:
            call_with_gil(self.address, self.deleter)


@as_package("torch")
def from_dlpack(x):
    capsule = x.__dlpack__()
    data = opened(capsule).tensor.data
    return UniqueVoidPtr(data, *take(capsule))


def test_the_holder_that_no_deleter_ran_for(sites):
    array = np.zeros((0, 4), np.float32)
    tensor = from_dlpack(fh.share(array))
    assert tensor.data is None, "what we export for no elements"
    del tensor
    assert sites.never_returned() == ("torch", "CP03", line_of(from_dlpack, "x.__dlpack__"))


def test_other_data_came_back(sites):
    tensor = from_dlpack(fh.share(np.zeros((1, 4), np.float32)))
    assert len(sites.leaks()) == 2
    del tensor
    assert sites.leaks() == []
