"""The rows of `Caps`, measured against the frameworks themselves: what each takes is asked of it, not believed."""

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from capsules import DTYPES, PADDED, READ_ONLY
from producers import CUDA_HOST, over_bytes

ROWS = {name: fh._freehold._caps(name) for name in ("numpy", "torch")}


def accepts(take, producer):
    """Whether a framework takes a producer, with no help of ours."""
    try:
        take(producer)
        return True
    except (RuntimeError, BufferError, ValueError, TypeError):
        return False


# -- PyTorch: through its own from_dlpack ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_takes_these_dtypes(dtype):
    assert accepts(torch.from_dlpack, over_bytes((2,), dtype)) == (dtype in ROWS["torch"]["dtypes"])


def test_torch_keeps_the_bits_of_each_dtype():
    for dtype in ROWS["torch"]["dtypes"]:
        memory = bytearray(range(1, 33)) * 2
        if dtype == "bool":
            memory = bytearray([0, 1] * 32)
        t = torch.from_dlpack(over_bytes((2,), dtype, memory=memory))
        assert t.element_size() * 8 == DTYPES[dtype][1]
        assert bytes(t.view(torch.uint8).numpy()) == bytes(memory[: t.nbytes])


def test_torch_takes_no_negative_strides():
    assert ROWS["torch"]["strides"] == "not negative"
    assert not accepts(torch.from_dlpack, over_bytes((3,), strides=(-1,), start=8))
    assert accepts(torch.from_dlpack, over_bytes((3, 2), strides=(0, 1)))
    assert accepts(torch.from_dlpack, over_bytes((3, 2), strides=(1, 3)))


def test_torch_has_no_read_only_tensors():
    assert not ROWS["torch"]["read_only"]
    memory = bytearray(16)
    t = torch.from_dlpack(over_bytes((4,), memory=memory, flags=READ_ONLY))
    t.fill_(1)
    assert memory[3] != 0, "it writes through the flag: if this fails, PyTorch learned what read-only is"


def test_torch_honours_the_byte_offset():
    assert ROWS["torch"]["byte_offset"]
    memory = bytearray(np.arange(6, dtype="f4").tobytes())
    assert torch.from_dlpack(over_bytes((4,), memory=memory, byte_offset=8)).tolist() == [2, 3, 4, 5]


def test_torch_needs_no_alignment():
    assert ROWS["torch"]["alignment"] == 1
    memory = bytearray(b"\0" + np.arange(3, dtype="f4").tobytes())
    assert torch.from_dlpack(over_bytes((3,), memory=memory, start=1)).tolist() == [0, 1, 2]


def test_torch_reads_the_version_that_the_row_says():
    assert ROWS["torch"]["dlpack"] == (1, 3)
    assert accepts(torch.from_dlpack, over_bytes(version=(1, 3)))
    asked = over_bytes()
    torch.from_dlpack(asked)
    assert asked.calls[0]["max_version"][0] == 1


def test_torch_takes_host_memory_only_as_cpu():
    assert "cpu" in ROWS["torch"]["device_kinds"] and "cuda_host" not in ROWS["torch"]["device_kinds"]
    assert not accepts(torch.from_dlpack, over_bytes(device=CUDA_HOST))


def test_torch_default_dtype():
    assert str(torch.tensor(1.0).dtype) == "torch." + ROWS["torch"]["default_dtype"]


def test_torch_keeps_graph_and_lazy_bits_of_its_own():
    t = torch.ones(2, requires_grad=True)
    assert fh.share(t, "torch") is t
    c = torch.tensor([1 + 2j]).conj()
    assert fh.share(c, "torch") is c


# -- NumPy: arrays are made by its C interface, so what it takes is what an array can be --------------------------------


def as_numpy(producer):
    return fh.share(fh.from_dlpack(producer), "numpy")


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_takes_these_dtypes_by_itself(dtype):
    try:
        alone = np.dtype(dtype).isbuiltin == 1
    except TypeError:
        alone = False
    assert alone == (dtype in ROWS["numpy"]["dtypes"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_takes_these_dtypes_with_ml_dtypes(dtype):
    extended = fh._freehold._caps("numpy", extended=True)["dtypes"]
    assert (hasattr(ml_dtypes, dtype) or dtype in ROWS["numpy"]["dtypes"]) == (dtype in extended)
    flags = PADDED if DTYPES[dtype][1] < 8 else 0
    memory = bytearray([0, 1] * 64)
    if dtype not in extended:
        with pytest.raises(fh.BoundaryError) as refused:
            as_numpy(over_bytes((3,), dtype, memory=memory, flags=flags))
        assert refused.value.code == "DT02"
        return
    array = as_numpy(over_bytes((3,), dtype, memory=memory, flags=flags))
    assert array.dtype == np.dtype(getattr(ml_dtypes, dtype, dtype))
    assert array.tobytes() == bytes(memory[: array.nbytes])


def test_numpy_does_not_take_packed_elements():
    with pytest.raises(fh.BoundaryError) as refused:
        as_numpy(over_bytes((3,), "float4_e2m1fn"))
    assert refused.value.code == "DT02"


def test_numpy_takes_any_strides():
    assert ROWS["numpy"]["strides"] == "any" and ROWS["numpy"]["byte_strides"]
    memory = bytearray(np.arange(6, dtype="f4").tobytes())
    assert as_numpy(over_bytes((3,), memory=memory, strides=(-2,), start=16)).tolist() == [4, 2, 0]
    assert as_numpy(over_bytes((2, 3), memory=memory, strides=(0, 1))).tolist() == [[0, 1, 2]] * 2
    packed = np.zeros(3, [("a", "i1"), ("b", "<f4")])
    packed["b"] = [1, 2, 3]
    view = fh.share(packed["b"], "numpy", writable=False)
    assert view.strides == (5,) and view.tolist() == [1, 2, 3]


def test_numpy_has_read_only_arrays():
    assert ROWS["numpy"]["read_only"]
    array = as_numpy(over_bytes((4,), flags=READ_ONLY))
    with pytest.raises(ValueError):
        array[0] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True


def test_numpy_needs_no_alignment():
    assert ROWS["numpy"]["alignment"] == 1
    memory = bytearray(b"\0" + np.arange(3, dtype="f4").tobytes())
    assert as_numpy(over_bytes((3,), memory=memory, start=1)).tolist() == [0, 1, 2]


def test_numpy_honours_the_byte_offset():
    assert ROWS["numpy"]["byte_offset"]
    memory = bytearray(np.arange(6, dtype="f4").tobytes())
    assert np.from_dlpack(over_bytes((4,), memory=memory, byte_offset=8)).tolist() == [2, 3, 4, 5]
    assert as_numpy(over_bytes((4,), memory=memory, byte_offset=8)).tolist() == [2, 3, 4, 5]


def test_numpy_reads_the_version_that_the_row_says():
    assert ROWS["numpy"]["dlpack"] == (1, 0)
    asked = over_bytes()
    np.from_dlpack(asked)
    assert asked.calls[0]["max_version"] == (1, 0)


def test_numpy_takes_pinned_memory():
    assert "cuda_host" in ROWS["numpy"]["device_kinds"]
    assert accepts(np.from_dlpack, over_bytes(device=CUDA_HOST))
    assert as_numpy(over_bytes((4,), device=CUDA_HOST)).shape == (4,)


def test_numpy_default_dtype():
    assert np.array([1.0]).dtype.name == ROWS["numpy"]["default_dtype"]


# -- fh.targets ---------------------------------------------------------------------------------------------------


def test_targets_lists_versions_without_importing():
    found = fh.targets()
    assert found["torch"].version == torch.__version__ and found["torch"].imported
    assert found["numpy"].default_dtype == "float64" and found["torch"].default_dtype == "float32"
    assert "torch" in repr(found) and found["torch"].target and not found["polars"].target
