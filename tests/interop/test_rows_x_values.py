"""Rows X01, X02, X04 to X10: bytes that are not the values, dtypes without a code, layouts that are hard to carry.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a tensor that the frameworks of
today get wrong.
"""

import ctypes
import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from capsules import READ_ONLY
from producers import ExchangeTable, Made, Modern, fresh, opened, refused
from row_tools import address, codes, copies_made, do, ledger_of

TARGETS = ["numpy", "torch", None]


def values_of(x):
    """The values, as the framework that has them reads them."""
    if isinstance(x, torch.Tensor):
        return x.resolve_conj().resolve_neg().numpy()
    return np.asarray(x)


# -- X01: lazy bits ----------------------------------------------------------------------------------------------------


def complex_tensor(dtype=torch.complex64):
    return torch.tensor([1 + 2j, 3 - 4j, -0.5 + 0j], dtype=dtype)


LAZY = {
    "conj": lambda: complex_tensor().conj(),
    "conj, c128": lambda: complex_tensor(torch.complex128).conj(),
    "neg": lambda: complex_tensor().conj().imag,
    "neg, f64": lambda: complex_tensor(torch.complex128).conj().imag,
    "neg, i32": lambda: torch._neg_view(torch.arange(5, dtype=torch.int32)),
    "conj and neg": lambda: torch._neg_view(complex_tensor()).conj(),
    "conj, transposed": lambda: torch.arange(6).reshape(2, 3).to(torch.complex64).mul(1 + 1j).conj().T,
    "conj, of a subclass": lambda: complex_tensor().as_subclass(type("Own", (torch.Tensor,), {})).conj(),
}


def test_x01_what_the_frameworks_do_today():
    """X01, case 17: numpy refuses the conj bit, and exports the neg bit's bytes as if they were the values."""
    z = torch.tensor([1 + 2j])
    with pytest.raises((RuntimeError, BufferError)):
        z.conj().numpy()
    with pytest.raises(BufferError):
        np.from_dlpack(z.conj())
    wrong = z.conj().imag
    assert wrong.is_neg() and wrong.item() == -2
    assert np.from_dlpack(wrong)[0] == 2, "PyTorch refuses the neg bit now: say so in the documentation"


@pytest.mark.parametrize("to", ["numpy", None])
@pytest.mark.parametrize("lazy", LAZY)
def test_x01_convert_resolves_and_share_refuses(lazy, to):
    """X01: the values arrive, never the bytes; sharing them would flip signs, so it is refused."""
    t = LAZY[lazy]()
    assert t.is_conj() or t.is_neg()
    expected = t.resolve_conj().resolve_neg()
    for verb in ("convert", "copy"):
        decision, result = do(verb, t, to)
        assert decision.verdict == "copy" and "resolve" in decision.steps and codes(decision)[0] == "LZ01"
        assert decision.bytes_copied == t.numel() * t.element_size()
        assert np.array_equal(values_of(result), expected.numpy())
    decision, error = do("share", t, to)
    assert error.code == "LZ01" and decision.bytes_copied == 0
    assert "bytes in memory are" in str(error)
    # The copy is nobody's alias.
    np.asarray(result)[...] = 7
    assert np.array_equal(t.resolve_conj().resolve_neg().numpy(), expected.numpy())


@pytest.mark.parametrize("lazy", LAZY)
def test_x01_pytorch_keeps_its_own_lazy_bits(lazy):
    """X01: within PyTorch nothing has to be resolved, and the tensor itself comes back."""
    t = LAZY[lazy]()
    decision, result = do("convert", t, "torch")
    assert decision.verdict == "share" and result is t
    result.zero_()
    assert not t.any()


@pytest.mark.parametrize("lazy", LAZY)
def test_x01_a_cast_resolves_on_the_same_pass(lazy):
    """X01: one pass for the bits and the dtype."""
    t = LAZY[lazy]()
    dtype = {"complex64": "complex128", "complex128": "complex64", "float32": "float64", "float64": "float32"}
    before = copies_made()
    result = fh.convert(t, "torch", dtype=dtype.get(str(t.dtype)[6:], "int64"))
    assert np.array_equal(values_of(result), values_of(t)) and not result.is_conj() and not result.is_neg()
    assert result.dtype != t.dtype and copies_made() == before + 1


@pytest.mark.parametrize("lazy", ["conj", "neg"])
def test_x01_case_17_both_ways_out_of_pytorch(lazy):
    """X01, case 17: PyTorch's C exchange table hands out the raw bytes; Freehold goes through it and still resolves."""
    t = LAZY[lazy]()
    table = ExchangeTable.of(torch.Tensor)
    managed = table.managed_from(t)
    raw = (ctypes.c_float * 2).from_address(managed.tensor.data)
    shown, value = (raw[1], values_of(t)[0].imag) if lazy == "conj" else (raw[0], values_of(t)[0])
    assert shown == -value, "PyTorch checks the bit now: say so in the documentation"
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter)(ctypes.addressof(managed))

    x = fh.convert(t)
    # Out of Freehold by the table, by the protocol and by the buffer: no lazy bits are left anywhere.
    ours = ExchangeTable.of(fh.Tensor)
    again = ours.object_from(ctypes.addressof(ours.managed_from(x)))
    for y in (torch.from_dlpack(x), np.from_dlpack(x), np.asarray(memoryview(x)) if lazy == "neg" else x, again):
        assert np.array_equal(values_of(y), values_of(t))


def test_x01_case_17_a_graph_and_a_lazy_bit():
    """X01, case 17: a graph is asked about first, then the bit."""
    t = torch.tensor([1 + 2j], requires_grad=True).conj()
    refused("GR01", fh.convert, t, "numpy")
    assert codes(fh.plan(t, "numpy", detach=True))[0] == "LZ01"
    assert fh.convert(t, "numpy", detach=True)[0] == 1 - 2j
    refused("LZ01", fh.share, t, "numpy", detach=True)


def test_x01_negation_of_what_has_none():
    """X01: an unsigned integer has no negation that fits it, so there is nothing to resolve to."""
    t = torch._neg_view(torch.tensor([1, 2], dtype=torch.uint8))
    decision, error = do("convert", t, "numpy")
    assert error.code == "LZ01" and decision.verdict == "reject"


# -- X02: masks --------------------------------------------------------------------------------------------------------


def test_x02_a_mask_is_never_dropped():
    """X02, case 21: numpy's own export drops the mask; here it is a refusal, or `fill=` says what it means."""
    m = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    assert np.from_dlpack(m).tolist() == [1, 2, 3], "numpy keeps the mask now: say so in the documentation"
    for verb in ("share", "convert", "copy"):
        decision, error = do(verb, m, "torch")
        assert error.code == "NU01" and "1 of 3" in str(error)
    filled = fh.convert(m, "torch", fill=-1)
    assert filled.tolist() == [1, -1, 3]
    filled[0] = 9
    assert m[0] == 1
    clear = np.ma.array([1.0, 2.0])
    decision, t = do("share", clear, "torch")
    t[0] = 5
    assert clear[0] == 5 and decision.bytes_copied == 0


# -- X04: byte order ---------------------------------------------------------------------------------------------------

SWAPPED = [">f8", ">f4", ">f2", ">i8", ">i4", ">i2", ">u8", ">u4", ">u2", ">c16", ">c8"]


def test_x04_what_the_frameworks_do_today():
    """X04: PyTorch has no way in for big-endian memory, not even a copy; DLPack cannot say it."""
    x = np.arange(3, dtype=">f8")
    for call in (torch.from_numpy, torch.as_tensor, torch.tensor):
        with pytest.raises((ValueError, TypeError)):
            call(x)
    with pytest.raises(BufferError):
        torch.from_dlpack(x)


@pytest.mark.parametrize("dtype", SWAPPED)
@pytest.mark.parametrize("to", ["torch", None])
def test_x04_convert_swaps_and_share_refuses(dtype, to):
    """X04, case 21: the bytes are swapped on the one pass; a share would be of numbers that nobody meant."""
    x = np.array([1, 2, 3, 100]).astype(dtype)
    for verb in ("convert", "copy"):
        decision, result = do(verb, x, to)
        assert decision.verdict == "copy" and "resolve" in decision.steps and codes(decision)[0] == "BO01"
        assert decision.bytes_copied == x.nbytes and values_of(result).tolist() == x.tolist()
        assert values_of(result).dtype == x.dtype.newbyteorder("=")
    values_of(result)[0] = 50
    assert x[0] == 1
    decision, error = do("share", x, to)
    assert error.code == "BO01" and "big-endian" in str(error)


def test_x04_numpy_has_both_orders():
    """X04: NumPy itself reads either order, so nothing is swapped for it; a copy is native."""
    x = np.arange(4, dtype=">i4")
    decision, same = do("convert", x, "numpy")
    assert decision.verdict == "share" and same is x
    copied = fh.copy(x, "numpy")
    assert copied.dtype.isnative and copied.tolist() == [0, 1, 2, 3]
    one = np.arange(4, dtype=">u1")
    assert do("share", one, "torch")[1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[::2], np.s_[:, ::-2], np.s_[...]])
def test_x04_strides_and_a_cast_on_the_same_pass(view):
    """X04: byte order, strides and dtype are one pass, whatever the view."""
    x = np.arange(24, dtype=">f8").reshape(4, 6)[view]
    before = copies_made()
    result = fh.convert(x, "torch", dtype="float32")
    assert copies_made() == before + 1 and np.array_equal(result.numpy(), x.astype("f4"))
    entry = fh.ledger.copies()[-1]
    assert entry["bytes"] == x.size * 4 and {"BO01", "CA01"} <= set(entry["reasons"])


def test_x04_the_order_of_an_array_interface():
    """X04: `__array_interface__` says the order in its type string."""
    x = np.arange(3, dtype=">i4")
    theirs = type("Theirs", (), {"__array_interface__": property(lambda self: x.__array_interface__)})()
    assert fh.convert(theirs, "torch").tolist() == [0, 1, 2]
    refused("BO01", fh.share, theirs, "torch")


# -- X05, case 20: dtypes that one side lacks ---------------------------------------------------------------------------

BOTH = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "float16", "bfloat16", "complex64", "float8_e4m3fn"]
BOTH += ["float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("name", BOTH)
def test_x05_case_20_round_trips_keep_every_bit(name):
    """X05, case 20: through torch, numpy (with ml_dtypes) and fh.Tensor, all sharing, every bit pattern stays."""
    bits = np.arange(2 if name == "bool" else 256, dtype=np.uint8).repeat(8)
    dtype = np.dtype(name) if name in np.sctypeDict else np.dtype(getattr(ml_dtypes, name))
    a = bits.copy().view(dtype)
    t = fh.share(a, "torch")
    assert str(t.dtype) == f"torch.{name}"
    back = fh.share(fh.share(t), "numpy")
    assert back.dtype == dtype and back.tobytes() == a.tobytes() and np.shares_memory(a, back)
    back.view(np.uint8)[-1] ^= 1
    assert t.view(torch.uint8).numpy()[-1] == a.view(np.uint8)[-1] == bits[-1] ^ 1


def test_x05_raw_bits_share():
    """X05: asked for as raw bits, bfloat16 is shared as uint16, and fp8 as uint8; a value is never meant."""
    for name, raw in (("bfloat16", "uint16"), ("float8_e5m2", "uint8")):
        t = torch.tensor([1.0, -2.0], dtype=getattr(torch, name))
        decision = fh.plan(t, "numpy", dtype=raw)
        bits = fh.convert(t, "numpy", dtype=raw)
        assert decision.verdict == "share" and decision.bytes_copied == 0 and bits.dtype == raw
        bits[0] = bits[1]
        assert t.tolist() == [-2.0, -2.0]


def test_x05_case_20_sub_byte_elements():
    """X05, case 20: packed 4-bit elements, an odd number of them, arrive one by one; padded ones stay as they are."""
    values = np.array([0.5, -1.0, 6.0, 0.0, -3.0], dtype=ml_dtypes.float4_e2m1fn)
    nibbles = values.view(np.uint8)
    packed = np.array([nibbles[0] | nibbles[1] << 4, nibbles[2] | nibbles[3] << 4, nibbles[4] | 0xF0], dtype=np.uint8)
    made = Made(packed, shape=(5,), strides=(1,), dtype=(17, 4, 1))
    x = fh.from_dlpack(Modern(made))
    assert (x.shape, x.dtype, x.nbytes) == ((5,), "float4_e2m1fn", 3)
    assert fh.convert(x, "numpy", dtype="float32").tolist() == [0.5, -1, 6, 0, -3]
    assert fh.convert(x, "torch", dtype="float16").tolist() == [0.5, -1, 6, 0, -3]
    refused("DT02", fh.share, x, "torch")
    padded = Made(nibbles.copy(), shape=(5,), strides=(1,), dtype=(17, 4, 1), flags=4)
    y = fh.share(fh.from_dlpack(Modern(padded)), "numpy")
    assert y.dtype == values.dtype and y.tolist() == values.tolist()
    assert fh.convert(fh.from_dlpack(Modern(Made(nibbles.copy(), dtype=(17, 4, 1), flags=4))), dtype="float32").nbytes == 20
    del x, y
    assert made.deletes == padded.deletes == 1


def test_x05_case_20_vectors_are_named():
    """X05, case 20: two lanes of 4 bits are PyTorch's own spelling of fp4; other lanes are carried, or refused by name."""
    pairs = fresh(np.zeros(3, np.uint8), dtype=(17, 4, 2))
    assert "f4_e2m1fnx2" in repr(fh.from_dlpack(pairs))
    vectors = fresh(np.zeros(4, np.float32), shape=(1,), strides=(1,), dtype=(2, 32, 4))
    for to in ("numpy", "torch"):
        error = refused("DT02", fh.convert, vectors, to)
        assert "f32x4" in str(error)


# -- X06: dtypes without a code ----------------------------------------------------------------------------------------

NO_CODE = {
    "longdouble": (np.array([1.5, 2.5], np.longdouble), [1.5, 2.5]),
    "clongdouble": (np.array([1 + 2j], np.clongdouble), [1 + 2j]),
    "datetime64": (np.array(["1970-01-02", "1970-02-01"], "M8[D]"), [1, 31]),
    "timedelta64": (np.array([3, 4], "m8[25s]"), [3, 4]),
    "str": (np.array(["1", "22"]), [1, 22]),
    "bytes": (np.array([b"1", b"22"]), [1, 22]),
    "void": (np.array([b"ab"], "V2"), [97, 98]),
    "record": (np.array([(1, 2.5), (3, 4.5)], [("n", "i8"), ("x", "f8")]), [1, 3]),
}


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", NO_CODE)
def test_x06_refused_with_a_recipe_that_runs(name, to):
    """X06, case 21: DLPack has no code for it; the refusal's first line is run, and gives what it says."""
    x, expected = NO_CODE[name]
    with pytest.raises(TypeError):
        torch.from_numpy(x)
    for verb in ("share", "convert", "copy"):
        decision, error = do(verb, x, to)
        assert error.code == "DT03" and codes(decision) == ["DT03"]
    for i, fix in enumerate(error.fixes):
        mended = eval(fix, {"x": x})
        if i == 0:
            assert values_of(fh.convert(mended, to)).tolist() == expected
        if "shares" in fix:
            assert np.shares_memory(x, mended) and fh.explain(mended, x.view(np.uint8)).aliases
            fh.share(mended, "numpy")


def test_x06_a_date_says_its_unit():
    """X06: an int64 view of dates shares, and the unit is in the words of the refusal."""
    x = np.array(["1970-01-02"], "M8[us]")
    error = refused("DT03", fh.convert, x, "torch")
    assert "microseconds since 1970-01-01" in error.fixes[0]
    t = fh.share(x.view("int64"), "torch")
    t += 1
    assert x[0] == np.datetime64("1970-01-02T00:00:00.000001")


def test_x06_a_record_goes_field_by_field():
    """X06: each field that has a code is a tensor of its own, shared with the record."""
    x = np.array([(1, 2.5), (3, 4.5)], [("n", "i8"), ("x", "f8")])
    t = fh.share(x["x"], "torch")
    assert t.stride() == (2,)
    t[1] = 7
    assert x[1].tolist() == (3, 7.0)


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
    del a
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
