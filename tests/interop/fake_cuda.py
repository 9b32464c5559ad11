"""The CUDA driver of tests/fake-cuda: memory on its devices, and the knobs that steer it. Loaded by its path alone.

    fake = fake_cuda.start()           # the process's driver from now on
    memory = fake.array(values)        # the values on device 0, behind an address that the host cannot read
    fake.hold(True)                    # nothing that is queued runs
    fake.races(), fake.live()["events"]

A process has one driver, so files that start this one run in a process of their own (test_apart.py).
"""

import ctypes
import os
from pathlib import Path

import numpy as np

VARIABLE = "FREEHOLD_CUDA_LIBRARY"
NAME = "libfreehold_fake_cuda.so"
# Pinned by `LIVE` in tests/fake-cuda/src/controls.rs.
LIVE = """device_bytes pool_used pool_reserved pinned_bytes managed_bytes blocks streams events modules pools graphs captures
retained contexts_made pending failures_left races""".split()
SUCCESS, NOT_READY = 0, 600


class Failed(Exception):
    """A call of the driver that this module made, and what it returned."""


def path():
    """Where the driver was built, or None: where FREEHOLD_FAKE_CUDA says, or below cargo's target directory."""
    named = os.environ.get("FREEHOLD_FAKE_CUDA")
    root = Path(__file__).parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    for file in [Path(named)] if named else [root / target / profile / NAME for profile in ("debug", "release")]:
        if file.is_file():
            return file
    return None


def start():
    """Makes the driver that of this process. Before anything asked for CUDA."""
    file = path()
    if file is None:
        raise FileNotFoundError("tests/fake-cuda is not built: cargo build -p freehold-fake-cuda")
    if os.environ.setdefault(VARIABLE, str(file)) != str(file):
        raise RuntimeError(f"{VARIABLE} names another driver: {os.environ[VARIABLE]}")
    return Fake(file)


def _places(*arguments):
    return [argument if isinstance(argument, ctypes._SimpleCData) else ctypes.c_uint64(argument) for argument in arguments]


class Fake:
    """One driver, with the context of device 0 current on this thread."""

    def __init__(self, file):
        self.file = file
        self.library = ctypes.CDLL(str(file))
        self.call("cuInit", ctypes.c_uint(0))
        self.context = self.made("cuDevicePrimaryCtxRetain", ctypes.c_int(0))
        self.call("cuCtxSetCurrent", self.context)

    # -- the driver's own functions

    def status(self, name, *arguments):
        """Calls a function; numbers are of 64 bits unless they say otherwise."""
        return getattr(self.library, name)(*_places(*arguments))

    def call(self, name, *arguments):
        status = self.status(name, *arguments)
        if status != SUCCESS:
            raise Failed(name, status)

    def made(self, name, *arguments):
        """What a function writes to its first argument, as 64 bits."""
        place = ctypes.c_uint64(0)
        self.call(name, ctypes.c_uint64(ctypes.addressof(place)), *arguments)
        return place.value

    def stream(self, blocking=False):
        return self.made("cuStreamCreate", ctypes.c_uint(0 if blocking else 1))

    def synchronize(self, stream):
        self.call("cuStreamSynchronize", stream)

    def alloc(self, nbytes):
        return self.made("cuMemAlloc_v2", nbytes)

    def free(self, address):
        self.call("cuMemFree_v2", address)

    def array(self, values, stream=1):
        """The bytes of an array on the device."""
        values = np.ascontiguousarray(values)
        address = self.alloc(max(values.nbytes, 1))
        self.call("cuMemcpyHtoDAsync_v2", address, values.ctypes.data, values.nbytes, stream)
        self.synchronize(stream)
        return address

    def fill(self, address, byte, nbytes, stream):
        self.call("cuMemsetD8Async", address, ctypes.c_ubyte(byte), nbytes, stream)

    # -- the knobs; in no order with anything

    def peek(self, address, dtype, count):
        """What is in device memory now."""
        out = np.empty(count, dtype)
        if self.status("fake_cuda_peek", address, out.ctypes.data, out.nbytes) != SUCCESS:
            raise Failed("fake_cuda_peek", address)
        return out

    def live(self):
        counts = (ctypes.c_uint64 * len(LIVE))()
        self.library.fake_cuda_live.restype = ctypes.c_size_t
        assert self.status("fake_cuda_live", ctypes.addressof(counts), len(LIVE)) == len(LIVE), "LIVE is out of date"
        return dict(zip(LIVE, counts))

    def _text(self, name):
        function = getattr(self.library, name)
        function.restype = ctypes.c_size_t
        room = function(None, ctypes.c_size_t(0)) + (1 << 16)
        buffer = ctypes.create_string_buffer(room)
        function(buffer, ctypes.c_size_t(room))
        return buffer.value.decode()

    def log(self):
        """The calls of the driver, a line each."""
        return self._text("fake_cuda_log").splitlines()

    def races(self):
        """Work of two streams on the same bytes that nothing orders, a line each."""
        return self._text("fake_cuda_races").splitlines()

    def calls(self, function=None):
        self.library.fake_cuda_calls.restype = ctypes.c_uint64
        return self.library.fake_cuda_calls(None if function is None else function.encode())

    def hold(self, held, stream=None):
        """Nothing that is queued, on a stream or anywhere, runs until it is let go."""
        if stream is None:
            self.library.fake_cuda_hold(int(held))
        else:
            self.call("fake_cuda_hold_stream", stream, ctypes.c_int(held))

    def set_delay(self, seconds, stream=None):
        """How long a stream, or each of them, waits before each operation."""
        if stream is None:
            self.status("fake_cuda_set_delay_ns", int(seconds * 1e9))
        else:
            self.call("fake_cuda_set_stream_delay_ns", stream, int(seconds * 1e9))

    def set_memory(self, device, nbytes):
        assert self.status("fake_cuda_set_memory", ctypes.c_int(device), nbytes) == SUCCESS

    def fail_at(self, nth, status):
        """The nth call from now (1 is the next) does nothing and returns the status."""
        self.status("fake_cuda_fail_at", nth, ctypes.c_int(status))

    def fail_function(self, function, nth, status):
        self.library.fake_cuda_fail_function(function.encode(), ctypes.c_uint64(nth), ctypes.c_int(status))

    def forget_failures(self):
        self.library.fake_cuda_forget_failures.restype = ctypes.c_uint64
        return self.library.fake_cuda_forget_failures()

    def drain(self):
        assert self.library.fake_cuda_drain() == SUCCESS

    def reset(self):
        """Every setting as it was, nothing pending, an empty log."""
        self.library.fake_cuda_reset()
