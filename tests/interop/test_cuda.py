"""Tensors on CUDA devices, on the driver of tests/fake-cuda: the host cannot read their memory, and streams run late."""

import ctypes
import gc

import numpy as np
import pytest

import fake_cuda

FAKE = fake_cuda.start()

import freehold as fh  # noqa: E402, after the driver was chosen
from cuda_arrays import settle  # noqa: E402
from producers import CUDA, Made, Modern  # noqa: E402

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def settled():
    """Every test begins with settings as they were, and ends without a race and with as much memory as before."""
    FAKE.reset()
    before = FAKE.live()
    yield
    FAKE.drain()
    gc.collect()
    assert FAKE.races() == []
    after = FAKE.live()
    for what in ("managed_bytes", "captures", "graphs", "failures_left"):
        assert after[what] == before[what], what


class OnDevice:
    """A producer of values on device 0."""

    def __init__(self, values=VALUES):
        self.values, self.address = values, FAKE.array(values)
        self.producer = Modern(lambda **_: Made(values, data=self.address, device=CUDA), device=CUDA)

    def free(self):
        FAKE.free(self.address)


@pytest.fixture
def there():
    made = OnDevice()
    yield made
    gc.collect()
    FAKE.drain()
    made.free()


def test_a_device_tensor_is_shared_where_it_is(there):
    tensor = fh.share(there.producer)
    assert (tensor.device, tensor.shape, tensor.data_ptr) == ("cuda:0", (3, 4), there.address)
    # Without a stream the legacy default one is meant, and said: some producers order nothing for None.
    assert [call["stream"] for call in there.producer.calls] == [1]
    stream = FAKE.stream()
    fh.share(there.producer, stream=stream)
    assert there.producer.calls[-1]["stream"] == stream
    FAKE.call("cuStreamDestroy_v2", stream)
    del tensor
    FAKE.drain()
    assert settle(lambda: all(made.deletes for made in there.producer.exported))
    assert [made.deletes for made in there.producer.exported] == [1] * len(there.producer.exported)


def test_the_host_is_not_let_near_device_memory(there):
    tensor = fh.share(there.producer)
    for read in (memoryview, lambda t: np.array(t, copy=False)):
        with pytest.raises((fh.BoundaryError, BufferError, ValueError)):
            read(tensor)
    # A copy is another matter: `np.asarray` allows one.
    assert np.array_equal(np.asarray(tensor), VALUES)


def test_a_copy_to_the_host_has_the_values(there):
    FAKE.set_delay(0.002)
    found = fh.copy(there.producer, "numpy")
    assert isinstance(found, np.ndarray) and np.array_equal(found, VALUES)


def test_a_copy_to_the_device_has_the_values():
    FAKE.set_delay(0.002)
    tensor = fh.copy(VALUES, device="cuda:0")
    assert tensor.device == "cuda:0"
    FAKE.drain()
    assert np.array_equal(FAKE.peek(tensor.data_ptr, np.float32, 12), VALUES.ravel())


def test_values_come_back_from_a_round_trip_with_a_cast():
    tensor = fh.copy(VALUES, device="cuda:0", dtype="float16")
    back = fh.copy(tensor, "numpy", dtype="float64")
    assert back.dtype == np.float64 and np.array_equal(back, VALUES)


def test_the_cuda_array_interface_goes_both_ways(there):
    class Interface:
        __cuda_array_interface__ = {
            "shape": (3, 4),
            "typestr": "<f4",
            "data": (there.address, False),
            "strides": None,
            "stream": 1,
            "version": 3,
        }

    tensor = fh.share(Interface())
    assert (tensor.device, tensor.dtype, tensor.data_ptr) == ("cuda:0", "float32", there.address)
    out = tensor.__cuda_array_interface__
    assert (out["shape"], out["typestr"], out["data"][0], out["version"]) == ((3, 4), "<f4", there.address, 3)
    with pytest.raises(AttributeError):
        fh.share(VALUES).__cuda_array_interface__


def test_a_wrong_device_is_found_by_asking_the_driver(there):
    claims = Modern(lambda **_: Made(VALUES, data=there.address, device=(2, 1)), device=(2, 1))
    with pytest.raises(fh.BoundaryError) as caught:
        fh.share(claims)
    assert "cuda" in str(caught.value)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_copy_of_late_memory_needs_its_producers_event(there, ordered):
    """The producer's stream is late. Where it makes the consumer's wait, the copy has what it writes; where it does not, the
    copy has what was there before, and the driver says that nothing orders the two."""
    stream = FAKE.stream()
    if ordered:
        FAKE.set_delay(0.03, stream)
    else:
        FAKE.hold(True, stream)  # as late as can be
    FAKE.fill(there.address, 0, VALUES.nbytes, stream)

    def export(**asked):
        if ordered:
            event = FAKE.made("cuEventCreate", ctypes.c_uint(2))
            FAKE.call("cuEventRecord", event, stream)
            FAKE.call("cuStreamWaitEvent", asked.get("stream", 1), event, ctypes.c_uint(0))
            FAKE.call("cuEventDestroy_v2", event)
        return Made(VALUES, data=there.address, device=CUDA)

    found = fh.copy(Modern(export, device=CUDA), "numpy")
    FAKE.hold(False, stream)
    FAKE.call("cuStreamDestroy_v2", stream)
    FAKE.drain()
    assert np.array_equal(found, np.zeros_like(VALUES) if ordered else VALUES)
    assert bool(FAKE.races()) is not ordered
    FAKE.reset()


def test_a_driver_that_fails_is_an_error_and_leaves_nothing(there):
    fh.copy(there.producer, "numpy")  # what is made once is made
    FAKE.drain()
    before, begin = FAKE.live(), FAKE.calls()
    fh.copy(there.producer, "numpy")
    count, failed = FAKE.calls() - begin, 0
    assert count > 0
    for nth in range(1, count + 1):
        FAKE.fail_at(nth, 2)
        try:
            assert np.array_equal(fh.copy(there.producer, "numpy"), VALUES)
        except (fh.BoundaryError, MemoryError) as error:
            failed += 1
            assert "CUDA_ERROR_OUT_OF_MEMORY" in str(error) or "memory" in str(error), error
        FAKE.forget_failures()
        assert np.array_equal(fh.copy(there.producer, "numpy"), VALUES), nth
        FAKE.drain()
        gc.collect()
        after = FAKE.live()
        # Events are kept, and as many are made as were ever in use at once.
        events = after.pop("events") - before["events"]
        assert events <= 2 and after == {what: before[what] for what in after}, nth
    assert failed > 0
