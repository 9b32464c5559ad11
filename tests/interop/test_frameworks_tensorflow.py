"""TensorFlow, both ways: immutability, row-major only, alignment that its operations need, and what it aborts on."""

import signal
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import freehold as fh
from capsules import DTYPES
from frameworks import aligned, dtype_of, framework, misaligned, own_way, pointer, values
from producers import refused

tf = framework("tensorflow")
ROW = fh._freehold._caps("tensorflow")


def take(producer):
    return tf.experimental.dlpack.from_dlpack(producer.__dlpack__())


def own(**fields):
    return own_way(take, legacy=True, **fields)


# -- the row, measured ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtypes_of_the_row_are_those_that_tensorflow_shares(dtype):
    assert own(dtype=dtype) == (("shares", dtype) if dtype in ROW["dtypes"] else ("refuses", None))


@pytest.mark.parametrize(
    ("shape", "strides", "taken"),
    [((2, 3), (3, 1), True), ((2, 3), (1, 2), False), ((3, 2), (4, 1), False), ((3,), (2,), False),
     ((3, 4), (0, 1), False), ((1, 4), (777, 1), True), ((), (), True)],
)
def test_A24_only_compact_row_major_is_taken(shape, strides, taken):
    assert (own(shape=shape, strides=strides)[0] == "shares") == taken
    assert ROW["strides"] == "compact"


def test_a_byte_offset_is_refused_by_tensorflow_and_never_given():
    assert own(byte_offset=64)[0] == "refuses" and not ROW["byte_offset"]
    a = aligned(np.arange(32, dtype="f4"))
    assert pointer(fh.share(a[16:], "tensorflow", freeze=True)) == pointer(a) + 64


def test_X08_tensorflow_takes_unaligned_memory_and_aborts_on_its_use():
    assert {own(start=start)[0] for start in (1, 4, 16, 32)} == {"shares"} and ROW["alignment"] == 64
    code = """
import numpy as np
import freehold as fh
from frameworks import aligned, framework
tf = framework("tensorflow")
memory = aligned(np.zeros(1024, "u1"))[32:288].view("f4")
t = tf.experimental.dlpack.from_dlpack(fh.share(memory).__dlpack__())
t + t
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGABRT, "if this fails, TensorFlow has learned to use it"


# -- to TensorFlow -------------------------------------------------------------------------------------------------------


def test_X17_a_mutable_owner_is_copied_unless_it_is_frozen_or_trusted():
    a = aligned(np.arange(3, dtype="f4"))
    assert fh.plan(a, "tensorflow").codes == ("AL03",)
    t = fh.convert(a, "tensorflow")
    assert pointer(t) != pointer(a)
    frozen = fh.share(a, "tensorflow", freeze=True)
    assert pointer(frozen) == pointer(a)
    del frozen
    with fh.policy(alias="trust"):
        t = fh.share(a, tf)
    a[0] = 9
    assert values(t) == [9, 1, 2]
    refused("AL03", fh.share, a, "tensorflow")


def test_X08_unaligned_memory_is_copied_and_can_be_used():
    a = misaligned(np.arange(4, dtype="f4"))
    plan = fh.plan(a, "tensorflow", freeze=True)
    assert plan.verdict == "copy" and plan.codes == ("AG01",)
    t = fh.convert(a, "tensorflow")
    assert (t + t).numpy().tolist() == [0, 2, 4, 6] and pointer(t) % 64 == 0


@pytest.mark.parametrize("make", [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[::-1]], ids=["T", "sliced", "reversed"])
def test_A24_other_layouts_are_copied_row_major(make):
    a = make(aligned(np.arange(6, dtype="f4").reshape(2, 3)))
    assert fh.plan(a, "tensorflow").codes[0] in ("ST01", "ST02")
    assert values(fh.convert(a, "tensorflow")) == a.tolist()


def test_column_major_is_refused_because_there_is_none():
    a = np.zeros((2, 3), "f4")
    refused("ST02", fh.convert, a, "tensorflow", order="F")
    assert values(fh.convert(a[0], "tensorflow", order="F")) == [0, 0, 0]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d in ROW["dtypes"]])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_X09_shapes_and_dtypes_arrive_whole(shape, dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    a = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(kind)
    t = fh.convert(a, "tensorflow")
    assert tuple(t.shape) == shape and dtype_of(t) == dtype and values(t) == a.tolist()


def test_an_operation_that_reuses_its_input_does_not_write_to_what_was_lent():
    a = aligned(np.array([-1, 2, -3], "f4"))
    out = tf.nn.relu(fh.share(a, "tensorflow", freeze=True)) + 1
    assert values(out) == [1, 3, 1] and a.tolist() == [-1, 2, -3]


# -- from TensorFlow -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "bfloat16", "float32", "complex128"])
def test_X16_tensors_are_shared_read_only(dtype):
    t = tf.cast(tf.constant([0, 1, 1, 0]), dtype)
    view = fh.share(t, "numpy")
    assert pointer(view) == pointer(t) and not view.flags.writeable and view.tolist() == values(t)
    refused("RO01", fh.share, t, "torch")


def test_a_variable_is_lent_by_the_value_that_it_has_now():
    v = tf.Variable([1.0, 2.0, 3.0])
    view = fh.share(v, "numpy")
    v.assign_add([1.0, 1.0, 1.0])
    assert view.tolist() == [1, 2, 3] and not view.flags.writeable
    assert fh.share(v, "numpy").tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: tf.constant(["a"]), "DT03"),
        (lambda: tf.sparse.from_dense([[0.0, 1.0]]), "LY02"),
        (lambda: tf.ragged.constant([[1], [2, 3]]), "LY02"),
    ],
    ids=["string", "sparse", "ragged"],
)
def test_X19_what_has_no_dense_numbers_is_refused_and_does_not_end_the_process(make, code):
    assert refused(code, fh.convert, make(), "numpy").fixes


def test_X19_a_symbolic_tensor_has_no_values():
    seen = []

    @tf.function
    def inside(x):
        seen.append(refused("LY03", fh.share, x))
        return x

    inside(tf.constant([1.0]))
    assert seen


def test_the_same_tensor_comes_back():
    t = tf.constant([1.0])
    assert fh.share(t, "tensorflow") is t and fh.convert(t, tf) is t and fh.copy(t, tf) is not t
    assert fh.convert(tf.Variable([1.0]), tf).dtype == tf.float32
