"""PyTorch, CuPy and JAX on a real GPU, through the Python package. Run by run.py of the bundle."""

import gc

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("PyTorch finds no CUDA device", allow_module_level=True)

import freehold as fh  # noqa: E402

N = 1 << 20
# Clock cycles of a kernel that does nothing: some 50 ms, far longer than what is queued behind it takes.
LATE = 80_000_000


def cupy_():
    return pytest.importorskip("cupy")


def jax_():
    jax = pytest.importorskip("jax")
    try:
        return jax, jax.devices("gpu")[0]
    except RuntimeError as error:
        pytest.skip(f"JAX finds no device: {error}")


def test_pytorch_and_cupy_share_memory():
    cupy = cupy_()
    t = torch.arange(24, device="cuda", dtype=torch.float32).reshape(4, 6)
    c = fh.share(t.T, "cupy")
    assert c.data.ptr == t.data_ptr() and c.shape == (6, 4) and c.strides == (4, 24)
    c[5, 3] = 99
    cupy.cuda.Device().synchronize()
    assert float(t[3, 5]) == 99
    back = fh.share(c, "torch")
    assert back.data_ptr() == t.data_ptr() and back.is_cuda


def test_jax_and_pytorch_share_memory():
    jax, gpu = jax_()
    j = jax.device_put(np.arange(24, dtype=np.float32).reshape(4, 6), gpu)
    # JAX's arrays never change, and PyTorch has no tensors that cannot be written to.
    with pytest.raises(fh.BoundaryError, match="RO01"):
        fh.share(j, "torch")
    with fh.policy(readonly="trust"):
        t = fh.share(j, "torch", writable=False)
    assert t.data_ptr() == j.unsafe_buffer_pointer() and t.is_cuda
    assert np.array_equal(t.cpu().numpy(), np.arange(24, dtype=np.float32).reshape(4, 6))
    x = torch.ones(64, device="cuda")
    with fh.policy(alias="trust"):
        assert fh.share(x, "jax").unsafe_buffer_pointer() == x.data_ptr()


@pytest.mark.parametrize("count", [3, N])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64", "complex64"])
def test_arrays_go_to_the_device_and_come_back(dtype, count):
    x = (np.arange(count) % 101).astype(dtype)
    t = fh.convert(x, "torch", device="cuda:0")
    assert t.is_cuda and str(t.dtype) == f"torch.{dtype}"
    assert np.array_equal(t.cpu().numpy(), x)
    back = fh.convert(t, "numpy")
    assert back.dtype == x.dtype and np.array_equal(back, x)


@pytest.mark.parametrize("view", [lambda x: x[:, ::2], lambda x: x.T, lambda x: x[::-1], lambda x: x[7:900, 3:5]])
def test_layouts_and_casts_cross_the_link(view):
    x = view(np.arange(N, dtype=np.float64).reshape(1024, 1024) % 2048)
    t = fh.convert(x, "torch", device="cuda:0", dtype="float32", order="C")
    assert t.is_contiguous() and t.dtype == torch.float32
    assert np.array_equal(t.cpu().numpy(), x.astype(np.float32))
    half = fh.convert(t, "numpy", dtype="float16")
    assert np.array_equal(half, x.astype(np.float16))


def test_page_locked_memory_of_pytorch_is_read_and_written():
    pinned = torch.arange(N, dtype=torch.float32, pin_memory=True)
    device = torch.zeros(N, device="cuda")
    fh.copy(pinned, out=device)
    assert torch.equal(device.cpu(), torch.arange(N, dtype=torch.float32))
    fh.copy(device + 1, out=pinned)
    torch.cuda.synchronize()
    assert float(pinned[0]) == 1 and float(pinned[-1]) == N


def test_a_loss_on_the_device_is_an_error():
    x = torch.zeros(N, device="cuda")
    x[N // 2] = 300
    with pytest.raises(fh.BoundaryError):
        fh.convert(x, "torch", dtype="uint8")
    assert int(fh.convert(x, "torch", dtype="uint8", on_loss="allow")[N // 2]) == 255


def test_the_host_waits_for_the_producer():
    x = torch.zeros(N, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(LATE)
        x.fill_(3)
        found = fh.convert(x, "numpy")
    assert (found == 3).all()


def test_a_consumers_stream_waits_for_the_producers():
    cupy = cupy_()
    x = torch.zeros(N, device="cuda")
    torch.cuda.synchronize()
    consumer = cupy.cuda.Stream(non_blocking=True)
    with torch.cuda.stream(torch.cuda.Stream()), consumer:
        torch.cuda._sleep(LATE)
        x.fill_(3)
        y = fh.share(x, "cupy") + 1
    consumer.synchronize()
    assert bool((y == 4).all())


def test_memory_is_not_used_again_before_its_last_use():
    cupy = cupy_()
    c = cupy.full(N, 5, "f4")
    cupy.cuda.Device().synchronize()
    user = torch.cuda.Stream()
    with torch.cuda.stream(user):
        t = fh.share(c, "torch")
        torch.cuda._sleep(LATE)
        y = t + 1
    del t, c
    gc.collect()
    # CuPy's pool would give this array the memory that was let go.
    d = cupy.full(N, 9, "f4")
    user.synchronize()
    assert bool((y == 6).all()) and bool((d == 9).all())
