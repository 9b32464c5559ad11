"""nanobind and apache/tvm-ffi take capsules of major version 2 and read them as version 1, whose fields are elsewhere. DLPack's
rule is to call the deleter and read nothing else."""

import numpy as np
import pytest

import freehold as fh
from capsules import Versioned, opened
from producers import Made, Modern, take
from stand_in import line_of


class Producer(Modern):
    """A producer of the future: major version 2, in which what was the tensor means something else."""


Producer.__module__ = "future.tensors"


def nanobind_cast(capsule):
    """Reads the fields without a look at the version."""
    return Versioned.from_address(take(capsule)[0]).tensor.ndim


def test_what_the_bug_reads():
    made = Made(version=(2, 0), ndim=77)
    assert nanobind_cast(made.capsule()) == 77, "rubbish"


def test_the_version_is_refused_with_its_producer_and_line(sites):
    made = Made(version=(2, 0), ndim=77, data=8)
    with pytest.raises(fh.BoundaryError, match="2.0") as caught:
        fh.share(Producer(made), "numpy")
    assert caught.value.code == "VE01" and made.deletes == 1, "its deleter was called, and nothing read"
    del caught
    (hazard,) = sites.hazards("VE01")
    (producer,) = hazard["holders"]
    assert producer["framework"] == "future" and producer["site"] == line_of(
        test_the_version_is_refused_with_its_producer_and_line, "fh.share(Producer(made)"
    )
    assert sites.leaks() == []


def test_our_own_capsules_are_of_version_1_whatever_is_asked(sites):
    capsule = fh.share(np.arange(3.0)).__dlpack__(max_version=(2, 5))
    assert (opened(capsule).major, opened(capsule).minor) == (1, 3)
