"""Row X26, case 25: the C exchange table, ours and those of others."""

import ctypes

import numpy as np
import pytest
import torch

import freehold as fh
from capsules import READ_ONLY, DLTensor, Versioned, name_of
from producers import ExchangeTable, Made, Modern, refused
from row_tools import address

# -- case 25: the C exchange table ---------------------------------------------------------------------------------------


def test_x26_case_25_our_table_is_on_the_type_and_complete():
    """X26, case 25: a capsule on the type, the same for every object, of version 1.3, with every entry."""
    x = fh.copy([1.0])
    table = ExchangeTable.of(fh.Tensor)
    assert type(x).__dlpack_c_exchange_api__ is fh.Tensor.__dlpack_c_exchange_api__
    assert name_of(fh.Tensor.__dlpack_c_exchange_api__) == "dlpack_exchange_api"
    assert (table.major, table.minor, table.prev_api) == (1, 3, None)
    assert all([table.allocate_entry, table.from_entry, table.to_entry, table.view_entry, table.stream_entry])
    assert table.stream(1, 0) is None, "the place for the stream is written to"


def test_x26_case_25_out_and_in_by_the_table():
    """X26, case 25: `from` gives a tensor away, `to` takes one, for good, refused or not; a view is only borrowed."""
    array = np.arange(3.0)
    table, x = ExchangeTable.of(fh.Tensor), fh.share(array)
    back = table.object_from(ctypes.addressof(table.managed_from(x)))
    assert isinstance(back, fh.Tensor)
    np.asarray(back)[0] = 4
    view = table.view_of(x)
    assert isinstance(view, DLTensor) and view.data == array.ctypes.data and view.ndim == 1
    ctypes.c_double.from_address(view.data + 8).value = 6
    assert array.tolist() == [4, 6, 2]
    made, hostile = Made(), Made(ndim=-1)
    y = table.object_from(made.address)
    assert made.deletes == 0
    del y
    assert made.deletes == 1
    refused("CP02", table.object_from, hostile.address)
    assert hostile.deletes == 1, "what is stolen is freed where it is refused"
    # A bare view has no flags, so read-only memory does not leave in one.
    refused("RO01", table.view_of, fh.share(array, writable=False))
    for entry in (table.managed_from, table.view_of):
        with pytest.raises(TypeError):
            entry("no tensor")
    locked = table.managed_from(fh.share(array, writable=False))
    assert locked.flags == READ_ONLY
    assert not table.object_from(ctypes.addressof(locked)).writable


def test_x26_case_25_the_allocator_reports_errors():
    """X26, case 25: memory like a prototype's, aligned; an error is told by name and text, and nothing is written."""
    table = ExchangeTable.of(fh.Tensor)
    like = Made(np.zeros((2, 3), np.float32), data=0)
    managed, error = table.allocate(like.struct.tensor)
    assert error is None and isinstance(managed, Versioned) and managed.tensor.data % 256 == 0
    x = table.object_from(ctypes.addressof(managed))
    assert (x.shape, x.dtype, np.asarray(x).sum()) == ((2, 3), "float32", 0)
    for fields, code, word in (
        ({"ndim": -1}, "AR01", "ndim is -1"),
        ({"ndim": 65}, "AR01", "ndim is 65"),
        ({"shape": None, "ndim": 1}, "AR01", "shape is NULL"),
        ({"dtype": (99, 1, 1)}, "AR01", "dtype.code is 99"),
        ({"device": (2, 0)}, "DV02", "cuda"),  # a driver has memory for it, and none is here
        ({"shape": (2**62, 8), "strides": None}, "AR01", "extent below 2^63"),
        ({"shape": (-1,), "strides": None}, "AR01", "shape"),
    ):
        prototype = Made(**fields).struct.tensor
        managed, error = table.allocate(prototype)
        assert managed is None and error[0] == "BufferError" and error[1].startswith(f"[{code}] ") and word in error[1]
        assert table.allocate(prototype, listen=False) == (None, None), "nobody has to listen"


def test_x26_case_25_pytorch_leaves_what_it_refuses_with_the_caller():
    """X26, case 25: target/torch.rs relies on it. Should PyTorch ever release what it refuses, we must not."""
    table = ExchangeTable.of(torch.Tensor)
    for wrong in ({"dtype": (2, 64, 3)}, {"strides": (-1,)}, {"device": (18, 0)}):
        made = Made(**wrong)
        with pytest.raises((RuntimeError, BufferError)):
            table.object_from(made.address)
        assert made.deletes == 0


def test_x26_case_25_a_table_of_another_type():
    """X26, case 25: both names of the attribute, older tables behind newer ones, and what is no table at all."""
    table = ExchangeTable.of(torch.Tensor)
    place = ctypes.addressof(table)
    newer = ExchangeTable(2, 0, place, *[0xDEAD] * 5)

    class Old(Modern):
        __c_dlpack_exchange_api__ = place

    class Broken(Modern):
        __dlpack_c_exchange_api__ = "no capsule"

    class Newer(Modern):
        __c_dlpack_exchange_api__ = ctypes.addressof(newer)

    assert fh.share(Broken(Made()), "numpy").tolist() == [1, 2, 3], "falls back to the method"
    # PyTorch's table refuses objects that are not its own: the way in was the table, as the type says.
    for kind in (Old, Newer):
        producer = kind(Made())
        with pytest.raises((RuntimeError, BufferError, TypeError)):
            fh.share(producer)
        assert producer.calls == []


def test_x25_the_same_memory_by_every_way_in():
    """X25: protocol, table, buffer, interface and capsule: five ways into one array are one buffer on the ledger."""
    a = np.arange(4.0)
    interface = type("Theirs", (), {"__array_interface__": property(lambda self: a.__array_interface__)})()
    ways = [a, memoryview(a), interface, Modern(Made(a)), a.__dlpack__(), fh.share(a), torch.from_numpy(a)]
    held = [fh.share(x) for x in ways]
    assert {address(x) for x in held} == {a.ctypes.data}
    assert len({fh.ledger.owner(x)["id"] for x in held}) == 1
    for i, x in enumerate(held):
        np.asarray(x)[0] = i
        assert a[0] == i
    assert len(fh.ledger.live()) == 1
