"""CuPy where there is no device, Dr.Jit, unknown producers, and sources without DLPack: PIL, mmap, bytes, arrays, CUDA's interface."""

import array
import importlib
import mmap
import sys
import types

import numpy as np
import pytest
import torch

import freehold as fh
from capsules import READ_ONLY, name_of, opened
from frameworks import framework
from producers import CUDA, Made, Modern, OldStream, call_without_gil, over_bytes, refused, rename, take

framework("PIL")
framework("drjit")
drjit = importlib.import_module("drjit.scalar")
Image = importlib.import_module("PIL.Image")


# -- CuPy ------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_A32_host_memory_for_cupy_needs_a_device_that_is_not_here():
    for x in (np.zeros(3, "f4"), torch.zeros(3), [1.0]):
        error = refused("DV02", fh.convert, x, "cupy")
        assert "cuda" in str(error) and "cpu" in str(error)
        assert fh.plan(x, "cupy").codes == ("DV02",)
    refused("DV02", fh.share, np.zeros(3), "cupy")
    refused("DV02", fh.copy, np.zeros(3), "cupy", device="cuda:0")


def test_cupys_row_is_about_device_memory():
    row = fh._freehold._caps("cupy")
    assert "cpu" not in row["device_kinds"] and "cuda" in row["device_kinds"] and not row["read_only"]
    assert fh.plan(over_bytes((3,), device=CUDA, data=0x7F0000000000), "cupy", copy=False).verdict == "share"
    assert "float8_e5m2" not in row["dtypes"] and fh.targets()["cupy"].target


# -- __cuda_array_interface__ ------------------------------------------------------------------------------------------------


class Cupy(types.ModuleType):
    """Stands in for CuPy where it cannot run: notes what it is called with, and takes the capsule as CuPy does."""

    def __init__(self):
        super().__init__("cupy")
        self.calls = []

    def from_dlpack(self, x, **wishes):
        self.calls.append(wishes)
        assert x.__dlpack_device__() == CUDA, "CuPy looks where it is first, and takes no memory of the host"
        capsule = x.__dlpack__(stream=1, max_version=(1, 0))
        assert name_of(capsule) == "dltensor_versioned"
        self.taken, self.struct = take(capsule), opened_before(capsule)
        return self


def opened_before(capsule):
    """The fields of a capsule that was just taken."""
    rename(capsule, b"dltensor_versioned")
    struct = opened(capsule)
    rename(capsule, b"used_dltensor_versioned")
    return struct


@pytest.mark.parametrize("verb", [fh.share, fh.convert])
def test_cupy_is_called_once_and_gets_a_versioned_capsule(monkeypatch, verb):
    fake = Cupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    source = over_bytes((3,), device=CUDA, data=0x7F0000000000)
    assert verb(source, "cupy") is fake and fake.calls == [{}]
    tensor = fake.struct.tensor
    assert (tensor.data, tensor.byte_offset, tensor.ndim) == (0x7F0000000000, 0, 1) and fake.struct.flags == 0
    assert (tensor.device_type, tensor.device_id) == CUDA and tensor.strides
    assert source.calls == [{"stream": 1, "max_version": (1, 3)}], "nobody asked for a stream: the default one"
    made = source.exported[0]
    assert made.deletes == 0
    call_without_gil(*fake.taken)
    assert made.deletes == 1


def test_cupys_stream_is_passed_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", Cupy())
    source = over_bytes((3,), device=CUDA, data=0x7F0000000000)
    y = fh.share(source, "cupy", stream=7)
    assert source.calls == [{"max_version": (1, 3), "stream": 7}]
    call_without_gil(*y.taken)


def test_cupy_is_not_called_for_what_it_would_refuse(monkeypatch):
    fake = Cupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    for source, code in (
        (over_bytes((3,), device=CUDA, data=0x7F0000000000, flags=READ_ONLY), "RO01"),
        (over_bytes((3,), "float8_e5m2", device=CUDA, data=0x7F0000000000), "DT02"),
        (over_bytes((3,), device=(14, 0), data=0x7F0000000000), "DV02"),
        (np.zeros(3, "f4"), "DV02"),
    ):
        refused(code, fh.share, source, "cupy")
    assert fake.calls == []


def test_what_cupy_raises_arrives_and_nothing_leaks(monkeypatch):
    fake = Cupy()
    fake.from_dlpack = lambda x: {}["mine"]
    monkeypatch.setitem(sys.modules, "cupy", fake)
    source = over_bytes((3,), device=CUDA, data=0x7F0000000000)
    with pytest.raises(KeyError, match="mine"):
        fh.share(source, "cupy")
    fh.ledger.live()
    assert source.exported[0].deletes == 1


class CupyArray:
    """Stands in for `cupy.ndarray`, which has DLPack's method with all its arguments, and CUDA's interface beside it."""

    __module__ = "cupy"

    def __init__(self, **fields):
        self.lent = over_bytes((3,), device=CUDA, data=0x7F0000000000, **fields)

    def __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None):
        return self.lent.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self):
        return CUDA

    @property
    def __cuda_array_interface__(self):
        pytest.fail("the interface does not say which device it is, and DLPack does")


def test_cupys_arrays_are_asked_once_for_a_versioned_capsule():
    x = CupyArray()
    y = fh.share(x)
    assert (y.framework, y.device, y.data_ptr) == ("cupy", "cuda:0", 0x7F0000000000)
    assert x.lent.calls == [{"stream": 1, "max_version": (1, 3)}]
    fh.share(x, stream=5)
    assert x.lent.calls[1:] == [{"max_version": (1, 3), "stream": 5}]
    del y
    fh.ledger.live()
    assert [made.deletes for made in x.lent.exported] == [1, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
@pytest.mark.parametrize("to", ["numpy", "pyarrow"])
def test_A28_cupys_arrays_do_not_come_to_the_host_by_themselves(to):
    x = CupyArray()
    assert "DV0" in refused(fh.plan(x, to).codes[0], fh.convert, x, to).code
    refused(fh.plan(x, to, copy=False).codes[0], fh.share, x, to)
    fh.ledger.live()
    assert all(made.deletes == 1 for made in x.lent.exported) and all("copy" not in call for call in x.lent.calls)


def test_cupys_device_is_a_device():
    device = type("Device", (), {"__module__": "cupy.cuda", "id": 3, "__str__": lambda self: "<CUDA Device 3>"})()
    assert "cuda:3" in str(refused("DV02", fh.convert, np.zeros(3), device=device))
    stranger = type("Device", (), {"id": 3, "__str__": lambda self: "<Device 3>"})()
    refused("AR01", fh.convert, np.zeros(3), device=stranger)


# -- Dr.Jit: DLPack's first signature ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ArrayXf", "ArrayXf64", "ArrayXi", "ArrayXu64", "ArrayXf16", "Array3f", "TensorXf"])
@pytest.mark.parametrize("to", ["numpy", "torch", None])
def test_drjits_arrays_arrive_through_the_first_signature(name, to):
    kind = getattr(drjit, name)
    x = kind([1, 0, 3], (3,)) if "Tensor" in name else kind([1, 0, 3])
    with pytest.raises(TypeError):
        x.__dlpack__(max_version=(1, 0))  # if this passes, Dr.Jit has learned the second
    y = fh.convert(x, to)
    theirs = np.asarray(x)
    assert np.array_equal(np.asarray(fh.share(y, "numpy")), theirs) and fh.share(y, "numpy").dtype == theirs.dtype
    assert fh.share(x).framework == "drjit"


def test_drjit_has_matrices_and_nothing_at_all():
    assert fh.convert(drjit.Matrix2f([[1, 2], [3, 4]]), "numpy").tolist() == [[1, 2], [3, 4]]
    assert fh.convert(drjit.ArrayXf(), "numpy").shape == (0,)
    assert fh.copy(drjit.ArrayXf([1, 2]), "torch", dtype="float64").tolist() == [1, 2]


def test_drjits_booleans_and_what_it_takes_of_ours():
    flags = drjit.TensorXb(drjit.ArrayXb([True, False]), (2,))
    assert fh.share(flags, "torch").tolist() == [True, False] and str(fh.plan(flags, "numpy").dtype) == "bool"
    x = drjit.ArrayXf([1, 2, 3])
    fh.share(x, "numpy")[0] = 9
    assert x[0] == 9, "the same memory"
    for a in (np.ones((2, 3), "f4"), np.frombuffer(bytes(24), "f4").reshape(2, 3)):
        taken = drjit.TensorXf(fh.share(a))
        assert taken.shape == (2, 3) and np.array_equal(np.asarray(taken), a)
    with pytest.raises(TypeError):  # it takes row-major memory only, and says so itself
        drjit.TensorXf(fh.share(np.ones((2, 4), "f4")[:, ::2]))
    assert drjit.TensorXf(fh.convert(np.ones((2, 4), "f4")[:, ::2], order="C")).shape == (2, 2)


# -- whoever has the protocol, and is not known ---------------------------------------------------------------------------------


class Proxy:
    """Passes every attribute on, as wrapt's and others' proxies do: its type has nothing."""

    def __init__(self, of):
        self.of = of

    def __getattr__(self, name):
        return getattr(self.of, name)


@pytest.mark.parametrize("kind", [Modern, OldStream])
def test_X26_a_proxy_is_asked_as_an_object(kind):
    """X26: the method is the object's and not its type's; what it takes is read from its signature all the same."""
    modern = kind is Modern
    x = kind(lambda **_: Made([1.0, 2.0], legacy=not modern))
    assert fh.share(Proxy(x), "numpy").tolist() == [1, 2]
    assert x.calls == [{"max_version": (1, 3)} if modern else {}]
    a = np.ones(3)
    assert np.shares_memory(fh.share(Proxy(a), "numpy"), a)
    refused("OB01", fh.share, Proxy(object()))  # nothing was remembered of the type
    assert fh.share(Proxy(torch.ones(2)), "numpy").tolist() == [1, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_cuda_memory_by_interface_is_refused_where_there_is_no_device():
    class Device:
        __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (0x7F0000000000, False), "version": 3}

    for call in (fh.share, lambda x: fh.convert(x, "torch"), lambda x: fh.copy(x, "numpy")):
        assert "CUDA" in str(refused("DV02", call, Device()))
    assert fh.plan(Device(), "numpy").codes == ("DV02",)


# -- sources without DLPack ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "shape"), [("L", (2, 3)), ("RGB", (2, 3, 3)), ("RGBA", (2, 3, 4))])
def test_B11_images_arrive(mode, shape):
    image = Image.new(mode, (3, 2), 7 if mode == "L" else (7,) * shape[-1])
    pixels = fh.convert(image, "torch")
    assert tuple(pixels.shape) == shape and pixels.dtype == torch.uint8 and int(pixels.min()) == 7
    assert np.array_equal(fh.convert(image, "numpy", dtype="float32"), np.asarray(image).astype("f4"))


def test_A20_bytes_mmap_and_arrays(tmp_path):
    assert fh.convert(b"abc", "torch").tolist() == [97, 98, 99]
    numbers = array.array("d", [1.0, 2.0])
    view = fh.share(numbers, "numpy")
    view[0] = 5
    assert numbers[0] == 5
    path = tmp_path / "file"
    path.write_bytes(bytes(range(8)))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        t = fh.share(mapped, "torch")
        t[0] = 255
        assert mapped[0] == 255
        del t
        fh.ledger.live()  # PyTorch lets go without the GIL: what it held is given back at the next call
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        refused("RO01", fh.share, mapped, "torch")
        view = fh.share(mapped, "numpy")
        assert view.tolist() == [255, *range(1, 8)] and not view.flags.writeable
        del view


def test_what_is_installed_is_listed_with_versions():
    found = fh.targets()
    for name in ("jax", "tensorflow", "paddle", "mlx", "pyarrow", "tvm_ffi", "cupy"):
        assert found[name].target and found[name].dtypes
    for name in ("polars", "onnxruntime", "pandas"):
        assert not found[name].target and found[name].version


def test_a_target_that_is_not_there_says_which_there_are():
    error = refused("AR01", fh.share, np.zeros(3), "tensorlow")
    assert '"tensorflow"' in str(error) and '"mlx"' in str(error)
