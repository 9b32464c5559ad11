"""ONNX Runtime: legacy capsules with NULL strides in which booleans are bytes, and values that are no tensors."""

import gc

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from frameworks import framework, pointer
from producers import refused

ort = framework("onnxruntime")
FLOAT, STRING, BFLOAT16, F8 = 1, 8, 16, 17


def value(array):
    return ort.OrtValue.ortvalue_from_numpy(array)


# -- a graph of one operator, as ONNX writes it: there is no package to write it here ---------------------------------------


def number(n):
    low, rest = n & 127, n >> 7
    return bytes([low | 128]) + number(rest) if rest else bytes([low])


def field(tag, content):
    if isinstance(content, int):
        return number(tag << 3) + number(content)
    return number(tag << 3 | 2) + number(len(content)) + content


def tensor_type(kind):
    return field(1, field(1, kind))


def output_of(operator, attributes, out):
    """What an operator makes of two floats."""
    node = field(1, b"X") + field(2, b"Y") + field(4, operator) + attributes
    ends = field(11, field(1, b"X") + field(2, tensor_type(FLOAT))) + field(12, field(1, b"Y") + field(2, out))
    model = field(1, 8) + field(7, field(1, node) + field(2, b"g") + ends) + field(8, field(1, b"") + field(2, 17))
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run_with_ort_values(None, {"X": value(np.array([1.5, 2], "f4"))})[0]


# -- in --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["bool", "float16", "int16", "uint64", "float64"])
def test_X09_every_dtype_and_shape(dtype, shape):
    """X09: NULL strides are row-major, without dimensions and without elements too."""
    a = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    x = value(a)
    for to in ("numpy", "torch", None):
        y = np.asarray(fh.share(x, to))
        assert y.dtype == dtype and y.shape == shape and y.tolist() == a.tolist()
        assert not a.size or pointer(y) == x.data_ptr()
    assert np.asarray(fh.copy(x, dtype="float32")).tolist() == a.astype("f4").tolist()


def test_X05_bfloat16_keeps_its_bits():
    """X05: NumPy cannot ask ONNX Runtime for these; here they are a share."""
    a = np.array([1.5, -2], ml_dtypes.bfloat16)
    x = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(a.view("u2"), BFLOAT16)
    with pytest.raises(RuntimeError):
        np.from_dlpack(x)
    assert fh.share(x, "numpy").tobytes() == a.tobytes() and fh.share(x, "torch").dtype == torch.bfloat16


def test_what_it_cannot_export_is_its_own_error():
    x = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros(2, "u1"), F8)
    for call in (fh.share, fh.plan):
        with pytest.raises(RuntimeError, match="type of 17"):
            call(x)


@pytest.mark.parametrize("dtype", ["bool", "float32"])
def test_X13_the_memory_outlives_the_value(dtype):
    """X13: its deleter is ours to call, when the last view goes; of booleans too, which are a view of bytes."""
    x = value(np.array([1, 0, 1], dtype))
    y = fh.share(x, "numpy")
    del x
    gc.collect()
    again = fh.share(y, "torch")
    del y
    assert again.tolist() == [1, 0, 1] and len(fh.ledger.live()) == 1


@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (lambda: output_of(b"Cast", field(5, field(1, b"to") + field(3, STRING) + field(20, 2)), tensor_type(STRING)), "DT01", "strings"),
        (lambda: output_of(b"SequenceConstruct", b"", field(4, field(1, tensor_type(FLOAT)))), "OB01", "seq(tensor(float))"),
        (lambda: ort.OrtValue.ort_value_from_sparse_tensor(sparse()), "LY02", "sparse_tensor(float)"),
    ],
    ids=["strings", "sequence", "sparse"],
)
def test_X19_values_that_are_no_tensor_of_numbers(make, code, text):
    """X19: ONNX Runtime says that they are no tensor; here it is said what they are."""
    x = make()
    error = refused(code, fh.convert, x, "numpy")
    assert text in str(error) and fh.plan(x, "torch").codes == (code,)
    if code != "OB01":
        names = {"x": x}
        exec(error.fixes[0], names)
        assert fh.convert(names["x"], "numpy").tolist() == [1.5, 2]


def sparse():
    cpu = ort.OrtDevice.make("cpu", 0)
    return ort.SparseTensor.sparse_coo_from_numpy(np.array([3, 3]), np.array([1.5, 2], "f4"), np.array([0, 4]), cpu)


# -- out -------------------------------------------------------------------------------------------------------------------


def test_X11_its_own_from_dlpack_reads_where_we_say():
    """X11: it ignores byte_offset, so ours is in the address; and size-1 dimensions, any stride of which is compact."""
    a = np.arange(8, dtype="f4").reshape(2, 4)
    for part in (a[1:], a[1, 2:], a[1:, 1:2], a[:0], a[1, 3]):
        lent = fh.share(np.asarray(part)) if part.ndim else fh.copy(part)
        x = ort.OrtValue.from_dlpack(lent)
        assert x.numpy().tolist() == part.tolist() and tuple(x.shape()) == part.shape
        assert not part.size or x.data_ptr() == lent.data_ptr


def test_what_it_refuses_of_ours_it_refuses_itself():
    """It has no booleans in DLPack, and does not read what is not compact: its error, and nothing is kept."""
    for x in (fh.share(np.array([True])), fh.share(np.zeros((2, 4), "f4")[:, ::2])):
        with pytest.raises(RuntimeError):
            ort.OrtValue.from_dlpack(x)
    assert ort.OrtValue.from_dlpack(fh.convert(np.array([True]), dtype="uint8")).numpy().tolist() == [1]
    assert ort.OrtValue.from_dlpack(fh.convert(np.ones((2, 4), "f4")[:, ::2], order="C")).numpy().tolist() == [[1, 1]] * 2


# -- round trips -----------------------------------------------------------------------------------------------------------


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


def test_onnx_runtime_calls_booleans_bytes_and_we_do_not():
    value = ort.OrtValue.ortvalue_from_numpy(np.array([[True, False], [False, True]]))
    assert np.from_dlpack(value).dtype == np.uint8, "if this is bool, its own capsule says so now"
    for to in ("numpy", "torch", None):
        y = fh.share(value, to)
        assert str(fh.plan(value, to).dtype) == "bool" and np.asarray(y).tolist() == [[True, False], [False, True]]
        assert pointer(y) == value.data_ptr()
    np.asarray(y)[0, 1] = True
    assert value.numpy().tolist() == [[True, True], [False, True]]
    assert len(fh.ledger.live()) == 1 and fh.ledger.owner(y)["owner"]["framework"] == "onnxruntime"
    assert fh.convert(value, "numpy", dtype="uint8").tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64"])
def test_onnx_runtime_takes_our_tensors(dtype):
    a = np.arange(6).reshape(2, 3).astype(dtype)
    value = ort.OrtValue.from_dlpack(fh.share(a))
    assert value.numpy().tolist() == a.tolist() and value.data_ptr() == a.ctypes.data
    a[0, 0] = 9
    assert value.numpy()[0, 0] == 9
    back = fh.share(value, "numpy")
    assert np.shares_memory(back, a) and int(fh.ledger.owner(back)["base"], 16) == a.ctypes.data
    with pytest.raises(RuntimeError):  # it takes row-major memory only, and says so itself
        ort.OrtValue.from_dlpack(fh.share(a.T))
    del value, back
    fh.ledger.live()
    assert fh.ledger.owner(a) is None


def test_onnx_runtime_and_read_only_memory():
    a = np.zeros(3, "f4")
    a.flags.writeable = False
    with pytest.raises(BufferError):  # it reads legacy capsules, which cannot say so
        ort.OrtValue.from_dlpack(fh.share(a))
    assert ort.OrtValue.from_dlpack(fh.copy(a)).numpy().tolist() == [0, 0, 0]
