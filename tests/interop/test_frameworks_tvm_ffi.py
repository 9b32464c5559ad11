"""apache-tvm-ffi, both ways: a carrier of whatever a capsule says, that cannot say that memory is read-only."""

import numpy as np
import pytest

import freehold as fh
from capsules import DTYPES, PADDED, READ_ONLY
from frameworks import aligned, framework, pointer, values
from producers import Made, Modern, over_bytes, refused
from row_tools import read_only

tvm_ffi = framework("tvm_ffi")
ROW = fh._freehold._caps("tvm_ffi")


@pytest.mark.parametrize("dtype", DTYPES)
def test_X05_every_dtype_is_carried(dtype):
    producer = over_bytes((4,), dtype, legacy=True)
    carried = tvm_ffi.from_dlpack(producer)
    assert pointer(carried) == producer.exported[0].struct.tensor.data and dtype in ROW["dtypes"]
    assert fh.share(carried).dtype == dtype


def test_strides_and_dimensions_of_any_kind_are_carried():
    for shape, strides, start in [((3,), (-1,), 64), ((2, 3), (0, 1), 0), ((1,) * 64, (1,) * 64, 0), ((), (), 1)]:
        tvm_ffi.from_dlpack(over_bytes(shape, strides=strides, start=start, legacy=True))
    assert ROW["strides"] == "any" and ROW["max_ndim"] == 64 and ROW["alignment"] == 1


def test_X16_it_has_no_word_for_read_only():
    carried = tvm_ffi.from_dlpack(over_bytes((4,), flags=READ_ONLY).made().capsule())
    assert fh.share(carried).writable, "if this fails, tvm_ffi learned what read-only is"
    assert not ROW["read_only"]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "complex128"])
def test_A03_memory_is_shared_and_writes_are_seen_on_both_sides(dtype):
    a = aligned(np.arange(4).astype(dtype))
    t = fh.share(a, "tvm_ffi")
    assert isinstance(t, tvm_ffi.Tensor) and pointer(t) == pointer(a)
    a[0] = 1
    view = fh.share(t, "numpy")
    assert view[0] == 1
    view[1] = 0
    assert a[1] == 0


def test_A04_read_only_memory_is_copied_or_refused():
    a = read_only(np.arange(3.0))
    assert fh.plan(a, "tvm_ffi").codes == ("RO01",)
    assert values(fh.convert(a, "tvm_ffi")) == [0, 1, 2]
    refused("RO01", fh.share, a, "tvm_ffi")


def test_negative_strides_and_transposes_are_carried():
    a = np.arange(6.0).reshape(2, 3)
    for x in (a[::-1], a.T, a[:, ::2], a[:0], a[0, 0:1].reshape(())):
        assert np.asarray(fh.share(fh.share(x, "tvm_ffi"), "numpy")).tolist() == x.tolist()


def test_what_tvm_ffi_refuses_is_given_back():
    padded = Made(np.zeros(5, "u1"), shape=(5,), strides=(1,), dtype=(17, 4, 1), flags=PADDED)
    t = fh.from_dlpack(Modern(padded))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="not yet supported"):
            fh.share(t, "tvm_ffi")
    assert padded.deletes == 0
    del t
    assert padded.deletes == 1


def test_the_same_tensor_comes_back():
    t = tvm_ffi.from_dlpack(np.arange(3.0))
    assert fh.share(t, "tvm_ffi") is t and fh.convert(t, tvm_ffi) is t and fh.copy(t, "tvm_ffi") is not t


def test_the_ledger_names_both_sides():
    a = np.arange(3.0)
    t = fh.share(a, "tvm_ffi")
    assert sorted(holder["framework"] for holder in fh.ledger.holders(a)) == ["numpy", "tvm_ffi"]
    del t
    assert fh.ledger.owner(a) is None
