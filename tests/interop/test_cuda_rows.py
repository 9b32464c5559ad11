"""The boundary on CUDA devices, on the driver of tests/fake-cuda. Rows A16, A28, A30, A32, A42, B10, B16, B20, B22, X14, X15."""

import ctypes
import gc
import pickle
import time

import numpy as np
import pytest
from cuda_arrays import FAKE, LEGACY, Array, CuPy, Interface, Memory, Producer, Stream, Taken, settle, values

import freehold as fh
from capsules import DTYPES
from producers import Made, Modern

F4 = np.arange(12, dtype="f4").reshape(3, 4)
# Layouts of (3, 4), each a view with a base.
LAYOUTS = {
    "C": lambda a: a[:3, :4].copy(),
    "F": lambda a: np.asfortranarray(a[:3, :4]),
    "rows": lambda a: a[::2, :4],
    "columns": lambda a: a[:3, ::2],
    "backwards": lambda a: a[2::-1, 3::-1],
    "inner": lambda a: a[1:4, 2:6],
}
PLAIN = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
PLAIN += ["complex64", "complex128"]
BITS = {name: f"u{bits // 8}" for name, (_, bits) in DTYPES.items() if name.startswith(("bfloat", "float8", "complex32"))}


def plate(dtype):
    values = np.arange(48).reshape(6, 8)
    return (values % 2 == 0) if dtype == "bool" else values.astype(dtype)


def refused(code, call, *arguments, **named):
    with pytest.raises(fh.BoundaryError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code, caught.value
    return caught.value


@pytest.fixture(autouse=True)
def watched():
    """Late streams; and at the end, nothing that the test has not ended itself: no race, no memory."""
    FAKE.reset()
    FAKE.set_delay(50e-6)
    gc.collect()
    kinds = ("device_bytes", "managed_bytes", "pool_used", "streams", "captures")

    def alive():
        now = FAKE.live()
        now["device_bytes"] -= now["pool_reserved"]  # what a pool keeps for the next request is no leak
        return {kind: now[kind] for kind in kinds}

    assert settle(lambda: FAKE.live()["pending"] == 0)
    before, context = alive(), FAKE.made("cuCtxGetCurrent")
    yield
    FAKE.hold(False)
    FAKE.drain()
    # Streams are made once and kept.
    assert settle(lambda: {**alive(), "streams": 0} == {**before, "streams": 0}), (before, alive())
    assert FAKE.races() == []
    assert FAKE.made("cuCtxGetCurrent") == context, "the thread's context is another"


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", PLAIN)
def test_every_dtype_and_layout_goes_there_and_comes_back(dtype, layout):
    x = LAYOUTS[layout](plate(dtype))
    there = fh.convert(x, device="cuda:0")
    assert (there.device, there.shape, there.dtype) == ("cuda:0", x.shape, dtype)
    assert values(there) == x.tobytes()
    np.testing.assert_array_equal(fh.convert(there, "numpy"), x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", PLAIN)
def test_every_dtype_and_layout_comes_to_the_host_by_every_verb(dtype, layout):
    x = LAYOUTS[layout](plate(dtype))
    made = Producer(x)
    refused("DV01", fh.share, made, "numpy")
    np.testing.assert_array_equal(fh.convert(made, "numpy"), x)
    np.testing.assert_array_equal(fh.copy(made, "numpy"), x)


@pytest.mark.parametrize("layout", ["C", "columns", "backwards"])
@pytest.mark.parametrize("dtype", PLAIN)
def test_a_copy_stays_on_the_device_and_a_share_is_the_memory(dtype, layout):
    x = LAYOUTS[layout](plate(dtype))
    made = Producer(x)
    shared, copied = fh.share(made), fh.copy(made)
    assert (shared.data_ptr, shared.device) == (made.address, "cuda:0")
    assert (copied.data_ptr == made.address, copied.device) == (False, "cuda:0")
    assert values(shared) == values(copied) == x.tobytes()


@pytest.mark.parametrize("dtype", BITS)
def test_dtypes_that_numpy_lacks_keep_their_bits(dtype):
    x = np.arange(24, dtype=BITS[dtype]).reshape(4, 6)[:, ::2]
    made = Producer(x, dtype=dtype)
    assert values(fh.copy(made)) == x.tobytes()
    host = fh.convert(made, device="cpu")
    assert host.device == "cpu" and host.dtype == dtype
    assert values(fh.convert(host, device="cuda:0")) == x.tobytes()


@pytest.mark.parametrize("to", ["float64", "float16", "int32", "complex64"])
@pytest.mark.parametrize("layout", ["C", "columns"])
def test_a_cast_on_the_way(to, layout):
    x = LAYOUTS[layout](plate("float32"))
    np.testing.assert_array_equal(fh.convert(Producer(x), "numpy", dtype=to), x.astype(to))
    assert values(fh.convert(x, device="cuda:0", dtype=to)) == x.astype(to).tobytes()
    assert values(fh.convert(Producer(x), dtype=to)) == x.astype(to).tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (1, 1, 1)])
def test_shapes_with_nothing_or_one(shape):
    x = np.ones(shape, "f4")
    there = fh.convert(x, device="cuda:0")
    assert there.shape == shape and values(there) == x.tobytes()
    np.testing.assert_array_equal(fh.convert(there, "numpy"), x)
    np.testing.assert_array_equal(fh.convert(Producer(x), "numpy"), x)


# -- which memory: X15 -------------------------------------------------------------------------------------------------


def test_page_locked_memory_is_the_hosts():
    made = Producer(F4, kind="pinned")
    array = fh.share(made, "numpy")
    assert array.__array_interface__["data"][0] == made.address
    np.testing.assert_array_equal(array, F4)
    assert values(fh.convert(made, device="cuda:0")) == F4.tobytes()


def test_managed_memory_is_its_devices_and_the_hosts():
    made = Producer(F4, kind="managed")
    assert fh.share(made).device == "cuda_managed:0"
    np.testing.assert_array_equal(fh.convert(made, "numpy"), F4)


def test_a_pointer_of_another_device_or_of_none_is_named():
    there = Array(F4)
    wrong = Modern(lambda **_: Made(F4, data=there.address, device=(2, 1)), device=(2, 1))
    # With one device there is no second to be wrong about.
    error = refused("DV03" if FAKE.made("cuDeviceGetCount") > 1 else "DV02", fh.share, wrong)
    assert "cuda:1" in str(error)
    host = Modern(lambda **_: Made(F4, device=(2, 0)), device=(2, 0))
    assert "no device" in str(refused("DV03", fh.share, host))
    says = Modern(lambda **_: Made(F4, data=there.address, device=(2, 0)), device=(1, 0))
    assert "__dlpack_device__" in str(refused("DV03", fh.share, says))


def test_an_absent_device_is_refused_with_those_that_are_here():
    error = refused("DV02", fh.convert, F4, device="cuda:7")
    assert "no cuda:7 here; have cpu, cuda:0" in str(error) and 'device="cuda:0"' in str(error)


def test_a_share_across_devices_names_what_a_copy_would_cost():
    error = refused("DV01", fh.share, Producer(F4), "numpy")
    assert "48 B" in str(error) and "fh.convert" in str(error)


def test_a_plan_says_what_a_copy_to_the_host_takes():
    plan = fh.plan(Producer(F4), "numpy")
    assert (plan.verdict, plan.codes, plan.sync, plan.bytes_copied) == ("copy", ("DV01",), "host", 48)


# -- streams: X14 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [None, 1, 2, "own", -1])
def test_every_stream_that_dlpack_has(stream):
    own = Stream()
    number = own.ptr if stream == "own" else stream
    tensor = fh.share(Producer(F4))
    taken = Taken(tensor.__dlpack__(stream=number, max_version=(1, 3)))
    assert (taken.tensor.device_type, taken.tensor.data) == (2, tensor.data_ptr)
    assert tensor.__dlpack_device__() == (2, 0)


@pytest.mark.parametrize("stream", [0, -2, "two", 1.5, object()])
def test_what_is_no_stream(stream):
    tensor = fh.share(Producer(F4))
    for call in (lambda: tensor.__dlpack__(stream=stream), lambda: fh.share(Producer(F4), stream=stream)):
        with pytest.raises(BufferError) as caught:
            call()
        assert caught.value.code == "AR01", caught.value


@pytest.mark.parametrize("stream", [0, 1, -1, 2])
def test_host_tensors_have_no_stream(stream):
    with pytest.raises(BufferError):
        fh.share(F4).__dlpack__(stream=stream)


@pytest.mark.parametrize("attribute", ["cuda_stream", "ptr", "handle"])
def test_stream_objects_of_frameworks(attribute):
    own = Stream()
    named = type("Stream", (), {attribute: own.ptr})()
    made = Producer(F4)
    fh.share(made, stream=named)
    assert made.calls[-1]["stream"] == own.ptr


def test_the_stream_protocol_of_cuda_core():
    own = Stream()
    named = type("Stream", (), {"__cuda_stream__": lambda self: (0, own.ptr)})()
    made = Producer(F4)
    fh.share(made, stream=named)
    assert made.calls[-1]["stream"] == own.ptr


def test_a_default_stream_of_a_framework_is_the_legacy_one():
    """Frameworks call it 0, which DLPack forbids as a number."""
    made = Producer(F4)
    fh.share(made, stream=type("Stream", (), {"ptr": 0})())
    assert made.calls[-1]["stream"] == LEGACY


@pytest.mark.parametrize("consumer", ["own", "legacy"])
def test_values_that_come_late_are_there_on_the_consumers_stream(consumer):
    producer, reader = Stream(), Stream()
    FAKE.set_delay(0.01, producer.ptr)
    made = Producer(F4, stream=producer.ptr, late=True)
    tensor = fh.share(made)
    assert values(tensor, reader.ptr if consumer == "own" else LEGACY) == F4.tobytes()
    assert values(fh.copy(made), reader.ptr) == F4.tobytes()
    np.testing.assert_array_equal(fh.convert(made, "numpy"), F4)


def test_no_call_waits_for_a_device_that_need_not():
    """The producer's stream is held: whoever waited on the host would not return."""
    producer, consumer = Stream(), Stream()
    FAKE.hold(True, producer.ptr)
    made = Producer(F4, stream=producer.ptr, late=True)
    shared = fh.share(made, stream=consumer.ptr)
    copied = fh.copy(made, stream=consumer.ptr, dtype="float64")
    assert not FAKE.status("cuStreamQuery", consumer.ptr) == 0
    FAKE.hold(False, producer.ptr)
    assert values(shared, consumer.ptr) == F4.tobytes()
    assert values(copied, consumer.ptr) == F4.astype("f8").tobytes()


@pytest.mark.parametrize("stream", ["own", "legacy"])
def test_a_target_gets_its_copy_on_its_own_stream(stream):
    """What CuPy queues next on its stream sees the values: the copy is made there, and waits for nobody else."""
    own = Stream()
    number = own.ptr if stream == "own" else 0
    with CuPy(number):
        made = Producer(F4)
        shared = fh.share(made, "cupy")
        assert shared.ptr == made.address
        assert made.calls[-1]["stream"] == (number or 1)
        FAKE.library.fake_cuda_clear_log()
        copied = fh.convert(F4, "cupy", device="cuda:0")
        assert not any("cuStreamSynchronize" in line or "cuCtxSynchronize" in line for line in FAKE.log())
        staged = Memory(48, 0, "pinned")
        FAKE.call("cuMemcpyDtoHAsync_v2", staged.address, copied.ptr, 48, number or 1)
        FAKE.synchronize(number or 1)
        assert ctypes.string_at(staged.address, 48) == F4.tobytes()


def test_memory_is_given_back_when_its_last_use_is_done():
    """The edge that DLPack does not have: the consumer drops the tensor while a stream of its has yet to read it."""
    consumer = Stream()
    made = Producer(F4)
    tensor = fh.share(made, stream=consumer.ptr)
    FAKE.hold(True, consumer.ptr)
    FAKE.fill(made.address, 0, 4, consumer.ptr)
    del tensor
    gc.collect()
    time.sleep(0.02)
    assert made.deletes == 0
    FAKE.hold(False, consumer.ptr)
    assert settle(lambda: made.deletes == 1)


def test_a_capture_is_not_broken():
    """SY01 for what would wait; what only queues becomes part of the graph."""
    stream = Stream()
    made = Producer(F4, stream=stream.ptr)
    fh.copy(made, stream=stream.ptr)  # what is made once is made
    FAKE.call("cuStreamBeginCapture_v2", stream.ptr, ctypes.c_uint(2))
    error = refused("SY01", fh.convert, made, "numpy", stream=stream.ptr)
    assert "captur" in str(error)
    graph = ctypes.c_uint64()
    FAKE.call("cuStreamEndCapture", stream.ptr, ctypes.addressof(graph))
    FAKE.call("cuGraphDestroy", graph.value)
    np.testing.assert_array_equal(fh.convert(made, "numpy"), F4)


# -- the CUDA array interface ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_interface_comes_in_and_goes_out(layout):
    x = LAYOUTS[layout](plate("float32"))
    tensor = fh.share(Interface(x))
    out = tensor.__cuda_array_interface__
    assert (out["shape"], out["typestr"], out["strides"], out["version"]) == (x.shape, "<f4", x.strides, 3)
    assert out["data"] == (tensor.data_ptr, False) and out["stream"] == LEGACY
    assert values(tensor) == x.tobytes()
    again = fh.share(type("Proxy", (), {"__cuda_array_interface__": out, "keep": tensor})())
    assert again.data_ptr == tensor.data_ptr
    np.testing.assert_array_equal(fh.convert(again, "numpy"), x)


def test_the_interfaces_stream_orders_late_values():
    stream = Stream()
    FAKE.set_delay(0.01, stream.ptr)
    made = Interface(F4, stream=stream.ptr, late=True)
    np.testing.assert_array_equal(fh.convert(made, "numpy"), F4)
    assert fh.share(made).__cuda_array_interface__["stream"] == stream.ptr


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"stream": 0}, "AR01"),
        ({"mask": F4}, "NU01"),
        ({"typestr": "|O"}, "DT03"),
        ({"strides": (4,)}, "OB01"),
        ({"shape": None}, "OB01"),
        ({"data": None}, "OB01"),
        ({"data": (F4.ctypes.data, False)}, "DV03"),
    ],
)
def test_an_interface_that_is_wrong(fields, code):
    refused(code, fh.share, Interface(F4, fields))


@pytest.mark.parametrize("fields", [{"strides": None}, {"stream": None}, {"version": 2}, {"descr": [("", "<f4")]}])
def test_an_interface_that_says_less(fields):
    np.testing.assert_array_equal(fh.convert(Interface(F4, fields), "numpy"), F4)


def test_read_only_stays_so():
    for made in (Interface(F4, read_only=True), Producer(F4, read_only=True)):
        tensor = fh.share(made)
        assert not tensor.writable and tensor.__cuda_array_interface__["data"][1]
        with pytest.raises(fh.BoundaryError, match="RO01"):
            tensor.__dlpack__(stream=1)
        assert fh.copy(made).writable


# -- the face of a tensor ----------------------------------------------------------------------------------------------


def test_no_look_at_a_tensor_touches_the_device():
    tensor = fh.share(Producer(F4))
    FAKE.library.fake_cuda_clear_log()
    text = repr(tensor) + tensor._repr_html_() + str(fh.explain(tensor)) + str(tensor.shape) + str(fh.plan(tensor, "numpy"))
    assert "cuda:0" in text
    assert not [line for line in FAKE.log() if "Memcpy" in line or "Synchronize" in line or "Launch" in line]


def test_buffers_are_the_hosts():
    tensor = fh.share(Producer(F4))
    for look in (memoryview, lambda t: np.asarray(t, copy=False), lambda t: t.__array__(copy=False)):
        with pytest.raises(BufferError) as caught:
            look(tensor)
        assert caught.value.code == "DV01", caught.value
    np.testing.assert_array_equal(np.asarray(tensor), F4)


def test_a_pickle_comes_back_on_the_host():
    back = pickle.loads(pickle.dumps(fh.share(Producer(F4))))
    assert back.device == "cpu"
    np.testing.assert_array_equal(np.asarray(back), F4)


def test_dl_device_and_copy_of_the_protocol():
    tensor = fh.share(Producer(F4))
    host = Taken(tensor.__dlpack__(max_version=(1, 0), dl_device=(1, 0)))
    assert host.tensor.device_type == 1 and ctypes.string_at(host.tensor.data, 48) == F4.tobytes()
    copied = Taken(tensor.__dlpack__(stream=1, max_version=(1, 0), copy=True))
    assert copied.tensor.device_type == 2 and copied.tensor.data != tensor.data_ptr
    with pytest.raises(BufferError):
        tensor.__dlpack__(max_version=(1, 0), dl_device=(1, 0), copy=False)
    np.testing.assert_array_equal(np.from_dlpack(tensor, device="cpu"), F4)


# -- house rules: B20, B22 ---------------------------------------------------------------------------------------------


def test_a_rule_against_waiting():
    made, loop = Producer(F4), fh.policy(sync="error")
    with loop:
        assert "waits" in str(refused("PO01", fh.convert, made, "numpy"))
        assert fh.share(made).device == fh.copy(made).device == "cuda:0"
        assert fh.convert(F4, device="cuda:0").device == "cuda:0"
    np.testing.assert_array_equal(fh.convert(made, "numpy"), F4)


def test_a_rule_about_devices_and_bytes():
    made = Producer(F4)
    with fh.policy(devices="cpu"):
        refused("PO01", fh.convert, made, "numpy")
        refused("PO01", fh.convert, F4, device="cuda:0")
    with fh.policy(max_copy_bytes=0):
        assert "48 B" in str(refused("PO01", fh.convert, made, "numpy"))
        fh.share(made)


def test_the_ledger_counts_waits_by_place():
    """B20: in a loop, what makes the host wait is found by its line."""
    made, before = Producer(F4), fh.ledger.snapshot()["findings"]["waits"]
    level, fh.ledger.level = fh.ledger.level, 3
    try:
        for _ in range(3):
            fh.convert(made, "numpy")
            fh.convert(F4, device="cuda:0")
    finally:
        fh.ledger.level = level
    (found,) = [row for row in fh.ledger.snapshot()["findings"]["waits"] if row not in before]
    assert (found["to"], found["count"]) == ("numpy", 3) and __file__ in found["site"]
    assert "waits of the host for a device" in fh.ledger.report()


def test_the_ledger_has_the_copy_the_wait_and_no_alias():
    """A42: a copy on another device is nobody's alias."""
    there = fh.convert(F4, device="cuda:0")
    back = fh.convert(there, "numpy")
    assert fh.ledger.aliases(there) == []
    found = fh.ledger.copies()[-1]
    assert (found["steps"], found["reasons"], found["bytes"]) == (["device"], ["DV01"], 48)
    np.testing.assert_array_equal(back, F4)


# -- failures ----------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "to the device": (lambda made: fh.convert(F4, device="cuda:0"), F4),
    "to the device, cast": (lambda made: fh.convert(F4, device="cuda:0", dtype="float64"), F4.astype("f8")),
    "to the host": (lambda made: fh.convert(made, "numpy"), F4),
    "to the host, cast": (lambda made: fh.convert(made, "numpy", dtype="float64"), F4.astype("f8")),
    "on the device": (lambda made: fh.copy(made), F4),
    "on the device, cast": (lambda made: fh.copy(made, dtype="float64"), F4.astype("f8")),
    "shared": (lambda made: fh.share(made), F4),
    "shared with a stream": (lambda made: fh.share(made, stream=1), F4),
    "planned": (lambda made: fh.plan(made, "numpy").run(), F4),
    "pickled": (lambda made: pickle.loads(pickle.dumps(fh.share(made))), F4),
    "interface": (lambda made: fh.share(Interface(F4)), F4),
}


class Quiet(Modern):
    """A producer that calls no driver: every call that fails is one of ours."""

    def __init__(self, there):
        self.there = there
        super().__init__(lambda **_: there.managed(), device=(2, 0))


def seen(result):
    if isinstance(result, np.ndarray):
        return result.tobytes()
    return values(result) if result.device != "cpu" else np.asarray(result).tobytes()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("status", [2, 719], ids=["memory", "launch"])
def test_every_call_of_the_driver_fails_once(name, status):
    operation, expected = OPERATIONS[name]
    there = Array(F4)
    made = Quiet(there)
    if name == "interface":
        keep = Interface(F4)
        operation = lambda made: fh.share(keep)  # noqa: E731
    assert seen(operation(made)) == expected.tobytes()
    FAKE.drain()
    begin = FAKE.calls()
    result = operation(made)
    count = FAKE.calls() - begin
    assert seen(result) == expected.tobytes()
    del result
    for nth in range(1, count + 1):
        FAKE.fail_at(nth, status)
        try:
            result = operation(made)
        except (fh.BoundaryError, MemoryError) as error:
            assert getattr(error, "code", None) in ("DV02", "ME01", "SY01", "DV03"), error
        else:
            FAKE.forget_failures()
            assert seen(result) == expected.tobytes(), nth
            del result
        FAKE.forget_failures()
        assert seen(operation(made)) == expected.tobytes(), nth
