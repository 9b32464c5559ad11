"""Paddle, both ways: one deleter an address, uint16, nine dimensions, the graph that its C table hands out."""

import ml_dtypes
import numpy as np
import pytest

import freehold as fh
from capsules import DTYPES, READ_ONLY
from frameworks import aligned, dtype_of, framework, misaligned, own_way, pointer, values
from producers import Made, over_bytes, refused
from row_tools import read_only

paddle = framework("paddle")
from_dlpack = paddle.utils.dlpack.from_dlpack
ROW = fh._freehold._caps("paddle")


# -- the row, measured ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtypes_of_the_row_are_those_that_paddle_keeps(dtype):
    how, got = own_way(from_dlpack, dtype=dtype)
    assert (how == "shares" and got == dtype) == (dtype in ROW["dtypes"])
    if dtype == "uint16":
        assert got == "bfloat16", "if this fails, Paddle has learned uint16"


def test_paddle_ignores_the_byte_offset_and_the_flag():
    memory = aligned(np.arange(16, dtype="f4"))
    t = from_dlpack(over_bytes((4,), memory=memory, byte_offset=8))
    assert values(t) == [0, 1, 2, 3] and not ROW["byte_offset"]
    t = from_dlpack(over_bytes((4,), memory=memory, flags=READ_ONLY))
    t[0] = 9
    assert memory[0] == 9 and not ROW["read_only"]


def test_paddle_has_nine_dimensions():
    from_dlpack(over_bytes((1,) * 9))
    with pytest.raises(RuntimeError):
        from_dlpack(over_bytes((1,) * 10))
    assert ROW["max_ndim"] == 9
    refused("LY04", fh.convert, np.zeros((1,) * 10), "paddle")


def test_X13_paddle_loses_a_deleter_when_two_tensors_have_one_address():
    memory = np.arange(4, dtype="f4")
    first, second = Made(memory), Made(memory)
    t, u = from_dlpack(first.capsule()), from_dlpack(second.capsule())
    del t, u
    assert first.deletes + second.deletes == 1, "if this fails, Paddle gives both back and PADDLE_AGAIN can go"


# -- to Paddle -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ROW["dtypes"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3)])
def test_A03_memory_is_shared(shape, dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    a = aligned((np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(kind))
    t = fh.share(a, "paddle")
    assert tuple(t.shape) == shape and dtype_of(t) == dtype
    assert a.size == 0 or pointer(t) == pointer(a)
    assert np.asarray(fh.share(t, "numpy")).tobytes() == a.tobytes()


def test_A04_writes_are_seen_on_both_sides():
    a = aligned(np.arange(3, dtype="f4"))
    t = fh.share(a, "paddle")
    a[0] = 7
    assert values(t) == [7, 1, 2]
    t[1] = 8
    assert a.tolist() == [7, 8, 2]


def test_X13_a_second_share_of_a_view_is_the_first_ones_memory_and_all_is_given_back():
    a = aligned(np.arange(6, dtype="f4"))
    for order in (lambda first, second: (first, second), lambda first, second: (second, first)):
        first, second = fh.share(a, "paddle"), fh.share(a, "paddle")
        assert first is not second and pointer(first) == pointer(second) == pointer(a)
        kept, other = order([first], [second])
        del first, second
        kept.clear()
        assert fh.ledger.owner(a) is not None, "one still lives"
        other.clear()
        assert fh.ledger.owner(a) is None


def test_X13_another_view_at_the_address_is_copied_and_that_is_said():
    a = aligned(np.arange(6, dtype="f4"))
    whole = fh.share(a, "paddle")
    plan = fh.plan(a[:3], "paddle")
    assert (plan.verdict, plan.codes, plan.bytes_copied) == ("copy", ("OB02",), 12)
    refused("OB02", fh.share, a[:3], "paddle")
    part = fh.convert(a[:3], "paddle")
    assert pointer(part) != pointer(a) and values(part) == [0, 1, 2]
    assert pointer(fh.share(a[1:], "paddle")) == pointer(a) + 4, "it begins elsewhere"
    del whole
    assert fh.plan(a[:3], "paddle").verdict == "share"


def test_many_empty_tensors_have_one_address_and_leave_nothing():
    a = np.zeros((0, 3), "f4")
    several = [fh.share(a, "paddle") for _ in range(3)]
    assert [tuple(t.shape) for t in several] == [(0, 3)] * 3


def test_strides_and_alignment():
    a = aligned(np.arange(6, dtype="f4").reshape(2, 3))
    for x in (a.T, a[:, 1:]):
        t = fh.share(x, "paddle")
        assert values(t) == x.tolist() and values(t + t) == (x + x).tolist()
    assert fh.plan(a[::-1], "paddle").codes == ("ST01",) and values(fh.convert(a[::-1], "paddle")) == a[::-1].tolist()
    odd = misaligned(np.arange(4, dtype="f4"), by=1)
    assert values(fh.share(odd, "paddle") * 2) == [0, 2, 4, 6]
    wide = misaligned(np.arange(4, dtype="c16"), by=8)
    assert fh.plan(wide, "paddle").codes == ("AG01",) and values(fh.convert(wide, "paddle") * 2) == [0, 2, 4, 6]


def test_A04_read_only_memory_is_copied_or_refused():
    a = read_only(np.arange(3.0))
    assert fh.plan(a, "paddle").codes[0] == "RO01" and values(fh.convert(a, "paddle")) == [0, 1, 2]
    refused("RO01", fh.share, a, "paddle")


def test_uint16_is_refused_because_it_would_become_bfloat16():
    refused("DT02", fh.convert, np.zeros(3, "u2"), "paddle")
    assert values(fh.convert(np.array([1, 65535], "u2"), "paddle", dtype="int32")) == [1, 65535]


def test_what_paddle_refuses_is_given_back():
    before = fh.ledger.stats()["live"]["holders"]
    for _ in range(3):
        refused("LY04", fh.convert, np.zeros((1,) * 12), "paddle")
    assert fh.ledger.stats()["live"]["holders"] == before


# -- from Paddle ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ROW["dtypes"])
def test_A03_tensors_are_shared_through_the_c_table(dtype):
    if dtype in ("uint32", "uint64"):  # Paddle takes these and cannot make them
        t = fh.share(aligned(np.array([0, 1, 1], dtype)), "paddle")
    else:
        t = paddle.to_tensor([0, 1, 1]).astype(dtype)
    view = fh.share(t, "numpy")
    assert pointer(view) == pointer(t) and view.dtype.name == dtype and view.flags.writeable


def test_A29_a_tensor_with_a_graph_needs_detach():
    t = paddle.to_tensor([1.0, 2.0], stop_gradient=False)
    refused("GR01", fh.share, t, "numpy")
    view = fh.share(t, "numpy", detach=True)
    assert pointer(view) == pointer(t) and not view.flags.writeable
    assert fh.share(t, "paddle") is t and not t.stop_gradient
    weight = paddle.nn.Linear(2, 2).weight
    refused("GR01", fh.convert, weight, "torch")
    assert fh.convert(weight, "torch", detach=True).shape == (2, 2)


def test_X19_a_sparse_tensor_has_no_dense_buffer():
    s = paddle.sparse.sparse_coo_tensor([[0, 1], [1, 2]], [1.0, 2.0], [3, 3])
    refused("LY02", fh.convert, s, "numpy")


def test_the_same_tensor_comes_back():
    t = paddle.to_tensor([1.0])
    assert fh.share(t, "paddle") is t and fh.convert(t, paddle) is t and fh.copy(t, "paddle") is not t
    view = paddle.zeros([2, 3]).T
    assert fh.share(view, "numpy").strides == (4, 12)
