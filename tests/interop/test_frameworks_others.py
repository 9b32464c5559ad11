"""CuPy where there is no device, ONNX Runtime, and sources without DLPack: PIL, mmap, bytes, arrays, CUDA's interface."""

import array
import importlib
import mmap

import numpy as np
import pytest
import torch

import freehold as fh
from frameworks import framework, pointer
from producers import CUDA, over_bytes, refused

framework("PIL")
ort = framework("onnxruntime")
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_cuda_memory_by_interface_is_refused_where_there_is_no_device():
    class Device:
        __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (0x7F0000000000, False), "version": 3}

    for call in (fh.share, lambda x: fh.convert(x, "torch"), lambda x: fh.copy(x, "numpy")):
        assert "CUDA" in str(refused("DV02", call, Device()))
    assert fh.plan(Device(), "numpy").codes == ("DV02",)


# -- ONNX Runtime ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_an_ort_value_is_shared(dtype):
    value = ort.OrtValue.ortvalue_from_numpy(np.arange(6).reshape(2, 3).astype(dtype))
    view = fh.share(value, "numpy")
    assert view.tolist() == value.numpy().tolist() and view.dtype == dtype
    assert pointer(view) == value.data_ptr()
    assert fh.share(value, "torch").tolist() == view.tolist()


def test_X09_onnx_runtimes_null_strides_are_row_major():
    value = ort.OrtValue.ortvalue_from_numpy(np.zeros((2, 3, 4), "f4"))
    assert fh.share(value).strides == (12, 4, 1)


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
