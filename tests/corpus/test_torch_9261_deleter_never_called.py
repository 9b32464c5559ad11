"""pytorch/pytorch#9261 (fixed as cupy/cupy#1445): CuPy renamed the capsule of a PyTorch tensor and never called its deleter,
until the memory was used up."""

import numpy as np

import freehold as fh
from producers import take
from stand_in import as_package, line_of


@as_package("cupy")
def fromDlpack(capsule_of):
    capsule = capsule_of.__dlpack__()
    take(capsule)
    return object()  # an array that knows where the memory is, and not whose it is


def test_every_batch_is_named_with_the_line_that_lost_it(sites):
    for _ in range(10):
        batch = np.ones((100, 100), np.float32)
        fromDlpack(fh.share(batch))
        del batch
    holders = [leak for leak in sites.leaks() if leak["role"] == "holder"]
    where = line_of(fromDlpack, "capsule_of.__dlpack__")
    assert {(h["framework"], h["code"], h["site"]) for h in holders} == {("cupy", "CP03", where)} and len(holders) == 10
    assert sum(h["extent_bytes"] for h in holders) == 400_000
    assert where in fh.ledger.report()
