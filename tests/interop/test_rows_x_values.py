"""Rows X01, X02, X04 to X10: bytes that are not the values, dtypes without a code, layouts that are hard to carry.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a tensor that the frameworks of
today get wrong.
"""

import ctypes

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from producers import ExchangeTable, Made, Modern, fresh, refused
from row_tools import codes, copies_made, do, values_of

TARGETS = ["numpy", "torch", None]


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
