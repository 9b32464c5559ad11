"""NVIDIA/cudf#5212: `from_dlpack` copied the columns out of the memory, renamed the capsule to say that it took it, and never
called the deleter, so that the producer kept every table that it ever gave."""

import numpy as np

import freehold as fh
from capsules import opened
from producers import take
from stand_in import as_package, line_of


@as_package("cudf")
def from_dlpack(x):
    capsule = x.__dlpack__()
    rows = opened(capsule).tensor.ndim
    take(capsule)
    return np.array(x, copy=True), rows


def test_a_copy_was_made_and_the_original_kept(sites):
    table = np.ones((40_000, 32), np.float32)
    columns, _ = from_dlpack(fh.share(table))
    assert not np.shares_memory(columns, table)
    assert sites.never_returned() == ("cudf", "CP03", line_of(from_dlpack, "x.__dlpack__"))
    (leak,) = [leak for leak in sites.leaks() if leak["role"] == "holder"]
    assert leak["extent_bytes"] == table.nbytes, "what is kept for nothing"
