"""Rows A11 to A16 and A22 to A26: converting, what makes a copy necessary, dtypes, and layouts that need none."""

import hashlib
import itertools

import numpy as np
import pytest
import torch

import freehold as fh
from row_tools import address, blocking, codes, copied_bytes, do, ledger_of, on_a_device

# -- A11 to A16: best effort


@pytest.mark.parametrize("to", [None, "numpy", "torch"])
@pytest.mark.parametrize("make", [lambda: np.array([1.1, 2.2, 3.3]), lambda: torch.tensor([1.1, 2.2, 3.3]).double()])
def test_a11_convert_shares_when_it_can(make, to):
    """A11: convert shares when possible; the seed's example, with writes from both sides."""
    arr = make()
    decision, t = do("convert", arr, to)
    assert decision.verdict == "share" and decision.bytes_copied == 0 and not blocking(decision)
    view = t if to else fh.share(t, "numpy")
    arr[1] = 222.0
    assert float(view[1]) == 222.0
    view[0] = -1
    assert float(arr[0]) == -1


def test_a11_asking_for_the_dtype_that_it_has_is_no_copy():
    """A11: the same dtype, asked for by name, by NumPy's and by PyTorch's object, still shares."""
    arr = np.array([1.0, 2.0], dtype="float32")
    for dtype in ("float32", np.float32, torch.float32):
        decision, t = do("convert", arr, "torch", dtype=dtype)
        assert decision.verdict == "share" and address(t) == address(arr)


def test_a12_another_dtype_is_a_copy_and_later_writes_are_not_seen():
    """A12: convert with another dtype copies (`CA01`); later writes in the source are invisible."""
    arr = np.array([1.1, 2.2, 3.3], dtype=np.float64)
    decision, t = do("convert", arr, "torch", dtype=torch.float32)
    assert (decision.verdict, decision.steps, codes(decision)) == ("copy", ("cast",), ["CA01"])
    assert decision.bytes_copied == 12
    arr[2] = 333.0
    assert t[2] == np.float32(3.3) and t.dtype is torch.float32
    theirs = torch.as_tensor(np.array([1.1, 2.2, 3.3]), dtype=torch.float32)
    assert torch.equal(t, theirs)


def test_a12_the_ledger_has_a_new_buffer_derived_from_the_old_and_no_alias():
    """A12: on the ledger, a new buffer, an edge from the old one with the reason, and no alias."""
    arr = np.array([1.1, 2.2, 3.3])
    lent = fh.share(arr)
    t = fh.convert(lent, "torch", dtype="float32")
    old, new = fh.ledger.owner(arr), fh.ledger.owner(t)
    assert old["id"] != new["id"] and new["len"] >= 12
    derived = new["owner"]
    assert (derived["verdict"], derived["reasons"], derived["from"]) == ("copy", ["CA01"], "numpy")
    assert derived["parent"] == str(lent.id) == old["owner"]["id"], "derived from that record"
    assert "copied" in derived["flags"]
    assert {alias["holder"]["buffer"] for alias in fh.ledger.aliases(t)} == {new["id"]}
    assert {alias["holder"]["buffer"] for alias in fh.ledger.aliases(arr)} <= {old["id"]}


def test_a13_a_read_only_array_is_really_copied():
    """A13: convert of a read-only array to PyTorch copies, where torch.as_tensor shares."""
    arr = np.array([1.0, 2.0, 3.0])
    arr.setflags(write=False)
    decision, t = do("convert", arr, "torch")
    assert (decision.verdict, decision.steps, blocking(decision)) == ("copy", ("fresh",), ["RO01"])
    t[0] = 100
    assert arr[0] == 1 and ledger_of(t) == ("freehold", ["torch"])


NEGATIVE = {
    "arr[::-1]": lambda a: a[::-1],
    "arr[::-2]": lambda a: a[::-2],
    "rows back": lambda a: a.reshape(4, 3)[::-1],
    "columns back": lambda a: a.reshape(4, 3)[:, ::-1],
    "both back": lambda a: a.reshape(4, 3)[::-1, ::-1],
    "back, of a part": lambda a: a[7:2:-1],
    "transposed, back": lambda a: a.reshape(4, 3).T[::-1],
}


@pytest.mark.parametrize("view", NEGATIVE)
def test_a14_negative_strides_are_really_copied(view):
    """A14: convert of a negative stride to PyTorch copies; share with NumPy keeps the lowest address right."""
    base = np.arange(12.0)
    x = NEGATIVE[view](base)
    decision, t = do("convert", x, "torch")
    assert decision.verdict == "copy" and decision.steps == ("layout",) and blocking(decision) == ["ST01"]
    assert decision.bytes_copied == x.nbytes and t.tolist() == x.tolist() and t.is_contiguous()
    # The range that the ledger knows begins at the lowest address, not at the first element.
    back = fh.share(fh.share(x), "numpy")
    assert back.strides == x.strides and back.tolist() == x.tolist()
    (holder,) = [h for h in fh.ledger.owner(base)["holders"] if h["framework"] == "numpy"]
    low, high = np.lib.array_utils.byte_bounds(x)
    assert (int(holder["extent_start"], 16), holder["extent_bytes"]) == (low, high - low)
    back[...] = -1
    assert (x == -1).all()


def test_a14_a_dimension_of_one_has_no_direction():
    """A14: a negative stride of a dimension with one element goes nowhere, so it is no reason to copy."""
    x = np.arange(3.0)[:1][::-1]
    assert x.strides == (-8,)
    decision, t = do("share", x, "torch")
    assert decision.verdict == "share" and t.tolist() == [0]
    t[0] = 4
    assert x[0] == 4


CASTS = [("float64", "float32"), ("float32", "float64"), ("int32", "int64"), ("uint8", "float32"), ("bool", "int64")]


@pytest.mark.parametrize("source, target", CASTS)
def test_a15_another_dtype_copies(source, target):
    """A15: convert copies when the dtype differs, between any two sides, to the values that NumPy gets."""
    x = np.array([0, 1, 1], dtype=source)
    for given, to in itertools.product((x, torch.from_numpy(x)), (None, "numpy", "torch")):
        decision, y = do("convert", given, to, dtype=target)
        assert decision.steps == ("cast",) and codes(decision) == ["CA01"] and decision.dtype == target
        np.testing.assert_array_equal(np.asarray(y), x.astype(target), strict=True)


def test_a15_a_cast_that_loses_a_value_is_refused_unless_allowed():
    """A15: 2**40+5 does not fit int32: `CA02` with how many and which, or on_loss="allow". Floats may round."""
    x = np.array([1, 2**40 + 5, -(2**50)])
    assert torch.as_tensor(x, dtype=torch.int32).tolist() != x.tolist(), "today: silently another number"
    for verb, call in [("convert", fh.convert), ("copy", fh.copy)]:
        before = copied_bytes()
        with pytest.raises(fh.BoundaryError) as error:
            call(x, "torch", dtype="int32")
        assert error.value.code == "CA02" and codes(error.value.decision)[0] == "CA02"
        assert "2 of 3 values do not fit" in str(error.value) and "x[1]=1099511627781" in str(error.value)
        assert copied_bytes() == before
        # The first line to type runs.
        assert eval(error.value.fixes[0], {"fh": fh, "x": x}).tolist() == [1, 2**31 - 1, -(2**31)], verb
    assert do("convert", np.array([1, 2]), "torch", dtype="int32")[1].dtype is torch.int32, "values that fit"
    assert do("convert", np.array([0.1]), "torch", dtype="float32")[1].item() == np.float32(0.1)


def test_a16_another_device_is_named_before_anything_moves():
    """A16: a source on a device is never taken for host memory: `DV01` names both sides; an absent device is `DV02`."""
    x = on_a_device()
    for to in ("numpy", "torch"):
        decision = fh.plan(x, to, device="cpu", copy=False)
        assert decision.verdict == "reject" and codes(decision)[0] == "DV01"
        with pytest.raises(fh.BoundaryError) as error:
            fh.share(x, "numpy")
        assert error.value.code == "DV01" and "cuda:0 -> cpu" in str(error.value)
    assert fh.share(x).device == "cuda:0", "fh.Tensor carries it as it is"
    if torch.cuda.is_available():
        pytest.skip("what follows is about a machine without a GPU")
    decision, error = do("convert", np.arange(3.0), "torch", device="cuda")
    assert codes(decision) == ["DV02"] and "have cpu" in str(error)
    with pytest.raises((AssertionError, RuntimeError)):
        torch.as_tensor(np.arange(3.0), device="cuda")


# -- A22, A23: dtypes


ONE_TO_ONE = [
    *("float32", "float64", "int32", "int64", "uint8", "bool", "complex64", "complex128"),  # the seed's table
    *("float16", "int8", "int16", "uint16", "uint32", "uint64"),
]


def any_bits(dtype, n=64):
    """Every kind of bit pattern, NaNs with payloads and negative zeros among them."""
    size = np.dtype(dtype).itemsize
    raw = np.random.default_rng(7).integers(0, 256, n * size, dtype=np.uint8)
    if dtype == "bool":
        raw &= 1
    return raw.view(dtype)


@pytest.mark.parametrize("dtype", ONE_TO_ONE)
def test_a22_dtypes_map_one_to_one_and_keep_their_bits(dtype):
    """A22: the dtype table: each NumPy dtype is PyTorch's of the same name, and the bits go there and back."""
    x = any_bits(dtype)
    decision, t = do("share", x, "torch")
    assert t.dtype is getattr(torch, dtype) and decision.dtype == dtype
    back = do("share", t, "numpy")[1]
    assert back.dtype == np.dtype(dtype) and back.tobytes() == x.tobytes() and address(back) == address(x)
    assert dtype in fh.targets()["torch"].dtypes and dtype in fh.targets()["numpy"].dtypes
    # An identity copy keeps the bits as well.
    copied = do("copy", t, "numpy", dtype=dtype)[1]
    assert copied.tobytes() == x.tobytes()


def test_a22_the_capability_table_says_what_the_frameworks_really_have():
    """A22: `fh.targets()` lists a dtype for PyTorch exactly if PyTorch imports it from us."""
    has = fh.targets()["torch"].dtypes
    for dtype in ONE_TO_ONE:
        assert (dtype in has) is (torch.from_numpy(np.zeros(2, dtype)).dtype is getattr(torch, dtype))
    assert "bfloat16" in has and torch.zeros(1, dtype=torch.bfloat16).dtype is torch.bfloat16
    assert "float32" in repr(fh.targets()) and "torch" in repr(fh.targets())


@pytest.mark.parametrize("source, target", list(itertools.product(["numpy", "torch", "freehold"], repeat=2)))
def test_a23_the_seeds_loop_over_dtypes_for_every_pair(source, target):
    """A23: the loop that prints `numpy dtype -> torch dtype`, for every pair and every dtype that both have."""
    table = fh.targets()
    names = {"numpy": "numpy", "torch": "torch", "freehold": None}
    both = set(ONE_TO_ONE)
    for name in (source, target):
        both &= set(table[name].dtypes) if name in table else both
    assert both == set(ONE_TO_ONE)
    lines = []
    for dtype in ONE_TO_ONE:
        x = fh.copy(np.array([0, 1, 1], dtype=dtype), names[source])
        decision, y = do("share", x, names[target])
        assert decision.verdict == "share" and decision.dtype == dtype
        lines.append(f"{str(x.dtype).removeprefix('torch.'):>10} -> {str(y.dtype).removeprefix('torch.')}")
    assert lines == [f"{dtype:>10} -> {dtype}" for dtype in ONE_TO_ONE]


# -- A24 to A26: layouts


def test_a24_a_strided_view_still_shares():
    """A24: `base[::2]` shares; a write through the view shows in the base and in the tensor."""
    base = np.arange(10, dtype=np.float32)
    view = base[::2]
    decision, t = do("share", view, "torch")
    assert decision.verdict == "share" and decision.layout == "strided" and t.stride() == (2,)
    view[0] = 999.0
    assert base[0] == 999 and t[0] == 999
    t[1] = -5
    assert base[2] == -5 and view[1] == -5


def test_a24_the_ledger_knows_the_view_and_what_it_spans():
    """A24: on the ledger the view is 5 of 10 elements and spans 36 of 40 bytes."""
    base = np.arange(10, dtype=np.float32)
    t = fh.share(base[::2], "torch")
    buffer = fh.ledger.owner(base)
    (holder,) = buffer["holders"]
    assert (holder["framework"], holder["shape"], holder["strides"]) == ("torch", [5], [2])
    assert (holder["extent_bytes"], buffer["len"]) == (36, 40)
    assert holder["address"] == buffer["base"] == hex(address(t))
    assert fh.explain(base, t).bytes == 20


def test_a24_a_consumer_that_needs_compact_memory_is_told_st02():
    """A24: a consumer that only takes compact memory gets `ST02` and the way out, not wrong values."""
    base = np.arange(10, dtype=np.float32)
    t = fh.share(base[::2])
    with pytest.raises(fh.BoundaryError) as error:
        hashlib.sha256(t)  # asks for a plain run of bytes
    assert error.value.code == "ST02" and 'fh.convert(t, order="C")' in str(error.value)
    compact = fh.convert(t, order="C")
    assert hashlib.sha256(compact).digest() == hashlib.sha256(base[::2].tobytes()).digest()


def test_a25_fortran_order_shares_and_says_so():
    """A25: a Fortran-ordered array shares; the tensor is not contiguous, and the decision says layout "F"."""
    arr_f = np.asfortranarray(np.arange(6).reshape(2, 3))
    decision, t_f = do("share", arr_f, "torch")
    assert decision.verdict == "share" and decision.layout == "F"
    assert not t_f.is_contiguous() and t_f.stride() == (1, 2) and t_f.tolist() == arr_f.tolist()
    t_f[1, 2] = -1
    assert arr_f[1, 2] == -1
    assert "F; not C (dim 1 has stride 2, C wants 1)" in fh.explain(t_f)
    assert fh.plan(np.zeros((2, 3)), "torch").layout == "C"


@pytest.mark.parametrize("to", [None, "numpy", "torch"])
def test_a26_contiguous_is_a_copy_with_its_bytes_named(to):
    """A26: `order="C"` of another order copies (`LY01`) and says how much; `share` has no such wish."""
    t_f = torch.arange(6).reshape(3, 2).t()
    decision, t_c = do("convert", t_f, to, order="C")
    assert (decision.verdict, decision.steps, decision.bytes_copied) == ("copy", ("layout",), 48)
    assert codes(decision) == ["LY01"] and decision.layout == "C"
    array = np.asarray(t_c)
    assert array.flags.c_contiguous and array.tolist() == t_f.tolist()
    assert fh.plan(t_f, to, order="C", copy=False).verdict == "reject"


CONTIGUOUS_ALREADY = {
    "plain": torch.zeros(2, 3),
    "a row, transposed": torch.zeros(1, 5).t(),
    "size-1 dims with any stride": torch.zeros(2, 3).as_strided((2, 1, 3), (3, 777, 1)),
    "empty": torch.zeros(0, 3).t(),
    "0-d": torch.zeros(()),
}


@pytest.mark.parametrize("case", CONTIGUOUS_ALREADY)
def test_a26_no_copy_where_it_is_contiguous_by_the_size_one_rule(case):
    """A26: dimensions of size 0 and 1 break no order: where `.contiguous()` is free, so is `order="C"`."""
    t = CONTIGUOUS_ALREADY[case]
    assert t.is_contiguous() and t.contiguous().data_ptr() == t.data_ptr()
    decision = fh.plan(t, "numpy", order="C")
    assert decision.verdict == "share" and "LY01" not in codes(decision)
    before = copied_bytes()
    array = fh.convert(t, "numpy", order="C")
    assert copied_bytes() == before and array.shape == tuple(t.shape)
    if t.numel():
        array.flat[-1] = 8
        assert t.flatten()[-1] == 8
