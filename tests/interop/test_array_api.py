"""The array API's contract of `from_dlpack`, `__dlpack__` and `__dlpack_device__`, in every combination of its arguments.

There is no package with such tests on PyPI, so these are ours: hypothesis draws a tensor (dtype, layout, owner, read-only) and
a call (device, copy, max_version, dl_device, stream), and one oracle written from the standard's words says what must come
of it. NumPy holds the expected values.
"""

import ctypes
import gc

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import freehold as fh
from capsules import DTYPES, IS_COPIED, READ_ONLY, Legacy, Versioned, name_of, opened
from producers import Made, Modern, call_with_gil, rename
from row_tools import read_only

CPU = (1, 0)
NAMES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
NAMES += ["complex64", "complex128", "bfloat16", "float8_e4m3fn"]
LAYOUTS = {
    "contiguous": lambda a: a,
    "column-major": lambda a: a.T,
    "sliced": lambda a: a[:, ::2],
    "negative": lambda a: a[::-1, ::-1],
    "row": lambda a: a[1],
    "one row of one": lambda a: a[1:2],
    "0-d": lambda a: a[1, 1:2].reshape(()),
    "empty": lambda a: a[:0],
}
VERSIONS = [None, (0, 0), (0, 8), (1, 0), (1, 1), (1, 3), (1, 99), (2, 0), (100, 3)]
# What a caller may say of a device: ours, other host memory, and devices that are not here or that nobody knows.
DEVICES = [None, CPU, (2, 0), (2, 5), (10, 0), (99, 0)]
STREAMS = [None, -1, 0, 1, 2, 3, 1 << 40]


@st.composite
def arrays(draw):
    """An array of NumPy with distinct values, in any dtype and layout."""
    kind = draw(st.sampled_from(NAMES))
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    base = (np.arange(12).reshape(3, 4) % 2 if kind == "bool" else np.arange(12).reshape(3, 4)).astype(dtype)
    return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](base)


def lent(array, owner):
    """An fh.Tensor with an array's values: (the tensor, whether it may be written, whether its memory is its own)."""
    if owner == "read-only":
        return fh.share(read_only(array)), False, False
    if owner == "a read-only view":
        return fh.share(array, writable=False), False, False
    if owner == "a copy of its own":
        return fh.copy(array), True, True
    if owner == "torch":
        return fh.share(fh.convert(array, "torch")), True, False
    return fh.share(array), True, False


OWNERS = ["numpy", "read-only", "a read-only view", "a copy of its own", "torch"]
wide = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def bytes_of(tensor, dtype):
    """The elements that a DLTensor describes, in C order."""
    shape = tuple((ctypes.c_int64 * tensor.ndim).from_address(tensor.shape)) if tensor.ndim else ()
    steps = tuple((ctypes.c_int64 * tensor.ndim).from_address(tensor.strides)) if tensor.ndim else ()
    if 0 in shape:
        return shape, steps, b""
    out = bytearray()
    for index in np.ndindex(shape):
        place = tensor.data + sum(i * step for i, step in zip(index, steps)) * dtype.itemsize
        out += ctypes.string_at(place, dtype.itemsize)
    return shape, steps, bytes(out)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("take", [lambda x, s: x.__dlpack__(stream=s), lambda x, s: x.__dlpack__(stream=s, max_version=(1, 3))])
def test_X14_host_memory_has_no_stream(take, stream):
    """X14: for the CPU the standard takes None alone; the refusal names the argument, and the tensor is as it was."""
    x = fh.copy([1.0, 2.0])
    if stream is None:
        assert name_of(take(x, stream)).startswith("dltensor")
        return
    with pytest.raises(fh.BoundaryError) as refused:
        take(x, stream)
    assert refused.value.code == "AR01" and "stream" in str(refused.value) and np.asarray(x).tolist() == [1, 2]


def contract(x, array, writable, own, asked):
    """What `__dlpack__` must give for a tensor on the CPU: None, or the name, the flags and whether it is the same memory."""
    if asked["stream"] is not None:
        return None  # "for CPU, None is the only accepted value"
    if asked["dl_device"] not in (None, CPU):
        return None  # "BufferError if the data cannot be exported to the device"
    copied = asked["copy"] is True
    version = asked["max_version"]
    if version is None or version[0] < 1:
        return None if not writable and not copied else ("dltensor", None, not copied)
    alone = copied or own
    return "dltensor_versioned", (0 if writable or copied else READ_ONLY) | (IS_COPIED if alone else 0), not copied


@wide
@given(
    array=arrays(),
    owner=st.sampled_from(OWNERS),
    stream=st.sampled_from([None, None, None, *STREAMS]),
    max_version=st.sampled_from(VERSIONS),
    dl_device=st.sampled_from([None, CPU, *DEVICES]),
    copy=st.sampled_from([None, True, False]),
)
def test_X11_every_call_of_our_method_keeps_the_contract(array, owner, **asked):
    mark = fh.ledger.mark()
    x, writable, own = lent(array, owner)
    expected = contract(x, array, writable, own, asked)
    if expected is None:
        for kind in (BufferError, ValueError):  # the standard names one here and one there
            with pytest.raises(kind):
                x.__dlpack__(**asked)
        assert x.shape == array.shape, "a refusal leaves the tensor as it was"
    else:
        capsule = x.__dlpack__(**asked)
        described(x, array, capsule, expected, asked)
        del capsule
    assert x.__dlpack_device__() == CPU
    del x
    fh.ledger.live()
    assert not fh.ledger.leaks(since=mark)


def described(x, array, capsule, expected, asked):
    """Every field of the capsule, and that the memory is shared or not as was asked."""
    name, flags, same = expected
    assert name_of(capsule) == name
    managed = opened(capsule)
    assert isinstance(managed, Legacy if name == "dltensor" else Versioned)
    assert managed.deleter and managed.manager_ctx
    if flags is not None:
        assert managed.flags == flags
        major, minor = asked["max_version"]
        assert (managed.major, managed.minor) == (1, min(minor, 3) if major == 1 else 3), "the highest that both know"
    tensor = managed.tensor
    assert (tensor.device_type, tensor.device_id, tensor.ndim) == (*CPU, array.ndim)
    assert (tensor.code, tensor.bits, tensor.lanes, tensor.byte_offset) == (*DTYPES[x.dtype], 1, 0)
    shape, steps, found = bytes_of(tensor, array.dtype)
    assert shape == array.shape and found == array.tobytes()
    assert bool(tensor.data) == (array.size > 0)
    if array.ndim:
        assert tensor.strides, "strides are always written"
    if array.size:
        assert (tensor.data == x.data_ptr) == same
        assert same or tensor.data % 256 == 0
    if array.size and same:
        assert all(a == b for a, b, n in zip(steps, x.strides, shape) if n > 1)


@wide
@given(
    array=arrays(),
    source=st.sampled_from(["numpy", "torch", "fh.Tensor", "protocol", "legacy", "capsule"]),
    locked=st.booleans(),
    device=st.sampled_from([None, None, "cpu", CPU, "cuda:0", (2, 0), (99, 0)]),
    copy=st.sampled_from([None, True, False]),
)
def test_X11_every_call_of_our_function_keeps_the_contract(array, source, locked, device, copy):
    mark = fh.ledger.mark()
    producer, keeps_flag = made_by(source, array, locked)
    if device not in (None, "cpu", CPU):
        with pytest.raises(ValueError):
            fh.from_dlpack(producer, device=device, copy=copy)
        with pytest.raises(BufferError):
            fh.from_dlpack(made_by(source, array, locked)[0], device=device, copy=copy)
    else:
        x = fh.from_dlpack(producer, device=device, copy=copy)
        assert isinstance(x, fh.Tensor) and x.shape == array.shape and x.__dlpack_device__() == CPU
        back = np.asarray(x)
        assert back.dtype == array.dtype and back.tobytes() == array.tobytes()
        if array.size:
            shares = x.data_ptr == array.__array_interface__["data"][0]
            assert shares == (copy is not True)
            assert x.writable == (copy is True or not (locked and keeps_flag))
        if array.size and x.writable:
            back[...] = 1 - back if array.dtype == bool else back + back.dtype.type(1)
            assert (back.tobytes() == array.tobytes()) == shares, "a write is seen exactly where memory is shared"
        del x, back
    del producer
    gc.collect(0)
    fh.ledger.live()
    assert not fh.ledger.leaks(since=mark)


def made_by(source, array, locked):
    """A producer over an array's own memory, and whether it can say that it is read-only."""
    kind = (*DTYPES[array.dtype.name], 1)
    strides = tuple(step // array.itemsize for step in array.strides)
    fields = dict(dtype=kind, shape=array.shape, strides=strides, flags=READ_ONLY if locked else 0)
    view = array.view()
    view.flags.writeable = not locked
    if source == "numpy":
        return view, True
    if source == "fh.Tensor":
        return fh.share(view), True
    if source == "torch" and all(step >= 0 for step in array.strides) and array.dtype != np.uint16:
        return fh.share(array, "torch"), False
    if source == "legacy":
        fields.pop("flags")
        return Modern(lambda **_: Made(array, legacy=True, **fields)), False
    if source == "capsule":
        return Made(array, **fields).capsule(), True
    return Modern(lambda **_: Made(array, **fields)), True


@pytest.mark.parametrize("wrong", ["1.0", (1,), (1, 0, 0), 1, (1.5, 0), (-1, 0), ("1", "0"), [1]])
def test_X26_a_version_that_is_none(wrong):
    with pytest.raises(fh.BoundaryError) as refused:
        fh.copy([1.0]).__dlpack__(max_version=wrong)
    assert refused.value.code == "AR01" and "max_version" in str(refused.value)


@pytest.mark.parametrize("wrong", ["gpu", (1,), (1, 0, 0), 1.5, object(), (1, "x")])
def test_X26_a_device_that_is_none(wrong):
    for call in (lambda: fh.copy([1.0]).__dlpack__(dl_device=wrong), lambda: fh.from_dlpack(np.ones(1), device=wrong)):
        with pytest.raises((fh.BoundaryError, TypeError)) as refused:
            call()
        assert not isinstance(refused.value, fh.BoundaryError) or refused.value.code in ("AR01", "DV02")


@pytest.mark.parametrize("wrong", ["yes", 2, 1.0, np.array([1, 2, 3]), object()])
def test_X26_a_copy_that_is_neither(wrong):
    for call in (lambda: fh.copy([1.0]).__dlpack__(copy=wrong), lambda: fh.from_dlpack(np.ones(1), copy=wrong)):
        with pytest.raises((TypeError, ValueError)):
            call()


def test_X26_all_arguments_are_keywords():
    x = fh.copy([1.0])
    for call in (lambda: x.__dlpack__(None), lambda: x.__dlpack__(None, (1, 0)), lambda: fh.from_dlpack(x, "cpu")):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        fh.from_dlpack(x=x)


@pytest.mark.parametrize("max_version", VERSIONS)
@pytest.mark.parametrize("copy", [None, True, False])
def test_X12_what_was_exported_can_be_consumed_once_and_is_freed_once(max_version, copy):
    array = np.arange(4.0)
    x = fh.share(array)
    capsule = x.__dlpack__(max_version=max_version, copy=copy)
    managed = opened(capsule)
    address, deleter = ctypes.addressof(managed), managed.deleter
    rename(capsule, b"used_" + name_of(capsule).encode())
    del managed, capsule, x
    call_with_gil(address, deleter)
    fh.ledger.live()
    assert fh.ledger.owner(array) is None


@pytest.mark.parametrize("take", [np.from_dlpack, torch.from_dlpack])
@pytest.mark.parametrize("copy", [None, True, False])
def test_X21_real_consumers_pass_the_arguments_on(take, copy):
    array = np.arange(6.0).reshape(2, 3)
    y = take(fh.share(array), copy=copy)
    array[0, 0] = 50
    assert (float(y[0, 0]) == 50) == (copy is not True)
    z = take(fh.share(array), device="cpu", copy=copy)
    assert float(z[0, 0]) == 50
