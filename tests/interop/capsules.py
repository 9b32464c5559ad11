"""A DLPack producer made of ctypes, whose every field a test can set, and which counts what its consumers do."""

import ctypes
import itertools

READ_ONLY, IS_COPIED, PADDED = 1, 2, 4

# Code and bits of every dtype of DLPack 1.3 that has a name, as dlpack.h numbers them.
DTYPES = {
    "bool": (6, 8),
    **{f"int{bits}": (0, bits) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (1, bits) for bits in (8, 16, 32, 64)},
    **{f"float{bits}": (2, bits) for bits in (16, 32, 64)},
    "bfloat16": (4, 16),
    "complex32": (5, 32),
    "complex64": (5, 64),
    "complex128": (5, 128),
    "float8_e3m4": (7, 8),
    "float8_e4m3": (8, 8),
    "float8_e4m3b11fnuz": (9, 8),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
    "float8_e5m2fnuz": (13, 8),
    "float8_e8m0fnu": (14, 8),
    "float6_e2m3fn": (15, 6),
    "float6_e3m2fn": (16, 6),
    "float4_e2m1fn": (17, 4),
    "int4": (0, 4),
    "uint4": (1, 4),
    "int2": (0, 2),
    "uint2": (1, 2),
    "uint1": (1, 1),
}


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    ]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


class Legacy(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("manager_ctx", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

# Capsules keep a pointer to their name, and consumers to the struct: both stay for the life of the process.
_NAMES = {name: ctypes.create_string_buffer(name) for name in (b"dltensor", b"dltensor_versioned", b"someone_elses")}
_KEPT = {}
_numbers = itertools.count(1)


def name_of(capsule):
    """The name of a capsule: it says whether a consumer took it."""
    return _api.PyCapsule_GetName(capsule).decode()


def managed_of(capsule, kind=Versioned):
    """The struct in a capsule, which it keeps alive."""
    managed = kind.from_address(_api.PyCapsule_GetPointer(capsule, _api.PyCapsule_GetName(capsule)))
    managed.capsule = capsule
    return managed


class Buffer(ctypes.Structure):
    """`Py_buffer`, for the flags that no Python function asks with."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def get_buffer(x, flags):
    """Asks for a buffer with these flags, and gives it back: `len`, `readonly`."""
    view = Buffer()
    _api.PyObject_GetBuffer(ctypes.py_object(x), ctypes.byref(view), ctypes.c_int(flags))
    found = view.len, bool(view.readonly)
    _api.PyBuffer_Release(ctypes.byref(view))
    return found


class Producer:
    """An object with `__dlpack__`. `memory` is its bytes, `deleted` how often its deleter was called."""

    def __init__(
        self,
        shape=(4,),
        dtype="float32",
        *,
        strides="compact",
        memory=None,
        start=0,
        byte_offset=0,
        flags=0,
        version=(1, 3),
        device=(1, 0),
        announced="device",
        ndim=None,
        lanes=1,
        code=None,
        bits=None,
        data="memory",
        deleter=True,
        legacy=False,
        name=None,
    ):
        own_code, own_bits = DTYPES[dtype]
        self.shape, self.dtype = tuple(shape), dtype
        if strides == "compact":
            strides, step = [], 1
            for n in reversed(self.shape):
                strides.insert(0, step)
                step *= max(n, 1)
        self.strides = None if strides is None else tuple(strides)
        self.memory = memory if memory is not None else bytearray(256)
        self._view = (ctypes.c_uint8 * len(self.memory)).from_buffer(self.memory)
        self._shape = (ctypes.c_int64 * max(1, len(self.shape)))(*self.shape)
        self._strides = None if self.strides is None else (ctypes.c_int64 * max(1, len(self.shape)))(*self.strides)
        address = ctypes.addressof(self._view) + start if data == "memory" else data
        self.tensor = DLTensor(
            address,
            *device,
            len(self.shape) if ndim is None else ndim,
            own_code if code is None else code,
            own_bits if bits is None else bits,
            lanes,
            ctypes.addressof(self._shape),
            None if self._strides is None else ctypes.addressof(self._strides),
            byte_offset,
        )
        self.flags, self.version, self.legacy, self.name = flags, version, legacy, name
        self.announced = device if announced == "device" else announced
        self.deleted, self.calls, self.arguments = 0, 0, []
        self._with_deleter = deleter

        @Deleter
        def call(_pointer):
            self.deleted += 1

        self._deleter = call

    def capsule(self):
        """A new capsule without a destructor: what nobody consumes is never released."""
        deleter = ctypes.cast(self._deleter, ctypes.c_void_p).value if self._with_deleter else None
        if self.legacy:
            managed = Legacy(self.tensor, None, deleter)
            name = b"dltensor"
        else:
            managed = Versioned(*self.version, None, deleter, self.flags, self.tensor)
            name = b"dltensor_versioned"
        _KEPT[next(_numbers)] = (managed, self)
        return _api.PyCapsule_New(ctypes.addressof(managed), _NAMES[self.name or name], None)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.calls += 1
        self.arguments.append({"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy})
        return self.capsule()

    def __dlpack_device__(self):
        return self.announced
