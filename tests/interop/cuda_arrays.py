"""Arrays on the devices of tests/fake-cuda: producers that order streams as DLPack says, and readers.

An array has a twin on the host, of the same layout, which says what its values are. Importing this starts the driver.
"""

import ctypes
import gc
import sys
import time
import types

import numpy as np

import fake_cuda

FAKE = fake_cuda.start()

import freehold as fh  # noqa: E402, after the driver was chosen
from capsules import DTYPES, Versioned  # noqa: E402
from producers import Made, call_with_gil, take  # noqa: E402

LEGACY = 1
KINDS = {"device": 2, "pinned": 3, "managed": 13}


def settle(until, seconds=5):
    """What waits for a stream is given back by a thread, soon after."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        gc.collect()
        fh.ledger.live()
        time.sleep(0.002)
    return until()


def entered(device):
    """The context that was current before; that of a device is now."""
    before = FAKE.made("cuCtxGetCurrent")
    # Retained once a call: the driver counts, and the test compares nothing of that.
    FAKE.call("cuCtxSetCurrent", _context(device))
    return before


def _context(device, made={0: FAKE.context}):
    if device not in made:
        made[device] = FAKE.made("cuDevicePrimaryCtxRetain", ctypes.c_int(device))
    return made[device]


class Memory:
    """Memory of the driver, freed with the object."""

    def __init__(self, nbytes, device, kind):
        self.kind, before = kind, entered(device)
        if kind == "device":
            self.address = FAKE.alloc(max(nbytes, 1))
        elif kind == "managed":
            self.address = FAKE.made("cuMemAllocManaged", max(nbytes, 1), ctypes.c_uint(1))
        else:
            self.address = FAKE.made("cuMemHostAlloc", max(nbytes, 1), ctypes.c_uint(0))
        FAKE.call("cuCtxSetCurrent", before)

    def __del__(self):
        FAKE.call("cuMemFreeHost" if self.kind == "pinned" else "cuMemFree_v2", self.address)


def poke(address, data):
    """Writes at once and in no order."""
    data = np.frombuffer(data, "u1")
    assert FAKE.status("fake_cuda_poke", address, data.ctypes.data, data.nbytes) == 0


def hand_over(producer, consumer, device=0):
    """Has a consumer's stream wait for a producer's, by DLPack's rules for CUDA."""
    assert consumer != 0, "0 names no stream"
    if consumer == -1:
        return
    before = entered(device)
    event = FAKE.made("cuEventCreate", ctypes.c_uint(2))
    FAKE.call("cuEventRecord", event, producer)
    FAKE.call("cuStreamWaitEvent", LEGACY if consumer is None else consumer, event, ctypes.c_uint(0))
    FAKE.call("cuEventDestroy_v2", event)
    FAKE.call("cuCtxSetCurrent", before)


class Stream:
    """A stream of its own, which no default stream waits for. It is never destroyed, as those of frameworks."""

    def __init__(self, device=0):
        before = entered(device)
        self.ptr = FAKE.stream()
        FAKE.call("cuCtxSetCurrent", before)


class Kept(Made):
    """A managed tensor that keeps memory until its deleter runs."""

    keep, count = None, 0

    @property
    def deletes(self):
        return self.count

    @deletes.setter
    def deletes(self, count):
        self.count = count
        if count:
            self.keep = None


class Array:
    """The values and the layout of a NumPy array, in memory of the driver's.

    stream: where the values are in order. late: they are only written when that stream gets to it.
    dtype: DLPack's name, where the twin holds raw bits.
    """

    def __init__(self, twin, device=0, kind="device", stream=LEGACY, late=False, read_only=False, dtype=None):
        self.twin, self.device, self.kind, self.stream, self.read_only = twin, device, kind, stream, read_only
        self.dtype = dtype or twin.dtype.name
        base = twin
        while isinstance(base.base, np.ndarray):
            base = base.base
        self.memory = Memory(base.nbytes, device, kind)
        first = twin.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        self.address = self.memory.address + (first if twin.size else 0)
        self.calls, self.made = [], []
        data = base.tobytes(order="A")
        if late:
            self.staged = Memory(len(data), device, "pinned")
            ctypes.memmove(self.staged.address, data, len(data))
            FAKE.call("cuMemcpyHtoDAsync_v2", self.memory.address, self.staged.address, len(data), stream)
        else:
            poke(self.memory.address, data)

    @property
    def place(self):
        return KINDS[self.kind], 0 if self.kind == "pinned" else self.device

    @property
    def deletes(self):
        return sum(made.deletes for made in self.made)

    def managed(self, **fields):
        item = self.twin.dtype.itemsize
        fields = {
            "shape": self.twin.shape,
            "strides": tuple(step // item for step in self.twin.strides),
            "dtype": (*DTYPES[self.dtype], 1),
            "data": self.address if self.twin.size else None,
            "device": self.place,
            "flags": 1 if self.read_only else 0,
            **fields,
        }
        made = Kept(np.zeros(0, "u1"), **fields)
        made.keep = self.memory
        self.made.append(made)
        return made


class Producer(Array):
    """With DLPack's protocol."""

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.calls.append({"stream": stream, "max_version": max_version})
        if self.kind != "pinned":
            hand_over(self.stream, stream, self.device)
        return self.managed(legacy=max_version is None and not self.read_only).capsule()

    def __dlpack_device__(self):
        return self.place


class Interface(Array):
    """With the CUDA array interface. fields: entries that are other than right."""

    def __init__(self, twin, fields=(), **options):
        super().__init__(twin, **options)
        self.fields = dict(fields)

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.twin.shape,
            "typestr": self.twin.dtype.str,
            "data": (self.address if self.twin.size else 0, self.read_only),
            "strides": self.twin.strides,
            "stream": self.stream,
            "version": 3,
            **self.fields,
        }


class Taken:
    """What a consumer has of a capsule; gives it back when it is dropped."""

    def __init__(self, capsule):
        self.address, self.deleter = take(capsule)
        self.tensor = Versioned.from_address(self.address).tensor

    def __del__(self):
        call_with_gil(self.address, self.deleter)


def values(tensor, stream=LEGACY):
    """The bytes of an `fh.Tensor` of a device in C order, as a kernel on that stream would see them."""
    taken = Taken(tensor.__dlpack__(stream=stream, max_version=(1, 3)))
    item = max(DTYPES[tensor.dtype][1] // 8, 1)
    steps = [step * item for step in tensor.strides]
    if tensor.size == 0:
        return b""
    low = sum(min(0, (n - 1) * s) for n, s in zip(tensor.shape, steps))
    high = sum(max(0, (n - 1) * s) for n, s in zip(tensor.shape, steps)) + item
    staged = Memory(high - low, 0, "pinned")
    FAKE.call("cuMemcpyDtoHAsync_v2", staged.address, taken.tensor.data + low, high - low, stream)
    FAKE.synchronize(stream)
    raw = ctypes.string_at(staged.address, high - low)
    return np.ndarray(tensor.shape, f"V{item}", raw, -low, steps).tobytes()


class CuPy:
    """A module of that name for the length of a `with`: a consumer as CuPy is one, on a stream that a test chooses."""

    class ndarray:
        def __init__(self, x, outer):
            assert x.__dlpack_device__()[0] in (KINDS["device"], KINDS["managed"])
            self.taken = Taken(x.__dlpack__(max_version=(1, 0), stream=outer.stream or 1))

        @property
        def ptr(self):
            return self.taken.tensor.data

    def __init__(self, stream=0):
        self.stream, module = stream, types.ModuleType("cupy")
        module.from_dlpack = lambda x: CuPy.ndarray(x, self)
        current = types.SimpleNamespace(ptr=stream)
        module.cuda = types.SimpleNamespace(get_current_stream=lambda device=-1: current)
        self.module = module

    def __enter__(self):
        sys.modules["cupy"] = self.module
        return self

    def __exit__(self, *_):
        del sys.modules["cupy"]
