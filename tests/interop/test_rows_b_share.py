"""Rows B01 to B15 and B27 to B32, the shares: what one side writes the other reads, and nothing was copied."""

import array
import ctypes
import gc
import resource

import numpy as np
import pytest
import torch
import tvm_ffi

import freehold as fh
from row_tools import address, blocking, codes, do, ledger_of


def write(x, index, value):
    """Writes through whatever interface a framework's object has."""
    if isinstance(x, (fh.Tensor, tvm_ffi.Tensor)):
        x = np.from_dlpack(x)
    x[index] = value


def read(x):
    return np.asarray(x).tolist() if not isinstance(x, tvm_ffi.Tensor) else np.from_dlpack(x).tolist()


def test_b01_five_libraries_one_buffer_one_ledger():
    """B01: "Two libraries. One memory space." - any number of libraries, one ledger."""
    a = np.zeros(4, dtype=np.float32)
    t = fh.share(a, "torch")
    ours = fh.share(t)
    third = tvm_ffi.from_dlpack(ours)
    view = memoryview(ours)
    again = fh.share(third, "numpy")
    sides = [a, t, ours, third, view, again]
    for i, side in enumerate(sides[:4]):
        write(side, i, float(i + 1))
        assert [read(other) for other in sides] == [read(a)] * len(sides)
    assert read(again) == [1.0, 2.0, 3.0, 4.0]
    buffer = fh.ledger.owner(a)
    assert buffer["owner"]["framework"] == "numpy" and buffer["len"] == a.nbytes
    assert {"torch", "tvm_ffi", "numpy"} <= {holder["framework"] for holder in buffer["holders"]}
    assert [b["id"] for b in fh.ledger.live() if b["base"] == buffer["base"]] == [buffer["id"]], "one buffer, one record"
    assert "many libraries, one memory space, no nonsense" in fh.__doc__.lower()
    del t, ours, third, again, sides, side, view
    gc.collect()
    assert fh.ledger.owner(a) is None


class Interface:
    """An object that offers memory in one way only."""

    def __init__(self, owner, name, value):
        self._owner = owner
        setattr(self, name, value)


class OnTheType:
    def __init__(self, owner):
        self._owner = owner

    @property
    def __array_interface__(self):
        return self._owner.__array_interface__


class LegacyDlpack:
    """An object with the first signature of __dlpack__, and nothing else."""

    def __init__(self, owner):
        self._owner = owner

    def __dlpack__(self, stream=None):
        return self._owner.__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


SOURCES = {
    "the buffer protocol: array.array": lambda a: (array.array("d", a.tolist()), None),
    "the buffer protocol: bytearray": lambda a: (memoryview(bytearray(a.tobytes())).cast("d"), None),
    "the buffer protocol: ctypes": lambda a: ((ctypes.c_double * a.size)(*a.tolist()), None),
    "__array_interface__": lambda a: (OnTheType(a), a),
    "__array_interface__ on the instance": lambda a: (
        Interface(a, "__array_interface__", a.__array_interface__),
        a,
    ),
    "__dlpack__, as in 2019": lambda a: (LegacyDlpack(a), a),
    "a capsule": lambda a: (a.__dlpack__(max_version=(1, 0)), a),
    "a C exchange table: tvm_ffi": lambda a: (tvm_ffi.from_dlpack(a), a),
}


@pytest.mark.parametrize("how", SOURCES)
@pytest.mark.parametrize("to", ["numpy", "torch", None])
def test_b04_libraries_are_reached_by_what_their_objects_offer(how, to):
    """B04: external libraries (OpenCV, SciPy, pandas, ...) come in by protocol, not by name."""
    a = np.array([1.0, 2.0, 3.0])
    x, base = SOURCES[how](a)
    shared = fh.share(x, to)
    assert read(shared) == [1.0, 2.0, 3.0]
    write(shared, 1, -5.0)
    owner = base if base is not None else np.frombuffer(x, dtype=np.float64)
    assert read(owner) == [1.0, -5.0, 3.0]
    owner[2] = 7.0
    assert read(shared) == [1.0, -5.0, 7.0]


PAIRS = {
    "numpy": lambda: np.zeros(3),
    "torch": lambda: torch.zeros(3, dtype=torch.float64),
    "freehold": lambda: fh.copy([0.0, 0.0, 0.0]),
    "tvm_ffi": lambda: tvm_ffi.from_dlpack(np.zeros(3)),
    "buffer": lambda: array.array("d", [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("source", PAIRS)
@pytest.mark.parametrize("target", ["numpy", "torch", None])
def test_b06_any_pair_shares(source, target):
    """B06: "PyTorch makes sharing memory easy": any pair does, with the same call."""
    x = PAIRS[source]()
    planned, shared = do("share", x, target)
    assert planned.verdict == "share" and planned.writable
    write(x, 0, 1.0)
    write(shared, 2, 3.0)
    assert read(x) == read(shared) == [1.0, 0.0, 3.0]


def test_b07_the_seeds_example_to_the_letter():
    """B07: arr[0] = 99 shows in the tensor; printed as PyTorch prints it, with the dtype that the seed left out."""
    arr = np.array([1.0, 2.0, 3.0])
    for t in (torch.from_numpy(arr), fh.share(arr, "torch")):
        arr[0] = 99
        assert repr(t) == "tensor([99.,  2.,  3.], dtype=torch.float64)"
        arr[0] = 1.0
    planned, t = do("share", arr, "torch")
    assert codes(planned) == ["HT01"] and "f64" in planned.reasons[0][1], "float64 came along, and the plan says so"
    t[1] = -1
    assert arr.tolist() == [1.0, -1.0, 3.0]


def test_b08_no_memory_is_copied():
    """B08: "fast and efficient - no memory copy": no bytes, no allocation, whatever the size."""
    a = np.ones(64 << 20, dtype=np.uint8)
    planned, t = do("share", a, "torch")
    assert (planned.bytes_copied, planned.bytes_allocated, planned.sync) == (0, 0, "none")
    assert t.data_ptr() == a.ctypes.data
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = [fh.share(a, "torch") for _ in range(64)]  # 4 GiB, were they copies
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10, "in KiB"
    held[63][-1] = 9
    assert a[-1] == 9 and t[-1] == 9


def test_b09_torch_to_numpy_is_the_same_memory():
    """B09: tensor.numpy() gives the same memory, and so does share(t, "numpy")."""
    t = torch.tensor([1.0, 2.0, 3.0])
    planned, arr = do("share", t, "numpy")
    assert planned.reasons == [] and planned.writable and arr.dtype == np.float32
    arr[0] = 7
    t[1] = 8
    assert arr.tolist() == t.tolist() == t.numpy().tolist() == [7.0, 8.0, 3.0]
    assert address(arr) == address(t.numpy()) == address(t)
    assert ledger_of(t) == ("torch", ["numpy"])


def test_b10_on_the_host_already_costs_nothing():
    """B10: `.cpu().numpy()`: a tensor that is on the host is shared; one without memory is not sent to `.cpu()`."""
    t = torch.tensor([1.0, 2.0])
    planned, arr = do("convert", t, "numpy", device="cpu")
    assert planned.verdict == "share" and planned.device == "cpu" and planned.bytes_copied == 0
    arr[0] = 5
    assert t[0] == 5 and t.cpu().numpy()[0] == 5
    meta = torch.empty(2, device="meta")
    planned, refused = do("convert", meta, "numpy", device="cpu")
    assert refused.code == "LY03" and not any(".cpu()" in fix for fix in refused.fixes)


def test_b13_a_numpy_function_over_a_tensor():
    """B13: np.mean(tensor.numpy(), axis=0)."""
    t = torch.arange(6.0).reshape(2, 3)
    assert np.mean(fh.share(t, "numpy"), axis=0).tolist() == t.mean(dim=0).tolist() == [1.5, 2.5, 3.5]
    t[1] += 10  # the borrowed array is gone, the tensor is not
    assert np.mean(fh.share(t, "numpy"), axis=0).tolist() == [6.5, 7.5, 8.5]


def test_b14_percentile_and_broadcasting():
    """B14: np.percentile and broadcasting over a borrowed tensor; PyTorch has both by now."""
    t = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    borrowed = fh.share(t, "numpy")
    assert np.percentile(borrowed, 50, axis=0).tolist() == [2.5, 3.5, 4.5]
    assert torch.quantile(t, 0.5, dim=0).tolist() == [2.5, 3.5, 4.5], "the claim that PyTorch lacks it is stale"
    borrowed *= np.array([1.0, 10.0, 100.0], dtype=np.float32)  # broadcast, in place, into the tensor
    assert t.tolist() == [[1.0, 20.0, 300.0], [4.0, 50.0, 600.0]]
    assert (t * torch.tensor([2.0, 1.0, 1.0]))[0].tolist() == [2.0, 20.0, 300.0]


def test_b27_numpy_to_tensor():
    """B27: NumPy -> Tensor: share(a, "torch"), for every dtype that both have."""
    both = set(fh.targets()["numpy"].dtypes) & set(fh.targets()["torch"].dtypes)
    assert len(both) >= 14
    for name in sorted(both):
        if not hasattr(np, name):
            continue  # one of ml_dtypes', which test_caps.py has
        a = np.zeros(4, dtype=name)
        planned, t = do("share", a, "torch")
        assert planned.verdict == "share" and str(t.dtype).removeprefix("torch.") == name
        t[2] = 1
        assert a.tolist() == [0, 0, 1, 0] and ledger_of(a) == ("numpy", ["torch"])


def test_b28_tensor_to_numpy():
    """B28: Tensor -> NumPy: share(t, "numpy"), for every dtype that both have."""
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64"):
        t = torch.zeros(4, dtype=getattr(torch, name))
        planned, a = do("share", t, "numpy")
        assert planned.verdict == "share" and a.dtype.name == name
        a[2] = 1
        assert t.tolist() == [0, 0, 1, 0] and ledger_of(t) == ("torch", ["numpy"])


def test_b29_device_cpu_copies_nothing_on_the_host():
    """B29: "Ensure CPU-only": device="cpu" is a share when the tensor is on the host."""
    for x, to in ((torch.ones(3), "numpy"), (np.ones(3), "torch"), (np.ones(3), None)):
        for device in ("cpu", torch.device("cpu"), (1, 0)):
            planned, y = do("convert", x, to, device=device)
            assert planned.verdict == "share" and planned.device == "cpu"
            write(y, 1, 4.0)
            assert read(x) == [1.0, 4.0, 1.0]
            write(y, 1, 1.0)


def test_b31_both_devices_are_named():
    """B31: GPU and CPU: a decision and a refusal name both devices; the ledger counts bytes by device."""
    t = torch.ones(3)
    shown = fh.plan(t, "numpy").explain()
    assert "cpu -> cpu" in shown, shown
    planned, refused = do("convert", t, "torch", device="cuda:7")
    assert refused.code == "DV02" and "cpu -> cuda:7" in str(refused) and "have cpu" in str(refused)
    assert "cpu -> cuda:7" in planned.reasons[0][1]
    d = fh.plan(t, "numpy").to_dict()
    assert (d["from_device"], d["device"]) == ("cpu", "cpu")
    held = fh.share(t, "numpy")
    by_device = {row["device"]: row for row in fh.ledger.stats()["live"]["by_device"]}
    assert by_device["cpu"]["bytes"] >= held.nbytes
    assert fh.ledger.owner(t)["device"] == "cpu"


def test_b32_cheap_conversions_and_a_policy_for_training():
    """B32: efficient, but with care in training: shares pass under the strictest policy, copies do not."""
    a = np.ones((4, 2), dtype=np.float32)
    with fh.policy(copies="error", sync="error", max_copy_bytes=0):
        shared = fh.convert(a, "torch")
        planned, refused = do("convert", a, "torch", dtype="float64")
        assert refused.code == "PO01" and "64 B" in str(refused)
        planned, refused = do("copy", a, "torch")
        assert refused.code == "PO01", "max_copy_bytes counts copies that were asked for, too"
    assert blocking(fh.plan(a, "torch", dtype="float64")) == [], "the policy ends with its block"
    shared[0, 0] = 2
    assert a[0, 0] == 2
