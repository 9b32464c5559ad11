"""Rows X of the requirements: what keeps the promises between any two frameworks."""

import array
import ctypes
import gc

import freehold as fh
import numpy as np
import producers
import pytest
import torch
from producers import Made, Modern, NoArguments, OldStream, Raises, refused


def codes(decision):
    return [reason.code for reason in decision.reasons]


def test_x01_lazy_bits_are_resolved_or_refused():
    """X01: conj and neg bits: PyTorch's C table exports the raw bytes, whose values are others."""
    base = torch.tensor([1 + 2j, 3 - 4j])
    for lazy in (base.conj(), base.conj().imag):
        assert lazy.is_conj() or lazy.is_neg()
        expected = lazy.resolve_conj().resolve_neg().numpy()
        plan = fh.plan(lazy, "numpy")
        assert (plan.verdict, list(plan.steps), codes(plan)[0]) == ("copy", ["resolve"], "LZ01")
        out = fh.convert(lazy, "numpy")
        np.testing.assert_array_equal(out, expected)
        out[0] = 7
        assert lazy[0].item() != 7
        refused("LZ01", fh.share, lazy, "numpy")
        # What PyTorch's own object carries stays with it.
        assert fh.share(lazy, "torch") is lazy


def test_x02_masked_values_are_never_dropped():
    """X02: numpy drops the mask silently on its own way out."""
    masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    refused("NU01", fh.convert, masked, "torch")
    assert fh.convert(masked, "torch", fill=-1.0).tolist() == [1.0, -1.0, 3.0]


def test_x04_byte_order_is_swapped_by_a_copy():
    """X04: torch.from_numpy and even torch.tensor fail on big-endian arrays."""
    a = np.array([1.5, -2.25, 1e300], dtype=">f8")
    with pytest.raises((ValueError, TypeError)):
        torch.from_numpy(a)
    plan = fh.plan(a, "torch")
    assert (plan.verdict, list(plan.steps), codes(plan)[0]) == ("copy", ["resolve"], "BO01")
    t = fh.convert(a, "torch")
    assert t.tolist() == [1.5, -2.25, 1e300]
    a[0] = 9
    assert t[0].item() == 1.5
    assert fh.convert(a, "torch", dtype="float32")[1].item() == -2.25
    refused("BO01", fh.share, a, "torch")


@pytest.mark.parametrize(
    ("x", "code", "word"),
    [
        (np.zeros(2, np.longdouble), "DT03", "float64"),
        (np.array(["2020-01-01"], "datetime64[D]"), "DT03", "days"),
        (np.array([1], "timedelta64[ns]"), "DT03", "nanoseconds"),
        (np.array(["a", "b"]), "DT03", "text"),
        (np.array([b"a"]), "DT03", "text"),
        (np.zeros(2, [("x", "f4"), ("y", "i4")]), "DT03", "x['x']"),
        (np.array([object()]), "DT01", "object"),
    ],
    ids=["longdouble", "datetime", "timedelta", "str", "bytes", "record", "object"],
)
def test_x06_dtypes_without_a_code(x, code, word):
    """X06: each is refused with a recipe of its own, and `plan` says so too."""
    error = refused(code, fh.convert, x, "torch")
    assert word in str(error).replace('"', "'")
    plan = fh.plan(x, "torch")
    assert (plan.verdict, codes(plan)) == ("reject", [code])


def test_x06_the_recipes_work():
    """X06: datetime64 as int64 shares; a field of a record shares."""
    days = np.array(["2020-01-01", "2020-01-03"], "datetime64[D]")
    t = fh.share(days.view("int64"), "torch")
    t[0] += 1
    assert days[0] == np.datetime64("2020-01-02")
    record = np.zeros(3, [("x", "f4"), ("y", "i4")])
    x = fh.share(record["x"], "torch")
    x[2] = 5
    assert record["x"][2] == 5


def test_x07_strides_that_are_no_multiple_of_the_item():
    """X07: a field of a packed record: torch.from_numpy raises ValueError."""
    packed = np.zeros(4, np.dtype([("tag", "u1"), ("value", "f8")]))
    packed["value"] = [1, 2, 3, 4]
    field = packed["value"]
    assert field.strides == (9,)
    plan = fh.plan(field, "torch")
    assert (plan.verdict, list(plan.steps), codes(plan)[0]) == ("copy", ["layout"], "ST03")
    t = fh.convert(field, "torch")
    assert t.tolist() == [1, 2, 3, 4]
    t[0] = 9
    assert packed["value"][0] == 1
    refused("ST03", fh.share, field, "torch")
    # NumPy itself steps in bytes.
    view = fh.share(fh.share(field, "numpy"), "numpy")
    view[3] = -1
    assert packed["value"][3] == -1


def test_x08_unaligned_data_is_shared_where_the_target_allows_it():
    """X08: torch accepts an address that is no multiple of the item; the values are right both ways."""
    raw = np.zeros(33, np.uint8)
    a = np.frombuffer(raw.data, dtype=np.float32, count=8, offset=1)
    assert a.ctypes.data % 4 == 1
    t = fh.share(a, "torch")
    a[1] = 2.5
    t[0] = 1.5
    assert (t[1].item(), a[0]) == (2.5, 1.5)
    copy = fh.copy(a, "torch")
    assert copy.data_ptr() % 64 == 0 and copy.tolist() == t.tolist()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (), (1, 3), (3, 1), (1, 1, 1)])
def test_x09_empty_scalar_and_size_one(shape):
    """X09: every one passes both ways, strides are written, and the deleter always runs."""
    a = np.ones(shape, np.float32)
    t = fh.share(a, "torch")
    assert t.shape == torch.Size(shape)
    back = fh.share(t, "numpy")
    assert back.shape == shape
    if a.size:
        back[...] = 4
        assert (a == 4).all() and (t == 4).all()
    made = Made(np.ones(shape), strides=None if shape else None, data=0 if a.size == 0 else np.ones(shape).ctypes.data)
    if a.size == 0:
        tensor = fh.from_dlpack(Modern(made))
        assert tensor.shape == shape
        del tensor
        assert made.deletes == 1


def test_x09_odd_strides_of_size_one_dimensions_are_contiguous():
    """X09: NumPy writes any stride where a dimension has one element (Triton server#6102)."""
    a = np.zeros((4, 6), np.float32)[:1, :3]
    plan = fh.plan(a, "torch", order="C")
    assert (plan.verdict, plan.bytes_copied) == ("share", 0)


def test_x10_overlapping_views_are_never_writable():
    """X10: expand().numpy() is a writable stride-0 array today; here it is read-only, and torch gets a copy."""
    t = torch.zeros(3).expand(4, 3)
    assert t.numpy().flags.writeable
    a = fh.share(t, "numpy")
    assert not a.flags.writeable and "AL02" in codes(fh.plan(t, "numpy"))
    windows = np.lib.stride_tricks.as_strided(np.arange(5.0), (3, 3), (8, 8))
    plan = fh.plan(windows, "torch")
    assert (plan.verdict, codes(plan)[0]) == ("copy", "AL02")
    out = fh.convert(windows, "torch")
    out[0, 1] = 50
    assert out[1, 0].item() == 1 and windows[0, 1] == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_x11_both_capsules_and_an_unknown_major(legacy):
    """X11: legacy and versioned come in; an unknown major runs the deleter and reads nothing else."""
    made = Made([1.0, 2.0], legacy=legacy)
    tensor = fh.from_dlpack(made.capsule())
    assert np.asarray(tensor).tolist() == [1.0, 2.0]
    del tensor
    assert made.deletes == 1
    if not legacy:
        strange = Made([1.0], version=(2, 0), ndim=77, data=8)
        refused("VE01", fh.from_dlpack, strange.capsule())
        assert strange.deletes == 1


def test_x12_consumed_twice_and_never():
    """X12: a second consumer gets CP01; a capsule that nobody took is freed, and counted."""
    capsule = torch.ones(2).__dlpack__(max_version=(1, 0))
    first = fh.from_dlpack(capsule)
    refused("CP01", fh.from_dlpack, capsule)
    assert np.asarray(first).tolist() == [1, 1]
    before = producers.counter("unconsumed_capsules")
    capsule = fh.share(np.ones(2)).__dlpack__(max_version=(1, 0))
    del capsule
    assert producers.counter("unconsumed_capsules") == before + 1


def test_x13_a_deleter_without_the_gil_on_a_foreign_thread():
    """X13: the deleter never takes the GIL, and the owner is dropped in the end."""
    a = np.ones(1000)
    ours = fh.share(a)
    address, deleter = producers.take(ours.__dlpack__(max_version=(1, 0)))
    del ours
    producers.call_on_foreign_thread(deleter, address)
    fh.ledger.live()  # an entry into the module drains what waits


def test_x16_an_immutable_producer_is_never_written_through():
    """X16: torch ignores READ_ONLY and writes through it; here it gets a copy, and NumPy a read-only view."""
    made = Made([1.0, 2.0, 3.0], flags=producers.READ_ONLY)
    t = fh.convert(Modern(made), "torch")
    t[0] = 9
    assert made.array.tolist() == [1.0, 2.0, 3.0]
    assert made.deletes == 1
    view_of = Made([1.0, 2.0], flags=producers.READ_ONLY)
    view = fh.share(Modern(view_of), "numpy")
    assert not view.flags.writeable
    view_of.array[0] = 5
    assert view[0] == 5
    refused("RO01", fh.share, Modern(Made([1.0], flags=producers.READ_ONLY)), "torch")


def test_x18_a_small_view_that_pins_a_large_buffer():
    """X18: the hint names the bytes, and the ledger knows the ratio."""
    big = np.zeros(2_000_000)
    plan = fh.plan(big[:10], "torch")
    assert "HT02" in codes(plan)
    t = fh.share(big[:10], "torch")
    buffer = fh.ledger.owner(t)
    assert buffer["len"] == big.nbytes
    copied = fh.copy(big[:10], "torch")
    assert "HT02" not in codes(fh.plan(copied, "numpy"))
    del t


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: torch.eye(3).to_sparse(), "LY02"),
        (lambda: torch.eye(3).to_sparse_csr(), "LY02"),
        (lambda: torch.empty(3, device="meta"), "LY03"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "DT03"),
    ],
    ids=["coo", "csr", "meta", "quantised"],
)
def test_x19_tensors_without_a_dense_buffer(make, code):
    """X19: sparse, meta and quantised tensors are refused by name, before a byte is read."""
    refused(code, fh.convert, make(), "numpy")
    assert fh.plan(make(), "numpy").verdict == "reject"


def test_x19_a_fake_tensor_has_no_storage():
    """X19: PyTorch exports a capsule with NULL data for a FakeTensor."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(3)
    refused("LY03", fh.convert, fake, "numpy")


def test_x20_one_exception_class_for_copy_false():
    """X20: torch and jax raise ValueError, the standard says BufferError: ours is both."""
    a = np.arange(3)[::-1]
    error = refused("ST01", fh.share, a, "torch")
    assert isinstance(error, BufferError) and isinstance(error, ValueError)
    with pytest.raises(BufferError):
        fh.convert(a, "torch", copy=False)


def test_x21_is_copied_is_true_in_both_directions():
    """X21: torch never sets IS_COPIED; a producer's own word is checked by what it aliases."""
    copied = fh.copy(np.arange(3.0))
    flags = producers.opened(copied.__dlpack__(max_version=(1, 0))).flags
    shared = producers.opened(fh.share(np.arange(3.0)).__dlpack__(max_version=(1, 0))).flags
    assert shared & producers.IS_COPIED == 0
    assert flags in (0, producers.IS_COPIED)
    # A producer that ignores copy=True: we copy ourselves.
    made = Made([1.0, 2.0])
    out = fh.copy(Modern(made), "numpy")
    made.array[0] = 9
    assert out[0] == 1.0


def test_x22_what_is_lent_cannot_be_resized():
    """X22: a buffer export is held, and a reference to an array."""
    buffer = bytearray(16)
    lent = fh.share(buffer)
    with pytest.raises(BufferError):
        buffer.append(1)
    numbers = array.array("d", [1, 2, 3])
    other = fh.share(numbers, "numpy")
    with pytest.raises(BufferError):
        numbers.append(4)
    a = np.arange(8)
    third = fh.share(a, "torch")
    with pytest.raises(ValueError):
        a.resize(100)
    assert third[7].item() == 7
    del lent, other, third
    buffer.append(1)
    numbers.append(4)


class OfItsOwn(TypeError):
    """A producer's own TypeError (as Arrow's nulls raise)."""


def test_x26_a_producers_own_type_error_propagates_after_one_call():
    """X26: torch calls such a producer four times, numpy twice, and the flag is lost on the way."""
    producer = Raises(OfItsOwn("nulls"))
    with pytest.raises(OfItsOwn):
        fh.convert(producer, "numpy")
    assert len(producer.calls) == 1


@pytest.mark.parametrize("kind", [Modern, OldStream, NoArguments])
def test_x26_every_signature_is_called_once(kind):
    """X26: decided by signature, once a type; a CPU producer never gets a stream."""
    producer = kind(Made([1.0, 2.0], legacy=kind is not Modern))
    out = fh.convert(producer, "numpy")
    assert out.tolist() == [1.0, 2.0]
    assert len(producer.calls) == 1 and "stream" not in producer.calls[0]


def test_x26_our_own_dlpack_raises_only_buffer_errors():
    """X26: so that a consumer's ladder is never climbed."""
    a = np.arange(3)
    a.flags.writeable = False
    ours = fh.share(a)
    for arguments in ({}, {"max_version": (0, 8)}, {"dl_device": (2, 0), "max_version": (1, 0)}):
        with pytest.raises(BufferError):
            ours.__dlpack__(**arguments)


def test_hostile_fields_never_crash():
    """Hard case 15: ndim, shape, strides, dtype and device that no producer should send."""
    for fields in (
        {"ndim": -1},
        {"ndim": 65},
        {"shape": (-3,)},
        {"shape": (1 << 62, 8), "strides": (8, 1)},
        {"strides": (1 << 62,)},
        {"data": 0},
        {"dtype": (2, 32, 0)},
        {"dtype": (2, 0, 1)},
        {"dtype": (99, 32, 1)},
        {"device": (77, 0)},
        {"byte_offset": (1 << 64) - 1},
    ):
        made = Made([1.0, 2.0, 3.0], **fields)
        capsule = made.capsule()
        error = refused("CP02", fh.from_dlpack, capsule)
        assert next(iter(fields)).split("_")[0] in str(error), (fields, str(error))
        del capsule, error
        gc.collect()  # the exception's traceback held the capsule
        assert made.deletes == 1, fields
    assert ctypes.sizeof(producers.Versioned) == 80
