"""Rows X07 to X10 and X25, and their hard cases: strides in bytes, alignment, nothing at all, overlap, offsets."""

import ctypes
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import freehold as fh
from capsules import READ_ONLY, opened
from producers import Made, Modern, fresh, refused
from row_tools import address, codes, do, ledger_of, values_of

TARGETS = ["numpy", "torch", None]


# -- X07: strides in bytes ---------------------------------------------------------------------------------------------


def packed_field():
    x = np.zeros(4, np.dtype([("tag", "i1"), ("value", "f4")]))
    x["value"] = [1, 2, 3, 4]
    return x["value"]


def test_x07_what_the_frameworks_do_today():
    """X07: PyTorch and DLPack count strides in elements, so a field of a packed record has none."""
    with pytest.raises(ValueError):
        torch.from_numpy(packed_field())
    with pytest.raises(BufferError):
        np.from_dlpack(packed_field())


@pytest.mark.parametrize("to", ["torch", None])
def test_x07_a_field_of_a_packed_record(to):
    """X07: `layout ST03` under convert, refused under share."""
    x = packed_field()
    assert x.strides == (5,)
    decision, result = do("convert", x, to)
    assert decision.verdict == "copy" and decision.steps == ("layout",) and codes(decision)[0] == "ST03"
    assert decision.bytes_copied == 16 and values_of(result).tolist() == [1, 2, 3, 4]
    values_of(result)[0] = 9
    assert x[0] == 1
    decision, error = do("share", x, to)
    assert error.code == "ST03" and "5 bytes" in str(error)


def test_x07_numpy_strides_are_bytes():
    """X07: NumPy takes the field as it is, and writes through it."""
    x = packed_field()
    theirs = type("Theirs", (), {"__array_interface__": property(lambda self: x.__array_interface__)})()
    y = fh.share(theirs, "numpy")
    y[2] = 30
    assert x.tolist() == [1, 2, 30, 4] and y.strides == (5,)
    assert fh.explain(x, theirs).bytes == 16
    buffered = fh.share(memoryview(x), "numpy")
    assert buffered.tolist() == x.tolist()


# -- X08: alignment ----------------------------------------------------------------------------------------------------


def unaligned(dtype="f8", n=4, by=1):
    memory = np.zeros(n * np.dtype(dtype).itemsize + 64, np.uint8)
    x = memory[(-memory.ctypes.data) % 64 + by :][: n * np.dtype(dtype).itemsize].view(dtype)
    x[:] = np.arange(1, n + 1)
    return x


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i2", "u8"])
def test_x08_unaligned_memory_is_shared_where_the_target_takes_it(dtype):
    """X08, case 16: numpy and torch take any address, so it is shared, and written through both sides."""
    x = unaligned(dtype)
    assert not x.flags.aligned
    for to in TARGETS:
        decision, y = do("share", x, to)
        assert decision.verdict == "share" and address(y) == address(x)
        assert values_of(y).tolist() == [1, 2, 3, 4]
    t = fh.share(x, "torch")
    t[1] = 20
    x[2] = 30
    assert t.tolist() == x.tolist() == [1, 20, 30, 4]


@pytest.mark.parametrize("dtype, by", [("c16", 1), ("c16", 8), ("c8", 4)])
def test_x08_vector_code_never_gets_unaligned_memory(dtype, by):
    """X08: PyTorch's complex type is aligned to its own size, and complex128 crashes it where it is not."""
    x = unaligned(dtype, by=by)
    decision, t = do("convert", x, "torch")
    assert decision.steps == ("layout",) and codes(decision)[0] == "AG01" and decision.bytes_copied == x.nbytes
    assert address(t) % 16 == 0 and (t + t).tolist() == [2, 4, 6, 8]
    t[0] = 9
    assert x[0] == 1
    decision, error = do("share", x, "torch")
    assert error.code == "AG01" and f"multiple of {x.itemsize}" in str(error)
    # NumPy reads any address, and an aligned view of the same memory is shared.
    do("share", x, "numpy")
    assert do("share", unaligned(dtype, by=x.itemsize), "torch")[0].verdict == "share"


@pytest.mark.parametrize("offset, ends", [(8, -11), (16, 0)])
def test_x08_what_pytorch_does_with_it_today(offset, ends):
    """X08: a complex128 array that NumPy calls aligned crashes PyTorch (SIGSEGV), as long as this test passes."""
    program = f'''if True:
        import numpy as np, torch
        memory = np.zeros(1024, np.uint8)
        x = memory[-memory.ctypes.data % 64 + {offset}:][:37 * 16].view("c16")
        assert x.flags.aligned
        t = torch.from_numpy(x)
        t.fill_(2); t.add_(1); t[1] = 3; (t * t).sum(); t.clone(); t.flip(0)
    '''
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == ends


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "c16"])
def test_x08_our_own_memory_is_aligned_for_everyone(dtype):
    """X08, case 16: copies start at a multiple of 256 bytes, whatever they are copied from; a cast reads unaligned."""
    x = unaligned(dtype)
    for to in TARGETS:
        assert address(fh.copy(x, to)) % 256 == 0
        assert values_of(fh.copy(x, to)).tolist() == [1, 2, 3, 4]
    wide = fh.convert(x, dtype="complex128" if dtype == "c16" else "float64", copy=True)
    assert values_of(wide).tolist() == [1, 2, 3, 4] and wide.data_ptr % 256 == 0


def test_x08_case_15_a_capsule_with_an_odd_address():
    """X08, case 15: a producer's pointer that is aligned to nothing is read as it is."""
    memory = np.zeros(17, np.uint8)
    memory[1:].view("f4")[:] = [1, 2, 3, 4]
    made = Made(memory, shape=(4,), strides=(1,), dtype=(2, 32, 1), byte_offset=1)
    t = fh.share(Modern(made), "torch")
    t[3] = 40
    assert t.tolist() == [1, 2, 3, 40] and memory[1:].view("f4")[3] == 40
    assert "aligned to 1 B" in fh.explain(t)
    del t
    assert made.deletes == 1


# -- X09: nothing, one, and no strides ---------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (3, 0, 2)])
@pytest.mark.parametrize("data", [0, 1, "values"])
@pytest.mark.parametrize("to", TARGETS)
def test_x09_case_10_nothing_in_it(to, data, shape, legacy):
    """X09, case 10: no elements: whatever the pointer is, it is accepted, never touched, and the deleter runs."""
    made = Made(np.zeros(1), shape=shape, strides=(1,) * len(shape), data=data, legacy=legacy)
    x = fh.share(Modern(made), to)
    assert tuple(x.shape) == shape
    again = fh.share(x, "torch" if to == "numpy" else "numpy")
    assert tuple(again.shape) == shape
    capsule = fh.share(again).__dlpack__(max_version=(1, 3))
    assert opened(capsule).tensor.data is None, "DLPack wants NULL here"
    del x, again, capsule
    fh.ledger.live()
    assert made.deletes == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_x09_case_11_no_dimensions(legacy):
    """X09, case 11: ndim 0, and neither shape nor strides."""
    made = Made(np.array(5.0), shape=None, strides=None, legacy=legacy)
    t = fh.share(Modern(made), "torch")
    assert t.shape == () and t.item() == 5
    t.fill_(6)
    assert made.array == 6
    a = fh.share(t, "numpy")
    a[...] = 7
    assert made.array == 7 and a.flags.c_contiguous
    del a, t
    fh.ledger.live()
    assert made.deletes == 1


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("ndim", range(1, 6))
def test_x09_case_7_no_strides(ndim, legacy):
    """X09, case 7: NULL strides are compact row-major; ours are always written, and the producer's stay NULL."""
    array = np.arange(2.0**ndim).reshape((2,) * ndim)
    made = Made(array, strides=None, legacy=legacy)
    x = fh.from_dlpack(Modern(made))
    assert x.strides == tuple(2**i for i in reversed(range(ndim)))
    assert np.array_equal(np.from_dlpack(x), array) and np.array_equal(fh.share(x, "torch").numpy(), array)
    capsule = x.__dlpack__(max_version=(1, 3))
    strides = (ctypes.c_int64 * ndim).from_address(opened(capsule).tensor.strides)
    assert tuple(strides) == x.strides and made.struct.tensor.strides is None
    # The capsule's strides are its own: a consumer that writes to them changes nobody else's.
    strides[0] = 99
    assert x.strides[0] == 2 ** (ndim - 1)
    del x, capsule
    fh.ledger.live()
    assert made.deletes == 1


@pytest.mark.parametrize("stride", [0, 3, 777, -1, -(2**40)])
def test_x09_case_12_a_stride_that_means_nothing(stride):
    """X09, case 12: where a dimension has one element, its stride is noise: contiguous, shared, no copy for order=."""
    array = np.arange(6.0).reshape(2, 1, 3)
    made = Made(array, strides=(3, stride, 1))
    decision = fh.plan(fresh(array, strides=(3, stride, 1)), "torch", order="C")
    assert decision.verdict == "share" and decision.bytes_copied == 0 and decision.layout == "C"
    t = fh.convert(Modern(made), "torch", order="C")
    assert t.is_contiguous() and np.array_equal(t.numpy(), array)
    t[1, 0, 2] = 50
    assert array[1, 0, 2] == 50
    a = fh.share(t, "numpy")
    assert a.flags.c_contiguous
    memoryview(fh.share(a))
    del a, t
    fh.ledger.live()
    assert made.deletes == 1


def test_x09_numpy_views_with_size_one_dims():
    """X09: the same with the strides that NumPy itself leaves in such places."""
    x = np.lib.stride_tricks.as_strided(np.arange(4.0), (4, 1), (8, 777))
    decision, t = do("share", x, "torch")
    assert decision.verdict == "share" and t.view(4).tolist() == [0, 1, 2, 3]
    assert do("convert", np.ones((5, 1))[::5], "torch", order="C")[0].verdict == "share"
    assert do("convert", np.ones((1, 5)).T, "torch", order="C")[0].verdict == "share"


# -- X10: overlapping elements -----------------------------------------------------------------------------------------


def test_x10_what_the_frameworks_do_today():
    """X10, case 14: PyTorch shares a broadcast as if each element were its own, and numpy gets it back writable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t = torch.from_numpy(np.broadcast_to(np.arange(3.0), (2, 3)))
    assert t.stride() == (0, 1)
    assert torch.arange(3.0).expand(2, 3).numpy().flags.writeable


OVERLAPPING = {
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "windows": lambda: torch.arange(5.0).as_strided((3, 3), (1, 1)),
    "numpy windows": lambda: np.lib.stride_tricks.as_strided(np.arange(5.0), (3, 3), (8, 8)),
    "capsule": lambda: fresh(np.arange(3.0), shape=(4, 3), strides=(0, 1)),
    "legacy capsule": lambda: fresh(np.arange(3.0), shape=(4, 3), strides=(0, 1), legacy=True),
}


@pytest.mark.parametrize("source", OVERLAPPING)
def test_x10_case_14_shared_read_only(source):
    """X10, case 14: one byte that is several elements is shared read-only, with AL02; a demand to write is refused."""
    x = OVERLAPPING[source]()
    decision, view = do("share", x)
    assert decision.verdict == "share" and not decision.writable and codes(decision)[0] == "AL02"
    assert not view.writable and not np.from_dlpack(view).flags.writeable
    with pytest.raises(ValueError):
        np.asarray(view)[0, 0] = 1
    error = refused("AL02", fh.share, x, writable=True)
    assert "stride" in str(error)
    decision, copied = do("copy", x)
    assert copied.writable and np.array_equal(np.asarray(copied), np.asarray(view))
    np.asarray(copied)[0, 0] = 77
    assert (np.asarray(copied) == 77).sum() == 1 and np.asarray(view)[0, 0] != 77


@pytest.mark.parametrize("source", ["expanded", "windows"])
def test_x10_from_torch_to_numpy(source):
    """X10, case 14: what `expand().numpy()` makes writable is read-only here."""
    x = OVERLAPPING[source]()
    decision, a = do("convert", x, "numpy")
    assert codes(decision)[0] == "AL02" and not a.flags.writeable and np.shares_memory(a, x.numpy())
    x[0, 0] = 50
    assert a[0, 0] == 50


@pytest.mark.parametrize("source", ["numpy windows", "capsule", "legacy capsule"])
def test_x10_into_torch_which_has_no_read_only(source):
    """X10, case 14: PyTorch cannot be told, so it gets a copy, or nothing; `trust` is on record as a hazard."""
    x = OVERLAPPING[source]()
    decision, t = do("convert", x, "torch")
    assert decision.verdict == "copy" and codes(decision)[0] == "AL02" and t.is_contiguous()
    t[0, 0] = 9
    assert (t == 9).sum() == 1
    refused("AL02", fh.share, x, "torch")
    before = len(fh.ledger.hazards())
    with fh.policy(readonly="trust"):
        trusted = fh.share(x, "torch")
    assert 0 in trusted.stride() or trusted.stride() == (1, 1)
    assert [hazard["code"] for hazard in fh.ledger.hazards()[before:]] == ["AL02"]


def test_x10_a_broadcast_array_is_read_only_anyway():
    """X10: NumPy marks its own broadcasts; the reason given is the owner's flag."""
    x = np.broadcast_to(np.arange(3.0), (4, 3))
    decision, view = do("share", x)
    assert codes(decision) == ["RO02"] and not view.writable
    assert do("convert", x, "torch")[0].codes[0] == "RO01"


# -- negative strides (case 13), read-only (case 1), offsets (case 6) ----------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_x25_case_13_a_negative_stride_has_its_lowest_address_on_the_ledger(legacy):
    """X25, case 13: shared with numpy, copied for torch, and found on the ledger by any byte of it."""
    array = np.arange(6.0)
    made = Made(array, data=array.ctypes.data + 40, strides=(-1,), legacy=legacy)
    a = fh.share(Modern(made), "numpy")
    assert a.tolist() == [5, 4, 3, 2, 1, 0]
    a[5] = 60
    assert array[0] == 60
    for byte in (0, 20, 47):
        assert fh.ledger.owner(array.ctypes.data + byte)["owner"]["framework"] == "producers"
        assert len(fh.ledger.holders(array.ctypes.data + byte)) == 2
    assert fh.ledger.owner(array.ctypes.data - 1) is None and fh.ledger.owner(array.ctypes.data + 48) is None
    assert fh.explain(a, array).bytes == 48
    decision, t = do("convert", a, "torch")
    assert decision.steps == ("layout",) and codes(decision)[0] == "ST01" and t.tolist() == a.tolist()
    refused("ST01", fh.share, a, "torch")
    assert ledger_of(array) == ("producers", ["numpy"])
    del a, decision
    assert made.deletes == 1


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("to", TARGETS)
def test_x11_case_6_an_offset_is_honoured_and_folded(to, legacy):
    """X11, case 6: the first element is `data + byte_offset` coming in, and `data` going out."""
    array = np.arange(8.0)
    made = Made(array, shape=(3,), byte_offset=16, legacy=legacy)
    x = fh.share(Modern(made), to)
    assert values_of(x).tolist() == [2, 3, 4] and address(x) == array.ctypes.data + 16
    values_of(x)[0] = 20
    assert array[2] == 20
    capsule = fh.share(x).__dlpack__(max_version=(1, 3))
    assert opened(capsule).tensor.byte_offset == 0 and opened(capsule).tensor.data == array.ctypes.data + 16
    del x, capsule
    fh.ledger.live()
    assert made.deletes == 1


@pytest.mark.parametrize("flags, version", [(READ_ONLY, (1, 0)), (READ_ONLY, (1, 3)), (READ_ONLY | 1 << 40, (1, 99))])
def test_x16_case_1_read_only_memory_is_never_silently_writable(flags, version):
    """X16, case 1: PyTorch would take a READ_ONLY capsule and write through it; here it gets a copy or a refusal."""
    array = np.arange(3.0)
    taken = torch.from_dlpack(fresh(array, flags=flags, version=version))
    taken[0] = 9
    assert array[0] == 9, "PyTorch honours READ_ONLY now: say so in the documentation"
    x = fresh(array, flags=flags, version=version)
    decision, t = do("convert", x, "torch")
    assert decision.verdict == "copy" and decision.steps == ("fresh",) and codes(decision)[0] == "RO01"
    t[0] = 5
    assert array[0] == 9
    refused("RO01", fh.share, x, "torch")
    decision, a = do("share", x, "numpy")
    assert not a.flags.writeable and "RO02" in codes(decision)
    array[0] = 4
    assert a[0] == 4
    with fh.policy(readonly="reject"):
        refused("RO01", fh.convert, x, "torch")
