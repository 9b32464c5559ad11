"""Producers of every kind, made with ctypes: any field of a capsule can be set, and every deleter call is counted.

    made = Made([1.0, 2.0, 3.0], flags=READ_ONLY)
    fh.from_dlpack(Modern(made))        # a producer with the array API's signature
    fh.from_dlpack(made.capsule())      # the bare capsule
    made.deletes                        # how often its deleter ran
"""

import ctypes
import os
import pathlib
import subprocess
import sys

import freehold as fh
import numpy as np
import pytest

READ_ONLY, IS_COPIED, PADDED = 1, 2, 4
CPU, CUDA, CUDA_HOST, TRN = (1, 0), (2, 0), (3, 0), (18, 0)
INT, UINT, FLOAT, HANDLE, BFLOAT, COMPLEX, BOOL = range(7)


class DLDevice(ctypes.Structure):
    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class DLPackVersion(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]


class Legacy(ctypes.Structure):
    """DLManagedTensor"""

    _fields_ = [("dl_tensor", DLTensor), ("manager_ctx", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class Versioned(ctypes.Structure):
    """DLManagedTensorVersioned"""

    _fields_ = [
        ("version", DLPackVersion),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("dl_tensor", DLTensor),
    ]


class ExchangeTable(ctypes.Structure):
    """DLPackExchangeAPI"""

    _fields_ = [
        ("version", DLPackVersion),
        ("prev_api", ctypes.c_void_p),
        ("allocator", ctypes.c_void_p),
        ("from_object", ctypes.c_void_p),
        ("to_object", ctypes.c_void_p),
        ("view_of_object", ctypes.c_void_p),
        ("current_stream", ctypes.c_void_p),
    ]


assert (ctypes.sizeof(DLTensor), ctypes.sizeof(Legacy), ctypes.sizeof(Versioned)) == (48, 64, 80)
assert ctypes.sizeof(ExchangeTable) == 56

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]

# A second set of prototypes, for a capsule that is being freed: a py_object would revive it.
_raw = ctypes.PyDLL(None)
_raw.PyCapsule_IsValid.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_raw.PyCapsule_GetPointer.restype = ctypes.c_void_p
_raw.PyCapsule_GetPointer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

# Capsule names must outlive the capsules.
_NAMES = {}
# What is out there, by the address of its struct: kept alive until its deleter has run.
_OUT = {}


def _name(text):
    return _NAMES.setdefault(text, ctypes.create_string_buffer(text))


@DELETER
def _delete(address):
    made = _OUT.get(address)
    if made is None:
        os.write(2, b"deleter called for a capsule that is not out\n")
        os.abort()
    made.deletes += 1


@DESTRUCTOR
def _destroy(capsule):
    for name in (b"dltensor", b"dltensor_versioned"):
        if _raw.PyCapsule_IsValid(capsule, name):
            made = _OUT[_raw.PyCapsule_GetPointer(capsule, name)]
            made.dropped += 1
            if made.struct.deleter:
                DELETER(made.struct.deleter)(ctypes.addressof(made.struct))


class Made:
    """A managed tensor over `values`, every field of which can be set to anything.

    deletes: calls of the deleter; dropped: capsules that were freed while nobody had consumed them.
    """

    def __init__(self, values=(1.0, 2.0, 3.0), **fields):
        self.array = values if isinstance(values, np.ndarray) else np.array(values)
        self.deletes = self.dropped = 0
        self.legacy = fields.pop("legacy", False)
        kinds = {"b": BOOL, "i": INT, "u": UINT, "f": FLOAT, "c": COMPLEX}
        item = self.array.dtype.itemsize
        self.name = fields.pop("name", b"dltensor" if self.legacy else b"dltensor_versioned")
        shape = fields.pop("shape", self.array.shape)
        strides = fields.pop("strides", tuple(step // item for step in self.array.strides))
        dtype = fields.pop("dtype", None) or (kinds[self.array.dtype.kind], item * 8, 1)
        self.shape = None if shape is None else (ctypes.c_int64 * max(len(shape), 1))(*shape)
        self.strides = None if strides is None else (ctypes.c_int64 * max(len(strides), 1))(*strides)
        pointer = ctypes.POINTER(ctypes.c_int64)
        tensor = DLTensor(
            data=fields.pop("data", self.array.ctypes.data),
            device=DLDevice(*fields.pop("device", CPU)),
            ndim=fields.pop("ndim", 0 if shape is None else len(shape)),
            dtype=DLDataType(*dtype),
            shape=ctypes.cast(self.shape, pointer) if self.shape else pointer(),
            strides=ctypes.cast(self.strides, pointer) if self.strides else pointer(),
            byte_offset=fields.pop("byte_offset", 0),
        )
        common = {
            "dl_tensor": tensor,
            "manager_ctx": fields.pop("manager_ctx", 0xC0FFEE),
            "deleter": ctypes.cast(_delete, ctypes.c_void_p).value if fields.pop("deleter", True) else None,
        }
        if self.legacy:
            self.struct = Legacy(**common)
        else:
            version = DLPackVersion(*fields.pop("version", (1, 3)))
            self.struct = Versioned(version=version, flags=fields.pop("flags", 0), **common)
        assert not fields, f"unknown fields {fields}"
        _OUT[ctypes.addressof(self.struct)] = self

    @property
    def address(self):
        return ctypes.addressof(self.struct)

    def capsule(self):
        """The capsule that owns the managed tensor. One a managed tensor."""
        return _api.PyCapsule_New(self.address, _name(self.name), ctypes.cast(_destroy, ctypes.c_void_p))

    def forget(self):
        """Nothing refers to the struct any more."""
        _OUT.pop(self.address, None)


class Modern:
    """A producer with the array API's signature. `made`: a Made, or a function that makes one for each call."""

    def __init__(self, made, device=None):
        self.made, self.device, self.calls = made, device, []

    def export(self, **asked):
        self.calls.append(asked)
        made = self.made(**asked) if callable(self.made) else self.made
        return made.capsule()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        asked = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        return self.export(**{name: value for name, value in asked.items() if value is not None})

    def __dlpack_device__(self):
        if self.device is not None:
            return self.device
        device = self.made.struct.dl_tensor.device if isinstance(self.made, Made) else DLDevice(*CPU)
        return (device.device_type, device.device_id)


class OldStream(Modern):
    """DLPack's first signature."""

    def __dlpack__(self, stream=None):
        return self.export(**({} if stream is None else {"stream": stream}))


class NoArguments(Modern):
    """Takes nothing at all."""

    def __dlpack__(self):
        return self.export()


class AnyArguments(Modern):
    """Takes whatever comes."""

    def __dlpack__(self, **asked):
        return self.export(**asked)


class Raises(Modern):
    """Raises an exception of its own, however it is called."""

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.calls.append({"max_version": max_version})
        raise self.made


def name_of(capsule):
    return _api.PyCapsule_GetName(capsule)


def rename(capsule, name):
    _api.PyCapsule_SetName(capsule, _name(name))


def opened(capsule):
    """The managed tensor in a capsule, as a ctypes struct over its memory."""
    kind = {b"dltensor": Legacy, b"dltensor_versioned": Versioned}[name_of(capsule)]
    return kind.from_address(_api.PyCapsule_GetPointer(capsule, name_of(capsule)))


def take(capsule):
    """Consumes a capsule as a C consumer does: the address of its managed tensor and its deleter."""
    struct = opened(capsule)
    address, deleter = ctypes.addressof(struct), struct.deleter
    rename(capsule, b"used_" + name_of(capsule))
    return address, deleter


def call_with_gil(deleter, address):
    ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(deleter)(address)


def call_without_gil(deleter, address):
    """On this thread, with the GIL released."""
    DELETER(deleter)(address)


def call_on_foreign_thread(deleter, address):
    """On a thread that Python has never seen."""
    libc = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    start = [ctypes.POINTER(ctypes.c_ulong), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    libc.pthread_create.argtypes = start
    libc.pthread_join.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
    assert libc.pthread_create(ctypes.byref(thread), None, deleter, address) == 0
    assert libc.pthread_join(thread, None) == 0


def exchange_table(of):
    """The exchange table of a type."""
    return ExchangeTable.from_address(
        _api.PyCapsule_GetPointer(of.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    )


def through_table(table, x):
    """A managed tensor from an object by its type's table: the struct, owned by the caller."""
    out = ctypes.c_void_p()
    call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))
    assert call(table.from_object)(x, ctypes.byref(out)) == 0
    return Versioned.from_address(out.value)


def refused(code, call, *args, **kwargs):
    """Asserts that a call is refused with a code; gives the exception."""
    with pytest.raises(fh.BoundaryError) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code, str(caught.value)
    assert str(caught.value).startswith(f"[{code}] ")
    assert caught.value.fixes
    return caught.value


def counter(name):
    """How often something happened, by the ledger."""
    return sum(entry["count"] for entry in fh.ledger.stats()["counters"] if entry["name"] == name)


def run_python(code, *, check=True, **environment):
    """Runs a program in a process of its own."""
    here = str(pathlib.Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
    )


def assert_runs(code, **environment):
    """Runs a program that must end well and say nothing on stderr; gives what it printed."""
    done = run_python(code, check=False, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def clean_ledger():
    """Whatever a test opens on the ledger is closed at its end."""
    mark = fh.ledger.mark()
    yield mark
    import gc

    gc.collect()
    leaks = fh.ledger.leaks(since=mark)
    assert not leaks, leaks
