"""iree-org/iree#20849: the runtime renamed capsules and deleted only those that still had the old name, which ended in 191 GiB
of PyTorch's memory held by nobody."""

import ctypes

import numpy as np

import freehold as fh
from capsules import name_of, opened
from producers import call_with_gil, rename
from stand_in import as_package, line_of


@as_package("iree")
def from_dlpack_capsule(x):
    capsule = x.__dlpack__()
    managed = opened(capsule)
    rename(capsule, b"used_dltensor")
    # The end of the call: only a capsule that was not renamed is given back.
    if name_of(capsule) == "dltensor":
        call_with_gil(ctypes.addressof(managed), managed.deleter)


def test_the_renamed_capsule_still_holds_its_memory(sites):
    held = []
    for _ in range(5):
        x = np.ones((64, 64), np.float32)
        from_dlpack_capsule(fh.share(x))
        held.append(x.nbytes)
        del x
    where = line_of(from_dlpack_capsule, "x.__dlpack__")
    holders = [leak for leak in sites.leaks() if leak["role"] == "holder"]
    assert [(h["framework"], h["code"], h["site"]) for h in holders] == [("iree", "CP03", where)] * 5
    live = fh.ledger.live()
    theirs = [b for b in live if any(h["site"] == where for h in b["holders"])]
    assert sum(buffer["len"] for buffer in theirs) == sum(held) and len(theirs) == 5
    assert not sites.hazards("CP01"), "it said that it took them"
