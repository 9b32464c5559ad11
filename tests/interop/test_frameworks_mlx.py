"""MLX on the CPU, both ways: it copies and casts silently by itself; here it is given one copy, in its own memory, and told."""

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from capsules import DTYPES
from frameworks import dtype_of, framework, own_way, pointer, values
from producers import refused

mx = framework("mlx.core")
ROW = fh._freehold._caps("mlx")
DTYPES_OF_ROW = [dtype for dtype in DTYPES if dtype in ROW["dtypes"]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_mlx_by_itself_never_shares(dtype):
    assert ROW["own_memory"]
    assert own_way(mx.array, dtype=dtype, legacy=True)[0] in ("copies", "refuses")


@pytest.mark.parametrize(("wide", "narrow"), [("float64", "float32"), ("complex128", "complex64")])
def test_X03_mlx_by_itself_halves_them_without_a_word(wide, narrow):
    assert own_way(mx.array, dtype=wide, legacy=True) == ("copies", narrow)


@pytest.mark.parametrize("dtype", DTYPES_OF_ROW)
@pytest.mark.parametrize("shape", [(), (0, 3), (3,), (2, 3)])
def test_one_copy_in_the_dtype_that_was_asked_for(shape, dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    a = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(kind)
    plan = fh.plan(a, "mlx")
    assert plan.verdict == "copy" and plan.codes[0] == "OB02" and plan.bytes_copied == a.nbytes
    before = fh.ledger.stats()["copied"]
    x = fh.convert(a, "mlx")
    copied = sum(row["bytes"] for row in fh.ledger.stats()["copied"]) - sum(row["bytes"] for row in before)
    assert copied == a.nbytes
    assert isinstance(x, mx.array) and tuple(x.shape) == shape and dtype_of(x) == dtype
    assert np.asarray(fh.share(x, "numpy")).tobytes() == a.tobytes()


def test_f64_stays_f64():
    a = np.array([np.pi, 1e300])
    assert values(fh.convert(a, "mlx")) == a.tolist()


def test_layouts_casts_and_byte_order_are_one_pass():
    a = np.arange(6.0).reshape(2, 3)
    for x in (a.T, a[:, ::2], a[::-1, ::-1], a.astype(">f8"), np.broadcast_to(a[0], (2, 3))):
        assert values(fh.convert(x, "mlx")) == x.tolist()
    assert values(fh.convert(a, "mlx", dtype="int16")) == a.tolist()
    assert dtype_of(fh.convert(a, "mlx", dtype="bfloat16")) == "bfloat16"
    refused("CA02", fh.convert, np.array([300]), "mlx", dtype="int8")
    refused("DT02", fh.convert, np.zeros(2, "c16"), "mlx")
    refused("OB02", fh.share, a, "mlx")


def test_a_copy_does_not_see_later_writes():
    a = np.arange(3, dtype="f4")
    x = fh.copy(a, "mlx")
    a[0] = 9
    assert values(x) == [0, 1, 2]


def test_lists_frames_and_tensors_arrive():
    pd = pytest.importorskip("pandas")
    assert values(fh.convert([[1.0, 2.0]], "mlx")) == [[1, 2]]
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    assert values(fh.convert(frame, "mlx")) == [[1, 0.5], [2, 1.5]] and fh.plan(frame, "mlx").bytes_copied == 64
    assert values(fh.convert(torch.ones(2, requires_grad=True), mx, detach=True)) == [1, 1]
    refused("GR01", fh.convert, torch.ones(2, requires_grad=True), mx)


@pytest.mark.parametrize("dtype", DTYPES_OF_ROW)
def test_A03_an_array_is_shared_with_others(dtype):
    x = mx.array([0, 1, 1]).astype(getattr(mx, "bool_" if dtype == "bool" else dtype), stream=mx.cpu)
    view = fh.share(x, "numpy")
    assert pointer(view) == pointer(x) and view.dtype.name == dtype
    view[0] = 1
    assert values(x)[0] == 1


def test_what_was_lent_is_not_written_to_by_mlx():
    x = mx.array([1.0, 2.0])
    view = fh.share(x, "numpy")
    x[0] = 9
    mx.eval(x)
    assert values(x) == [9, 2] and view.tolist() == [1, 2], "an assignment makes a new array while somebody has the old one"


def test_a_lazy_array_is_computed_first():
    assert fh.share(mx.array([1.0, 2.0]) * 2, "numpy").tolist() == [2, 4]
    t = fh.share(mx.array([[1.0, 2.0], [3.0, 4.0]]).T, "torch")
    assert t.tolist() == [[1, 3], [2, 4]]


def test_the_same_array_comes_back():
    x = mx.array([1.0])
    assert fh.share(x, "mlx") is x and fh.convert(x, mx) is x and fh.copy(x, "mlx") is not x
