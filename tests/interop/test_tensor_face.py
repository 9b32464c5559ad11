"""`fh.Tensor` as every consumer sees it: DLPack, buffers, __array__, pickles, with blocks."""

import copy
import io
import pickle

import ml_dtypes
import numpy as np
import pytest
import torch
import tvm_ffi

import freehold as fh
from capsules import IS_COPIED, READ_ONLY, get_buffer, opened
from row_tools import read_only

pytestmark = pytest.mark.flat


# Flags of PyObject_GetBuffer.
SIMPLE, WRITABLE, STRIDED = 0, 0x1, 0x18
C_ORDER, F_ORDER, ANY_ORDER = 0x38, 0x58, 0x98


@pytest.fixture
def a():
    return np.arange(6, dtype="f4").reshape(2, 3)


# -- attributes -----------------------------------------------------------------------------------------------------


def test_attributes(a):
    t = fh.share(a[:, ::-1])
    assert (t.shape, t.strides, t.dtype, t.device) == ((2, 3), (3, -1), "float32", "cpu")
    assert (t.ndim, t.size, t.nbytes, t.writable, len(t)) == (2, 6, 24, True, 2)
    assert t.framework == "numpy" and t.data_ptr == a.ctypes.data + 8
    assert repr(t).startswith("fh.Tensor(f32[2,3] numpy cpu, buffer #")


def test_a_0d_tensor_has_no_length():
    with pytest.raises(TypeError):
        len(fh.copy(3.0))


# -- __dlpack__ -------------------------------------------------------------------------------------------------------


def test_what_every_capsule_of_ours_keeps_true(a):
    for source in (a, a[:, 1:], a.T, a[:0], np.float32(1).reshape(())):
        for version in (None, (1, 3)):
            managed = opened(fh.convert(source).__dlpack__(max_version=version))
            assert managed.deleter and managed.manager_ctx
            assert managed.tensor.byte_offset == 0 and managed.tensor.lanes == 1
            assert managed.tensor.ndim == source.ndim
            if source.ndim:
                assert managed.tensor.strides, "strides are always written"
            assert bool(managed.tensor.data) == (source.size > 0), "no elements, no address"


def test_read_only_never_leaves_in_a_legacy_capsule(a):
    t = fh.share(read_only(a.copy()))
    with pytest.raises(fh.BoundaryError) as refused:
        t.__dlpack__()
    assert refused.value.code == "RO01"
    assert opened(t.__dlpack__(max_version=(1, 0))).flags == READ_ONLY
    assert not np.from_dlpack(t).flags.writeable


def test_a_copy_says_that_it_is_one(a):
    t = fh.share(a)
    managed = opened(t.__dlpack__(max_version=(1, 0), copy=True))
    assert managed.flags == IS_COPIED and managed.tensor.data != t.data_ptr and managed.tensor.data % 256 == 0
    assert opened(t.__dlpack__(max_version=(1, 0), copy=False)).tensor.data == t.data_ptr
    assert opened(fh.copy(a).__dlpack__(max_version=(1, 0))).flags == IS_COPIED


def test_device_and_stream_arguments(a):
    t = fh.share(a)
    assert opened(t.__dlpack__(max_version=(1, 0), dl_device=(1, 0))).tensor.data == t.data_ptr
    with pytest.raises(fh.BoundaryError) as refused:
        t.__dlpack__(dl_device=(2, 7), copy=False)
    assert refused.value.code in ("DV01", "DV02")
    with pytest.raises(fh.BoundaryError):
        t.__dlpack__(stream=1)
    for wrong in (3, "1.0", (1,)):
        with pytest.raises(fh.BoundaryError) as refused:
            t.__dlpack__(max_version=wrong)
        assert refused.value.code == "AR01"


def test_every_consumer_here_reads_it(a):
    t = fh.share(a)
    for take in (np.from_dlpack, np.asarray, torch.from_dlpack, tvm_ffi.from_dlpack, memoryview):
        view = take(t)
        a[0, 0] += 1
        assert np.asarray(view if not isinstance(view, tvm_ffi.Tensor) else np.from_dlpack(view))[0, 0] == a[0, 0]


# -- the buffer protocol ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"])
def test_formats_are_numpys(dtype):
    array = np.zeros((2, 3), dtype)
    view = memoryview(fh.share(array))
    assert np.asarray(view).dtype == array.dtype and view.itemsize == array.itemsize and view.nbytes == array.nbytes


def test_layouts_survive(a):
    for source in (a, a.T, a[::-1], a[:, ::2], a[:0], a[0, 0:1]):
        view = np.asarray(memoryview(fh.share(source)))
        assert view.shape == source.shape and np.array_equal(view, source)
        if source.size:
            assert view.strides == source.strides


def test_a_dtype_without_a_format_is_refused():
    t = fh.share(np.zeros(3, ml_dtypes.bfloat16))
    with pytest.raises(BufferError) as refused:
        memoryview(t)
    assert refused.value.code == "DT02"
    assert np.asarray(t).dtype == ml_dtypes.bfloat16, "__array__ has one"


def test_read_only_is_honoured(a):
    t = fh.share(read_only(a.copy()))
    assert memoryview(t).readonly
    with pytest.raises(fh.BoundaryError) as refused:
        get_buffer(t, WRITABLE)
    assert refused.value.code == "RO01"
    assert get_buffer(t, SIMPLE) == (24, True) and get_buffer(fh.share(a), WRITABLE) == (24, False)
    assert io.BytesIO(np.ones(6, "f4").tobytes()).readinto(fh.share(a)) == 24
    assert a.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_simple_buffer_must_be_compact(a):
    assert bytes(fh.share(a)) == a.tobytes()
    for flags, source in ((SIMPLE, a.T), (SIMPLE, a[:, ::2]), (C_ORDER, a.T), (F_ORDER, a), (ANY_ORDER, a[:, ::2])):
        with pytest.raises(fh.BoundaryError) as refused:
            get_buffer(fh.share(source), flags)
        assert refused.value.code == "ST02"
    for flags, source in ((C_ORDER, a), (F_ORDER, a.T), (ANY_ORDER, a.T), (STRIDED, a[:, ::2])):
        assert get_buffer(fh.share(source), flags)[0] == source.nbytes


# -- __array__ ------------------------------------------------------------------------------------------------------------


def test_array_shares_or_copies_as_asked(a):
    t = fh.share(a)
    assert t.__array__().ctypes.data == a.ctypes.data
    assert t.__array__(copy=True).ctypes.data != a.ctypes.data
    assert t.__array__(np.dtype("f8")).dtype == np.float64
    with pytest.raises(ValueError):
        t.__array__(np.dtype("f8"), copy=False)


# -- pickle, copy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["bool", "int32", "float64", "complex64", "bfloat16", "float8_e4m3fn"])
def test_pickles(protocol, dtype):
    array = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, dtype, dtype))
    for source in (array, array.T, array[:, ::2], array[:0]):
        t = pickle.loads(pickle.dumps(fh.share(source), protocol=protocol))
        assert (t.shape, t.dtype) == (source.shape, dtype)
        assert np.asarray(t).tobytes() == source.tobytes() and t.writable


def test_pickles_out_of_band_without_a_copy(a):
    t, buffers = fh.share(a), []
    data = pickle.dumps(t, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 1 and len(data) < 200
    back = pickle.loads(data, buffers=buffers)
    assert back.data_ptr == a.ctypes.data
    locked = pickle.loads(pickle.dumps(fh.share(read_only(a.copy())), protocol=5))
    assert not locked.writable


def test_a_pickle_that_lies_is_refused():
    function, state = fh.share(np.zeros(3, "f4")).__reduce_ex__(5)
    for wrong in ([4], [-1], [1 << 62, 4]):
        with pytest.raises(fh.BoundaryError):
            function(state[0], wrong, *state[2:])


def test_copy_and_deepcopy(a):
    t = fh.share(a)
    assert copy.copy(t) is t
    assert copy.deepcopy(t).data_ptr != t.data_ptr


# -- with ------------------------------------------------------------------------------------------------------------------


def test_a_with_block_gives_the_view_back(a):
    mark = fh.ledger.mark()
    with fh.share(a) as t:
        assert np.median(np.from_dlpack(t)) == 2.5
        assert len(fh.ledger.leaks(since=mark)) == 1
    assert fh.ledger.leaks(since=mark) == [] and repr(t) == "fh.Tensor(given back)"
    for use in (lambda: t.shape, lambda: t.__dlpack__(), lambda: fh.share(t, "numpy"), lambda: memoryview(t)):
        with pytest.raises(fh.BoundaryError) as refused:
            use()
        assert "with block" in str(refused.value)


def test_a_view_that_outlives_the_block_is_reported_and_safe(a):
    mark = fh.ledger.mark()
    with pytest.warns(fh.BoundaryWarning, match="still lent to .*unknown"):
        with fh.share(a) as t:
            kept = np.from_dlpack(t)
    assert {holder["framework"] for holder in fh.ledger.leaks(since=mark)} == {"numpy", "unknown"}
    kept[0, 0] = 7
    assert a[0, 0] == 7
    del kept, t
