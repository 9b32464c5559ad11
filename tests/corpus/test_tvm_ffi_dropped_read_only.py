"""apache/tvm-ffi: a tensor that is made from a read-only capsule forgets that, and its own capsule says that the memory may be
written. The same loss as in any hop through a legacy capsule."""

import ctypes

import numpy as np
import pytest

import freehold as fh
from capsules import READ_ONLY, opened
from producers import Made, call_with_gil, take
from stand_in import as_package, line_of


class Tensor:
    """A tensor of the stand-in: what it exports has no flags."""

    def __init__(self, capsule, shape):
        assert opened(capsule).flags & READ_ONLY
        data = opened(capsule).tensor.data
        self.managed = take(capsule)
        self.made = Made(np.ctypeslib.as_array((ctypes.c_float * shape[0]).from_address(data)), flags=0)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self.made.capsule()

    def __dlpack_device__(self):
        return (1, 0)

    def __del__(self):
        call_with_gil(*self.managed)


Tensor.__module__ = "tvm_ffi.core"


@as_package("tvm_ffi")
def from_dlpack(x):
    capsule = x.__dlpack__(max_version=(1, 0))
    return Tensor(capsule, x.shape)


def test_the_writable_alias_is_named_when_it_comes_back(canaries):
    array = np.arange(4, dtype=np.float32)
    array.flags.writeable = False
    theirs = from_dlpack(fh.share(array))
    back = fh.share(theirs)
    assert back.writable, "nothing in the capsule says otherwise"
    (hazard,) = canaries.hazards("RO01")
    owner, writer = hazard["holders"]
    assert owner["framework"] == "numpy" and owner["site"].startswith(__file__)
    assert writer["framework"] == "tvm_ffi" and writer["site"] == line_of(
        test_the_writable_alias_is_named_when_it_comes_back, "fh.share(theirs)"
    )
    with pytest.raises(ValueError):
        array[0] = 1


def test_the_query_says_so_at_any_level(sites):
    array = np.arange(4, dtype=np.float32)
    array.flags.writeable = False
    theirs = from_dlpack(fh.share(array))
    back = fh.share(theirs)
    found = [(c["code"], c["writer"]["framework"], c["other"]["framework"]) for c in fh.ledger.conflicts()]
    assert ("RO01", "tvm_ffi", "numpy") in found
    del back
