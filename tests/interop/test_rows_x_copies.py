"""Rows X20, X21 and X25: what copies are refused with, what they are flagged with, and round trips."""

import ctypes

import numpy as np
import pytest
import torch

import freehold as fh
import producers
from capsules import IS_COPIED, READ_ONLY, Versioned, opened
from producers import CUDA, ExchangeTable, Made, Modern, fresh, refused, take
from row_tools import do, ledger_of

TARGETS = ["numpy", "torch", None]


# -- X20: one class ----------------------------------------------------------------------------------------------------


def test_x20_both_classes_that_the_standard_names():
    """X20: copy=False that cannot be is BufferError in one part of the standard and ValueError in another: ours is both."""
    x = np.arange(3.0)[::-1]
    for call in (
        lambda: fh.share(x, "torch"),
        lambda: fh.convert(x, "torch", copy=False),
        lambda: fh.from_dlpack(np.arange(3, dtype=">i4"), copy=False),
        lambda: fh.copy(x).__dlpack__(dl_device=CUDA, copy=False),
        lambda: fh.share(np.array(["a"])),
        lambda: fh.share([1, 2]),
        lambda: fh.share(object()),
        lambda: fh.from_dlpack(Made(version=(9, 0)).capsule()),
    ):
        for kind in (BufferError, ValueError, fh.BoundaryError):
            with pytest.raises(kind):
                call()
    assert issubclass(fh.BoundaryError, BufferError) and issubclass(fh.BoundaryError, ValueError)
    with pytest.raises(ValueError):  # what PyTorch raises where the standard says BufferError
        torch.from_dlpack(np.arange(4.0), copy=False, device="cuda")


# -- X21, case 2: copies -------------------------------------------------------------------------------------------------


def test_x21_the_flag_is_true_going_out():
    """X21: IS_COPIED is on what was copied for this consumer alone, and on nothing else."""
    flags = lambda x, **asked: opened(x.__dlpack__(max_version=(1, 3), **asked)).flags  # noqa: E731
    x = np.arange(3.0)
    assert flags(fh.share(x)) == 0 and flags(fh.share(x), copy=True) == IS_COPIED
    copied = fh.copy(x)
    assert flags(copied) == IS_COPIED
    # A second consumer makes two owners: neither is told that it is alone from then on.
    first = copied.__dlpack__(max_version=(1, 3))
    assert opened(first).flags == IS_COPIED and flags(copied) == 0
    del first
    assert flags(copied) == IS_COPIED
    view = np.asarray(copied)
    assert flags(copied) == 0
    view[0] = 8
    assert np.from_dlpack(copied)[0] == 8
    del view
    assert flags(fh.share(copied, writable=False)) == READ_ONLY, "a view of a copy is no copy"
    table = ExchangeTable.of(fh.Tensor)
    managed = table.managed_from(fh.copy(x))
    assert managed.flags == IS_COPIED
    producers.call_with_gil(ctypes.addressof(managed), managed.deleter)


def test_x21_what_pytorch_says_today():
    """X21: PyTorch does not say that it copied, so its capsules are never believed to be copies, nor not to be."""
    t = torch.zeros(3)
    assert opened(t.__dlpack__(max_version=(1, 3), copy=True)).flags == 0, "PyTorch sets IS_COPIED now"
    a = np.zeros(3)
    assert opened(a.__dlpack__(max_version=(1, 3), copy=True)).flags == IS_COPIED


@pytest.mark.parametrize("flags", [0, IS_COPIED])
@pytest.mark.parametrize("to", TARGETS)
def test_x21_case_2_a_producer_that_only_says_so(to, flags):
    """X21, case 2: asked to copy it would not, and its flag says it did: Freehold copies itself, and checks by address."""
    array = np.arange(3.0)
    producer = fresh(array, flags=flags)
    decision, copied = do("copy", producer, to)
    assert decision.steps == ("fresh",) and decision.bytes_copied == 24
    assert all("copy" not in asked for asked in producer.calls), "we copy, so nobody is asked to"
    array[0] = 9
    assert np.asarray(copied)[0] == 0
    np.asarray(copied)[1] = 5
    assert array[1] == 1
    assert opened(fh.from_dlpack(fh.copy(producer)).__dlpack__(max_version=(1, 0))).flags == IS_COPIED


def test_x21_a_claim_is_checked_against_the_ledger():
    """X21: memory that somebody is known to hold was not copied for us, whatever the flag says."""
    array = np.arange(3.0)
    said = lambda x: opened(x.__dlpack__(max_version=(1, 3))).flags  # noqa: E731
    alone = fh.from_dlpack(Modern(Made(array, flags=IS_COPIED)))
    assert said(alone) == IS_COPIED
    del alone
    holder = fh.share(array, "torch")
    second = fh.from_dlpack(Modern(Made(array, flags=IS_COPIED)))
    assert said(second) == 0
    holder[0] = 6
    assert np.from_dlpack(second)[0] == 6


# -- case 27: round trips --------------------------------------------------------------------------------------------------


def test_x25_case_27_round_and_round():
    """X25, case 27: A -> B -> C -> A: one buffer, one owner, every hop on it, and READ_ONLY is never lost on the way."""
    array = np.arange(4.0)
    hops = [array]
    for to in ["torch", None, "numpy", None, "torch", "numpy", None]:
        hops.append(fh.share(hops[-1], to))
    hops.append(fh.from_dlpack(hops[-1].__dlpack__()))
    hops.append(torch.from_dlpack(hops[-1]))
    hops.append(fh.share(hops[-1], "numpy"))
    assert len({fh.ledger.owner(x)["id"] for x in hops}) == 1
    assert len(fh.ledger.live()) == 1 and ledger_of(array)[0] == "numpy"
    hops[-1][3] = 33
    hops[1][0] = 11
    assert all(np.asarray(x).tolist() == [11, 1, 2, 33] for x in hops)
    array.flags.writeable = False
    view = fh.share(array)
    for _ in range(5):
        view = fh.share(fh.share(np.from_dlpack(fh.share(view)), "numpy"))
        assert not view.writable
    refused("RO01", lambda: view.__dlpack__())
    del hops, view
    fh.ledger.live()
    assert fh.ledger.owner(array) is None


def test_x12_a_capsule_survives_the_producers_object():
    """X12: the tensor lives as long as the capsule, whatever becomes of the object and of its memory's name."""
    made = Made(np.arange(3.0))
    producer = Modern(made)
    x = fh.share(producer, "torch")
    del producer
    assert x.tolist() == [0, 1, 2] and made.deletes == 0
    del x
    fh.ledger.live()
    assert made.deletes == 1


def test_x12_take_and_release_from_c():
    """X12: a C consumer takes our capsule, keeps it past everything else, and calls the deleter once."""
    array = np.arange(3.0)
    address, deleter = take(fh.share(array).__dlpack__(max_version=(1, 3)))
    struct = Versioned.from_address(address)
    ctypes.c_double.from_address(struct.tensor.data).value = 42.0
    assert array[0] == 42 and ledger_of(array)[0] == "numpy"
    producers.call_with_gil(address, deleter)
    assert fh.ledger.owner(array) is None

