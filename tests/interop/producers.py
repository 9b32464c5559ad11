"""Hostile and odd producers: any field of a managed tensor can be set, any signature of `__dlpack__` can be had, and
every call of a deleter is counted. Their capsules have destructors, as those of real producers do.

    made = Made([1.0, 2.0, 3.0], flags=READ_ONLY)
    fh.from_dlpack(Modern(made))        # a producer with the array API's signature
    fh.from_dlpack(made.capsule())      # the bare capsule
    made.deletes                        # how often its deleter ran
"""

import ctypes
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import freehold as fh
from capsules import DTYPES, DLTensor, Legacy, Versioned, name_of, opened

CPU, CUDA, CUDA_HOST = (1, 0), (2, 0), (3, 0)
CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]

# A second set of prototypes, for a capsule that is being freed: a py_object would bring it back to life.
_raw = ctypes.PyDLL(None)
_raw.PyCapsule_IsValid.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_raw.PyCapsule_GetPointer.restype = ctypes.c_void_p
_raw.PyCapsule_GetPointer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

# Capsule names must outlive the capsules.
_NAMES = {}
# What is out there, by the address of its struct. Never emptied: a second call of a deleter is to be counted too.
_OUT = {}


def _name(text):
    return _NAMES.setdefault(text, ctypes.create_string_buffer(text))


@DELETER
def _delete(address):
    _OUT[address].deletes += 1


@DESTRUCTOR
def _destroy(capsule):
    for name in (b"dltensor", b"dltensor_versioned"):
        if _raw.PyCapsule_IsValid(capsule, name):
            made = _OUT[_raw.PyCapsule_GetPointer(capsule, name)]
            made.dropped += 1
            if made.struct.deleter:
                DELETER(made.struct.deleter)(made.address)


class Made:
    """A managed tensor over `values`, every field of which can be set to anything.

    deletes: calls of the deleter; dropped: capsules that were freed while nobody had consumed them.
    """

    def __init__(
        self,
        values=(1.0, 2.0, 3.0),
        *,
        shape="values",
        strides="values",
        dtype=None,
        ndim=None,
        data="values",
        byte_offset=0,
        device=CPU,
        version=(1, 3),
        flags=0,
        legacy=False,
        deleter=True,
        manager_ctx=0xC0FFEE,
        name=None,
    ):
        self.array = values if isinstance(values, np.ndarray) else np.array(values)
        self.deletes = self.dropped = 0
        item = self.array.dtype.itemsize
        shape = self.array.shape if shape == "values" else shape
        strides = tuple(step // item for step in self.array.strides) if strides == "values" else strides
        code, bits, lanes = dtype or (CODES[self.array.dtype.kind], item * 8, 1)
        self.shape = None if shape is None else (ctypes.c_int64 * max(len(shape), 1))(*shape)
        self.strides = None if strides is None else (ctypes.c_int64 * max(len(strides), 1))(*strides)
        tensor = DLTensor(
            self.array.ctypes.data if data == "values" else data,
            *device,
            (0 if shape is None else len(shape)) if ndim is None else ndim,
            code,
            bits,
            lanes,
            None if self.shape is None else ctypes.addressof(self.shape),
            None if self.strides is None else ctypes.addressof(self.strides),
            byte_offset,
        )
        deleter = ctypes.cast(_delete, ctypes.c_void_p).value if deleter else None
        if legacy:
            self.struct = Legacy(tensor, manager_ctx, deleter)
        else:
            self.struct = Versioned(*version, manager_ctx, deleter, flags, tensor)
        self.address = ctypes.addressof(self.struct)
        self.name = name or (b"dltensor" if legacy else b"dltensor_versioned")
        self.device = device
        _OUT[self.address] = self

    def capsule(self):
        """The capsule that owns the managed tensor: one a managed tensor."""
        return _api.PyCapsule_New(self.address, _name(self.name), ctypes.cast(_destroy, ctypes.c_void_p))


class Modern:
    """A producer with the array API's signature.

    made: a Made, or a function that makes one for each call and gets the arguments of the call.
    device: what `__dlpack_device__` says, whatever the capsule says.
    calls: the arguments of each call.
    """

    def __init__(self, made, device=None):
        self.made, self.device, self.calls, self.exported = made, device, [], []

    def export(self, **asked):
        asked = {name: value for name, value in asked.items() if value is not None}
        self.calls.append(asked)
        made = self.made(**asked) if callable(self.made) else self.made
        self.exported.append(made)
        return made.capsule()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self.export(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self):
        return self.device or (self.made.device if isinstance(self.made, Made) else CPU)


class OldStream(Modern):
    """DLPack's first signature."""

    def __dlpack__(self, stream=None):
        return self.export(stream=stream)


class NoArguments(Modern):
    """Takes nothing at all."""

    def __dlpack__(self):
        return self.export()


class AnyArguments(Modern):
    """Takes whatever comes."""

    def __dlpack__(self, **asked):
        return self.export(**asked)


class Raises(Modern):
    """Raises `made`, an exception of its own, however it is called."""

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.calls.append({"max_version": max_version})
        raise self.made


class OldRaises(Modern):
    """As Raises, with the first signature."""

    def __dlpack__(self, stream=None):
        self.calls.append({})
        raise self.made


def fresh(*values, **fields):
    """A producer that makes a new managed tensor for every call, legacy for those who do not ask for a version."""
    array = values[0] if values and isinstance(values[0], np.ndarray) else np.array(values or (1.0, 2.0, 3.0))
    return Modern(lambda max_version=None, **_: Made(array, **{"legacy": max_version is None, **fields}))


def over_bytes(shape=(4,), dtype="float32", *, memory=None, start=0, strides="compact", **fields):
    """A producer over bytes from `start` on, of any dtype that DLPack names, aligned or not."""
    array = np.frombuffer(bytearray(256) if memory is None else memory, np.uint8)[start:]
    if strides == "compact":
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    fields |= {"shape": shape, "strides": strides, "dtype": (*DTYPES[dtype], 1)}
    return Modern(lambda **_: Made(array, **fields), device=fields.get("device"))


def rename(capsule, name):
    _api.PyCapsule_SetName(capsule, _name(name))


def take(capsule):
    """Consumes a capsule as a C library does: the address of its managed tensor, and its deleter."""
    struct = opened(capsule)
    rename(capsule, b"used_" + name_of(capsule).encode())
    return ctypes.addressof(struct), struct.deleter


def call_with_gil(address, deleter):
    ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(deleter)(address)


def call_without_gil(address, deleter):
    """On this thread, which lets go of the GIL for the call."""
    DELETER(deleter)(address)


def call_on_foreign_thread(address, deleter):
    """On a thread that Python has never seen."""
    libc = ctypes.CDLL(None)
    libc.pthread_create.argtypes = [ctypes.POINTER(ctypes.c_ulong), *[ctypes.c_void_p] * 3]
    libc.pthread_join.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
    thread = ctypes.c_ulong()
    assert libc.pthread_create(ctypes.byref(thread), None, deleter, address) == 0
    assert libc.pthread_join(thread, None) == 0


class ExchangeTable(ctypes.Structure):
    """DLPackExchangeAPI, and calls of its functions."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("prev_api", ctypes.c_void_p),
        ("allocate_entry", ctypes.c_void_p),
        ("from_entry", ctypes.c_void_p),
        ("to_entry", ctypes.c_void_p),
        ("view_entry", ctypes.c_void_p),
        ("stream_entry", ctypes.c_void_p),
    ]

    @classmethod
    def of(cls, type_):
        """The table of a type."""
        capsule = type_.__dlpack_c_exchange_api__
        return cls.from_address(_api.PyCapsule_GetPointer(capsule, b"dlpack_exchange_api"))

    def managed_from(self, x):
        """A managed tensor from an object: owned by the caller."""
        call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))(self.from_entry)
        out = ctypes.c_void_p()
        assert call(x, ctypes.byref(out)) == 0
        return Versioned.from_address(out.value)

    def object_from(self, address):
        """An object from a managed tensor, which is given up."""
        call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.py_object))(self.to_entry)
        out = ctypes.py_object()
        assert call(address, ctypes.byref(out)) == 0
        # The reference that came out is the caller's; `out.value` is another one.
        x = out.value
        _api.Py_DecRef(out)
        return x

    def view_of(self, x):
        """A borrowed DLTensor of an object."""
        call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))(self.view_entry)
        out = DLTensor()
        assert call(x, ctypes.byref(out)) == 0
        return out

    def stream(self, kind, index):
        """The current stream; the place for it holds rubbish before."""
        call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))
        out = ctypes.c_void_p(0xBAD)
        assert call(self.stream_entry)(kind, index, ctypes.byref(out)) == 0
        return out.value

    def allocate(self, prototype, listen=True):
        """A managed tensor like a prototype, or (None, (kind, message)) of the error, or (None, None) unheard."""
        errors = []
        report = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
        hear = report(lambda _context, kind, message: errors.append((kind.decode(), message.decode())))
        types = [ctypes.POINTER(DLTensor), ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, report]
        out = ctypes.c_void_p()
        done = ctypes.CFUNCTYPE(ctypes.c_int, *types)(self.allocate_entry)(
            prototype, ctypes.byref(out), None, hear if listen else report()
        )
        if done == 0:
            assert not errors
            return Versioned.from_address(out.value), None
        assert out.value is None and len(errors) == listen
        return None, errors[0] if listen else None


def refused(code, call, *args, **kwargs):
    """Asserts that a call is refused with a code; gives the exception."""
    try:
        call(*args, **kwargs)
    except fh.BoundaryError as error:
        # The frames of the call would keep what it was called with alive.
        caught = error.with_traceback(None)
    else:
        pytest.fail(f"not refused: {code}")
    assert caught.code == code, str(caught)
    assert str(caught).startswith(f"[{code}] ") and caught.fixes
    return caught


def counter(name):
    """How often something happened, by the ledger."""
    return sum(entry["count"] for entry in fh.ledger.stats()["counters"] if entry["name"] == name)


def assert_runs(code, **environment):
    """Runs a program in a process of its own, which must end well and say nothing on stderr; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env={**os.environ, **environment},
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout
