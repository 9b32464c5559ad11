"""NVIDIA/cutile-python#88: the launch called the deleter of its arguments while it still prepared them, before the kernel that
uses the memory was even started."""

import ctypes
import threading

import numpy as np
import pytest

import freehold as fh
from capsules import opened
from producers import call_with_gil, take
from stand_in import as_package, line_of


@as_package("cutile")
def launch(x, start):
    capsule = x.__dlpack__(max_version=(1, 0))
    data = opened(capsule).tensor.data
    call_with_gil(*take(capsule))  # while the arguments are prepared

    def kernel():
        start.wait()
        ctypes.c_float.from_address(data + 8).value = 7.0

    running = threading.Thread(target=kernel)
    running.start()
    return running


def test_a_write_after_the_deleter_names_who_let_go(canaries):
    start = threading.Event()
    out = fh.copy(np.zeros(1000, np.float32))  # memory of ours
    running = launch(out, start)
    del out
    assert canaries.leaks() == [] and canaries.hazards("CP03") == [], "everything was given back"
    start.set()
    running.join()
    (hazard,) = canaries.hazards("CP03")
    assert [(h["framework"], h["site"]) for h in hazard["holders"]] == [("cutile", line_of(launch, "x.__dlpack__"))]
    with pytest.warns(fh.BoundaryWarning, match="CP03: .*cutile"):
        fh.share(np.zeros(1))
    assert "f32[1000]" in hazard["note"] and "after cutile had let go" in hazard["note"]


def test_a_kernel_that_is_done_before_the_deleter_is_no_hazard(canaries):
    start = threading.Event()
    start.set()
    out = fh.copy(np.zeros(1000, np.float32))
    launch(out, start).join()
    del out
    assert canaries.hazards("CP03") == []
