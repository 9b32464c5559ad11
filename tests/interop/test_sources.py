"""Everything that can be handed over besides NumPy's and PyTorch's own, and what is said of what cannot."""

import array
import ctypes
import fractions
import warnings

import ml_dtypes
import numpy as np
import pytest
import torch
import tvm_ffi

import freehold as fh
from producers import Made, Modern, refused

pandas = pytest.importorskip("pandas")


# -- __dlpack__ ------------------------------------------------------------------------------------------------------------


def test_a_builtin_signature_is_asked_without_a_tensor_being_made():
    t = tvm_ffi.from_dlpack(np.arange(3.0))
    assert np.asarray(fh.from_dlpack(t)).tolist() == [0, 1, 2]
    assert fh.share(t).framework == "tvm_ffi"


def test_a_class_that_changes_is_asked_again():
    class Late:
        pass

    x = Late()
    refused("OB01", fh.share, x)
    made = Made([1.0, 2.0])
    Late.__dlpack__ = lambda self, **_: made.capsule()
    Late.__dlpack_device__ = lambda self: (1, 0)
    assert fh.share(x).shape == (2,)
    Late.__dlpack__ = lambda self: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fh.share(x)


def test_many_types_do_not_confuse_the_cache():
    for i in range(500):
        kind = type(f"Kind{i}", (Modern,) if i % 2 else (), {})
        if i % 2:
            assert fh.share(kind(Made())).shape == (3,)
        else:
            refused("OB01", fh.share, kind())


# -- buffers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_arrays_of_the_standard_library(code):
    numbers = array.array(code, [1, 2, 3])
    t = fh.share(numbers)
    assert np.asarray(t).tolist() == [1, 2, 3] and t.dtype == np.dtype(code).name and t.writable
    np.asarray(t)[1] = 7
    assert numbers[1] == 7
    assert torch.equal(fh.convert(numbers, "torch", dtype="float32"), torch.tensor([1.0, 7, 3]))


def test_bytes_are_bytes():
    assert not fh.share(b"abc").writable and fh.share(bytearray(b"abc")).writable
    assert fh.share(b"abc", "numpy").tolist() == [97, 98, 99]
    assert fh.copy(b"abc", "torch").tolist() == [97, 98, 99]
    assert fh.share(memoryview(b"abcdef")[::2], "numpy").tolist() == [97, 99, 101]
    refused("RO01", fh.share, b"abc", "torch")


def test_memoryviews_of_any_shape():
    view = memoryview(bytearray(range(12))).cast("B", (3, 4))
    t = fh.share(view)
    assert t.shape == (3, 4) and np.asarray(t)[2, 1] == 9
    numbers = (ctypes.c_float * 3 * 2)((1, 2, 3), (4, 5, 6))
    assert fh.share(numbers, "numpy").tolist() == [[1, 2, 3], [4, 5, 6]]
    swapped = (ctypes.c_int32.__ctype_be__ * 2)(1, 256)
    refused("BO01", fh.share, swapped)
    assert fh.convert(swapped, "numpy").tolist() == [1, 256]


def test_buffers_that_are_no_numbers():
    class Pair(ctypes.Structure):
        _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_float)]

    assert "format" in str(refused("DT03", fh.share, (Pair * 2)()))
    refused("DT03", fh.share, array.array("u", "abc"))


class Interface:
    def __init__(self, array=None, **changes):
        self.array = array
        self.__array_interface__ = {**(array.__array_interface__ if array is not None else {}), **changes}


def test_array_interface():
    a = np.arange(6, dtype="i2").reshape(2, 3)
    t = fh.share(Interface(a[:, ::-1]), "numpy")
    assert t.tolist() == [[2, 1, 0], [5, 4, 3]]
    t[0, 0] = 9
    assert a[0, 2] == 9
    a.flags.writeable = False
    assert not fh.share(Interface(a)).writable
    assert fh.convert(Interface(a.astype(">i2")), "numpy").tolist() == a.tolist()
    held = Interface(shape=(2,), typestr="<f4", data=bytearray(np.ones(2, "f4").tobytes()), version=3)
    assert fh.share(held, "torch").tolist() == [1, 1]


def test_array_interfaces_that_lie():
    small = bytearray(8)
    for changes in (
        {"shape": (3,)},
        {"shape": (2,), "strides": (8,)},
        {"shape": (2,), "strides": (-4,)},
        {"shape": (2,), "offset": 4},
        {"shape": (2,), "offset": -4},
    ):
        held = Interface(**{"typestr": "<f4", "data": small, "version": 3, **changes})
        refused("OB01", fh.share, held)
    refused("OB01", fh.share, Interface(typestr="<f4", data=small))
    refused("DT03", fh.share, Interface(shape=(1,), typestr="<M8[ns]", data=small))


# -- values --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        3,
        True,
        2.5,
        1 + 2j,
        [],
        [[], []],
        [1, 2, 3],
        (1, 2.5),
        [[True, False]],
        [True, 2],
        [1, 2j],
        range(5),
        [[[1]], [[2]]],
        [(1, 2), [3, 4]],
        [2**63],
        [float("nan"), float("inf")],
        [-0.0],
    ],
)
def test_sequences_are_numpys(values):
    ours, theirs = fh.copy(values, "numpy"), np.array(values)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    assert ours.tobytes() == theirs.tobytes()
    assert fh.plan(values, "numpy").verdict == "copy"


def test_a_list_is_built_with_the_dtype_asked_for():
    assert fh.copy([[1, 2], [3, 4]], "torch", dtype="float32").tolist() == [[1, 2], [3, 4]]
    assert fh.convert([1, 2], dtype=torch.uint8).dtype == "uint8"
    assert "2 of 3 values" in str(refused("CA02", fh.copy, [1, 300, -1], dtype="uint8"))
    # NumPy would make a float64 of these, and round.
    assert fh.copy([0, 2**64 - 1], "numpy").tolist() == [0, 2**64 - 1]
    assert fh.copy([300, -1, 2.5], "numpy", dtype="uint8", on_loss="allow").tolist() == [255, 0, 2]


def test_A20_lists_own_no_memory():
    for values in ([1, 2], (1.0,), 3, range(4), np.float32(1)):
        text = str(refused("OB01", fh.share, values))
        assert "owns no tensor memory" in text and "fh.copy(x)" in text
        refused("OB01", fh.convert, values, copy=False)


@pytest.mark.parametrize(
    "values",
    [
        [np.float32(1), np.float32(2)],
        [np.float32(1), 2],
        [1, np.float32(2), True],
        [np.int8(1), np.int16(2)],
        [[np.uint8(1)], [np.int8(-1)]],
        [np.uint64(2**63), -1],
        (np.bool_(True), np.bool_(False)),
        [np.complex64(1j), 1.5],
    ],
)
def test_numpys_scalars_among_numbers_are_promoted_by_numpy(values):
    ours, theirs = fh.copy(values, "numpy"), np.array(values)
    assert ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes() and ours.shape == theirs.shape
    refused("OB01", fh.share, values)


def test_numpys_scalars_do_not_hide_what_is_no_box():
    for values in ([np.float32(1), [2]], [[np.float32(1)], [2, 3]], [np.float32(1), np.zeros(1)], [1, np.zeros(2)]):
        assert "box" in str(refused("DT01", fh.copy, values))
    refused("CA02", fh.copy, [np.float32(1), 2**70])
    refused("DT01", fh.copy, [np.float32(1), "a"])


@pytest.mark.parametrize("sparse", ["csr_matrix", "coo_array"])
def test_X19_scipys_sparse_arrays_have_no_dense_buffer(sparse):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    x = getattr(scipy_sparse, sparse)(np.eye(2))
    error = refused("LY02", fh.convert, x, "torch")
    assert np.asarray(eval(error.fixes[0], {"x": x})).tolist() == [[1, 0], [0, 1]]


def test_X06_records_with_masks():
    x = np.ma.masked_array([(1, 2)], mask=[(0, 1)], dtype="i4,i4")
    refused("DT03", fh.convert, x, "numpy")
    assert fh.convert(x["f0"], "numpy").tolist() == [1]
    refused("NU01", fh.convert, x["f1"], "numpy")
    assert fh.convert(np.ma.masked, "numpy", fill=5).tolist() == 5


def test_lists_of_arrays_are_stacked():
    rows = [np.arange(3.0), np.arange(3.0) * 2]
    assert fh.copy(rows, "torch").tolist() == [[0, 1, 2], [0, 2, 4]]
    assert fh.copy([[torch.ones(2)], [np.zeros(2, "f4")]], "numpy").tolist() == [[[1, 1]], [[0, 0]]]
    assert fh.copy([np.float64(1), np.float64(2)], "numpy").tolist() == [1, 2]
    refused("DT01", fh.copy, [np.zeros(2), np.zeros(3)])
    refused("DT01", fh.copy, [np.zeros(2), np.zeros(2, "f4")])


def test_what_no_dtype_holds():
    refused("CA02", fh.copy, [2**64])
    refused("CA02", fh.copy, [-(2**63) - 1])
    refused("CA02", fh.copy, [2**53 + 1, 0.5])
    for ragged in ([[1], [2, 3]], [1, [2]], [[1], 2], [[[1]], [[1, 2]]]):
        assert "box" in str(refused("DT01", fh.copy, ragged))
    for thing in (["a"], [None], [fractions.Fraction(1, 2)], [{}]):
        refused("DT01", fh.copy, thing)
    for thing in ("text", None, object(), {}, {1, 2}, fractions.Fraction(1, 2)):
        refused("OB01", fh.copy, thing)
    nested = []
    nested.append(nested)
    refused("DT01", fh.copy, nested)


# -- NumPy's odd dtypes (X06) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array, code, text, fix",
    [
        (np.array(["a", "b", 3], object), "DT01", "2 of 3 elements are str", "x.astype"),
        (np.array(["2024-01-01"], "M8[ns]"), "DT03", "nanoseconds since 1970", 'x.view("int64")'),
        (np.array([1], "m8[25s]"), "DT03", "units of 25 seconds", 'x.view("int64")'),
        (np.zeros(1, np.longdouble), "DT03", "long double", 'x.astype("float64")'),
        (np.zeros(1, np.clongdouble), "DT03", "long double", 'x.astype("complex128")'),
        (np.array(["ab"]), "DT03", "text", "x.astype"),
        (np.array([b"ab"]), "DT03", "text", "x.astype"),
        (np.zeros(2, [("a", "f4"), ("b", "i1")]), "DT03", "2 fields", 'x["a"]'),
        (np.zeros(2, "V3"), "DT03", "raw bytes", "uint8"),
        (np.array(["ab"], np.dtypes.StringDType()), "DT01", "str", "x.astype"),
    ],
)
def test_X06_each_dtype_has_a_recipe(array, code, text, fix):
    told = str(refused(code, fh.convert, array, "torch"))
    assert text in told and fix in told
    plan = fh.plan(array, "torch")
    assert not plan and plan.codes == (code,)


def test_X06_the_recipes_work():
    times = np.array(["2024-01-01", "2024-01-02"], "M8[D]")
    assert fh.share(times.view("int64"), "torch").tolist() == [19723, 19724]
    records = np.array([(1, 2), (3, 4)], [("a", "f4"), ("b", "f4")])
    assert fh.share(records["a"], "torch").tolist() == [1, 3]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"])
def test_X05_ml_dtypes_and_torch(name):
    a = np.arange(1, 5).astype(getattr(ml_dtypes, name))
    t = fh.share(a, "torch")
    assert t.dtype == getattr(torch, name)
    back = fh.share(t, "numpy")
    assert back.dtype == a.dtype and back.tobytes() == a.tobytes() and back.ctypes.data == a.ctypes.data
    bits = {1: "uint8", 2: "uint16"}[a.itemsize]
    raw = fh.convert(t, "numpy", dtype=bits)
    assert raw.dtype == bits and raw.ctypes.data == a.ctypes.data


def test_masked_arrays():
    a = np.ma.masked_array(np.arange(4.0), mask=[0, 1, 0, 0])
    assert "1 of 4" in str(refused("NU01", fh.convert, a, "torch"))
    assert fh.convert(a, "torch", fill=-1).tolist() == [0, -1, 2, 3]
    whole = np.ma.masked_array(np.arange(3.0))
    assert fh.share(whole, "torch").data_ptr() == whole.data.ctypes.data
    unmasked = np.ma.masked_array(np.arange(3.0), mask=[0, 0, 0])
    assert fh.share(unmasked, "torch").tolist() == [0, 1, 2]


def test_subclasses_of_arrays():
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2]])
    assert fh.share(matrix, "torch").tolist() == [[1, 2]]
    assert fh.share(np.rec.array([(1.0, 2.0)], names="a,b")["a"], "torch").tolist() == [1]


def test_memmaps_keep_their_rights(tmp_path):
    path = tmp_path / "values"
    np.arange(4, dtype="f4").tofile(path)
    refused("RO01", fh.share, np.memmap(path, "f4", "r"), "torch")
    lent = fh.share(np.memmap(path, "f4", "r+"), "torch")
    lent[0] = 9
    del lent
    assert np.fromfile(path, "f4")[0] == 9


# -- PyTorch's odd tensors (X01, X19) -------------------------------------------------------------------------------------


def test_X19_what_has_no_dense_storage():
    eye = torch.eye(2)
    for sparse in (eye.to_sparse(), eye.to_sparse_csr()):
        assert "to_dense" in str(refused("LY02", fh.convert, sparse, "numpy"))
    refused("LY03", fh.convert, torch.empty(2, device="meta"), "numpy")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(3)
    refused("LY03", fh.convert, fake, "numpy")
    seen = []
    torch.vmap(lambda t: seen.append(fh.plan(t, "numpy").codes) or t)(eye)
    assert seen == [("LY03",)]
    with warnings.catch_warnings(action="ignore"):  # PyTorch says once in a process that they are going
        quantised = torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.quint8)
    assert "dequantize" in str(refused("DT03", fh.convert, quantised, "numpy"))


def test_X01_lazy_bits():
    c = torch.tensor([1 + 2j])
    for lazy, value in ((c.conj(), 1 - 2j), (c.conj().imag, -2), (torch._neg_view(torch.tensor([3])), -3)):
        refused("LZ01", fh.share, lazy, "numpy")
        assert fh.convert(lazy, "numpy").tolist() == [value]
        assert fh.convert(lazy).dtype == str(lazy.dtype)[6:]


def test_subclasses_of_tensors():
    parameter = torch.nn.Parameter(torch.ones(2))
    refused("GR01", fh.share, parameter, "numpy")
    assert not fh.share(parameter, "numpy", detach=True).flags.writeable

    class Mine(torch.Tensor):
        pass

    assert fh.share(torch.ones(2).as_subclass(Mine), "numpy").tolist() == [1, 1]


def test_X18_a_small_view_of_a_large_tensor():
    large = torch.zeros(1_000_000)
    plan = fh.plan(large[:10], "numpy")
    assert plan.verdict == "share" and "HT02" in [hint.code for hint in plan.hints]
    assert "HT02" in fh.plan(np.zeros(1_000_000)[5:10], "torch").codes
    assert "HT02" not in fh.plan(large, "numpy").codes


# -- pandas --------------------------------------------------------------------------------------------------------------------


def test_pandas_columns():
    df = pandas.DataFrame({"a": [1.0, 2.0], "b": [1, 2], "c": ["x", "y"]})
    assert fh.convert(df["a"], "torch", dtype="float32").tolist() == [1, 2]
    assert fh.share(df["a"], "numpy").tolist() == [1, 2]
    assert fh.convert(df["b"], "torch").dtype == torch.int64
    refused("DT01", fh.share, df["c"], "torch")
    missing = pandas.Series([1, None, 3], dtype="Int64")
    assert "1 of 3" in str(refused("NU01", fh.convert, missing, "torch"))
    assert fh.convert(missing, "torch", fill=0).tolist() == [1, 0, 3]
    whole = pandas.Series([1, 2], dtype="Int64")
    assert fh.convert(whole, "torch").dtype == torch.int64
    assert fh.convert(pandas.Index([1.5, 2.5]), "torch").tolist() == [1.5, 2.5]
