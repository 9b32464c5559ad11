"""Arrow, both ways: arrays, tensors, chunks, nulls, booleans, lists; and Polars' and pandas' columns through the C interface."""

import datetime
import decimal
import gc
import warnings

import numpy as np
import pandas as pd
import pytest

import freehold as fh
from capsules import DTYPES
from frameworks import aligned, dtype_of, framework, own_way, pointer, values
from producers import refused

pa = framework("pyarrow")
pl = framework("polars")
ROW = fh._freehold._caps("pyarrow")
NUMBERS = [dtype for dtype in DTYPES if dtype in ROW["dtypes"]]


# -- the row, measured ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtypes_of_the_row_are_those_that_arrow_shares(dtype):
    for take in (pa.Array.from_dlpack, pa.Tensor.from_dlpack):
        assert own_way(take, dtype=dtype) == (("shares", dtype) if dtype in NUMBERS else ("refuses", None))


def test_an_array_has_one_dimension_and_no_gaps():
    assert own_way(pa.Array.from_dlpack, shape=(2, 3))[0] == own_way(pa.Array.from_dlpack, shape=())[0] == "refuses"
    assert own_way(pa.Array.from_dlpack, shape=(3,), strides=(2,))[0] == "refuses"
    assert ROW["max_ndim"] == 1 and ROW["strides"] == "compact" and ROW["immutable"]


def test_a_tensor_takes_strides_from_zero_on():
    for shape, strides in [((2, 3), (1, 2)), ((3, 2), (4, 1)), ((3, 4), (0, 1)), ((), ())]:
        assert own_way(pa.Tensor.from_dlpack, shape=shape, strides=strides)[0] == "shares"
    assert own_way(pa.Tensor.from_dlpack, shape=(3,), strides=(-1,), start=64)[0] == "refuses"


@pytest.mark.parametrize("start", [1, 4, 64])
def test_X08_any_alignment_is_shared(start):
    assert own_way(pa.Array.from_dlpack, start=start)[0] == "shares"


# -- to Arrow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMBERS)
def test_X17_one_dimension_becomes_an_array_which_never_changes(dtype):
    a = np.arange(5).astype(dtype)
    assert fh.plan(a, "pyarrow").codes == ("AL03",)
    copy = fh.convert(a, "pyarrow")
    frozen = fh.share(a, "pyarrow", freeze=True)
    assert isinstance(copy, pa.Array) and pointer(copy) != pointer(a) and pointer(frozen) == pointer(a)
    assert values(copy) == values(frozen) == a.tolist() and dtype_of(copy) == dtype


def test_more_dimensions_become_a_tensor_which_is_shared_as_it_is():
    a = np.arange(6.0).reshape(2, 3)
    t = fh.share(a.T, "pyarrow")
    assert isinstance(t, pa.Tensor) and t.is_mutable and pointer(t) == pointer(a) and t.strides == (8, 24)
    a[0, 0] = 7
    assert t.to_numpy()[0, 0] == 7
    a.flags.writeable = False
    assert not fh.share(a, "pyarrow").is_mutable
    assert isinstance(fh.share(np.array(2.0), "pyarrow"), pa.Tensor)


def test_gaps_and_negative_strides_are_copied():
    a = np.arange(6.0)
    assert fh.plan(a[::2], "pyarrow").codes == ("ST02",) and values(fh.convert(a[::2], "pyarrow")) == [0, 2, 4]
    assert fh.plan(a[::-1], "pyarrow").codes == ("ST01",) and values(fh.convert(a[::-1], "pyarrow")) == [5, 4, 3, 2, 1, 0]
    b = a.reshape(2, 3)[:, ::-1]
    assert fh.plan(b, "pyarrow").codes == ("ST01",) and fh.convert(b, "pyarrow").to_numpy().tolist() == b.tolist()


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_what_arrow_has_no_numbers_for_is_refused(dtype):
    refused("DT02", fh.convert, np.zeros(3, dtype), "pyarrow")
    assert values(fh.convert(np.array([True, False]), "pyarrow", dtype="uint8")) == [1, 0]


def test_empty_ones():
    assert values(fh.convert(np.zeros(0, "f4"), "pyarrow")) == []
    assert fh.convert(np.zeros((0, 3), "f4"), "pyarrow").shape == (0, 3)


# -- from Arrow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMBERS)
def test_X16_an_array_is_shared_read_only(dtype):
    x = pa.array(np.arange(4).astype(dtype))
    view = fh.share(x, "numpy")
    assert pointer(view) == pointer(x) and not view.flags.writeable and view.dtype == dtype
    assert view.tolist() == values(x) and fh.plan(x, "numpy").codes == ("RO02",)
    refused("RO01", fh.share, x, "torch")
    assert fh.convert(x, "torch", dtype="float32").tolist() == values(x)


def test_an_offset_is_honoured():
    x = pa.array([1.0, 2.0, 3.0, 4.0])
    view = fh.share(x[1:3], "numpy")
    assert view.tolist() == [2, 3] and pointer(view) == x.buffers()[1].address + 8


@pytest.mark.parametrize("make", [lambda x: x, lambda x: pa.chunked_array([x])])
def test_slices_of_an_array_are_views_of_one_buffer_whichever_way_they_come_in(make):
    x = pa.array(np.arange(8.0))
    first, rest = fh.share(make(x[1:3])), fh.share(make(x[3:]))
    assert first.data_ptr == x.buffers()[1].address + 8 and rest.data_ptr == first.data_ptr + 16
    owners = [fh.ledger.owner(t) for t in (first, rest)]
    assert owners[0]["id"] == owners[1]["id"]


def test_arrow_warns_of_nothing_on_the_way_in():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fh.share(pa.array([1.0, 2.0]), "numpy").tolist() == [1, 2]


def test_the_array_lives_as_long_as_the_view():
    view = fh.share(pa.array(np.arange(1000.0)), "numpy")
    gc.collect()
    assert view.sum() == 499500


def test_X02_nulls_are_refused_or_filled():
    x = pa.array([1, None, 3])
    assert "1 of 3" in str(refused("NU01", fh.convert, x, "numpy"))
    assert fh.convert(x, "numpy", fill=0).tolist() == [1, 0, 3] and fh.plan(x, "numpy", fill=0).verdict == "copy"
    assert fh.share(x[2:], "numpy").tolist() == [3], "the null is not in the slice"
    assert fh.convert(x[1:], "torch", fill=7).tolist() == [7, 3]
    refused("NU01", fh.convert, pa.nulls(3), "numpy")


def test_booleans_are_bits_and_are_unpacked():
    x = pa.array([True, False, True] * 5)
    assert fh.plan(x, "numpy").verdict == "copy"
    refused("OB01", fh.share, x, "numpy")
    assert fh.convert(x[1:], "numpy").tolist() == values(x)[1:]
    assert fh.convert(pa.array([True, None]), "numpy", fill=False).tolist() == [True, False]


def test_one_chunk_is_shared_and_several_are_gathered():
    one, two = pa.chunked_array([[1, 2, 3]]), pa.chunked_array([[1, 2], [3], []])
    assert pointer(fh.share(one, "numpy")) == pointer(one.chunk(0))
    plan = fh.plan(two, "numpy")
    assert (plan.verdict, plan.codes, plan.bytes_copied) == ("copy", ("LY01",), 24) and "chunks" in str(plan.reasons)
    assert fh.convert(two, "numpy").tolist() == [1, 2, 3] and fh.convert(two, "numpy").flags.writeable
    assert "chunks" in str(refused("LY01", fh.share, two, "numpy"))
    assert fh.convert(two, "torch", dtype="float32").tolist() == [1, 2, 3]
    assert fh.convert(pa.chunked_array([[1, None], [3]]), "numpy", fill=0).tolist() == [1, 0, 3]
    assert fh.convert(pa.chunked_array([], pa.float32()), "numpy").shape == (0,)
    assert fh.convert(pa.chunked_array([[], [5]], pa.int8()), "numpy").tolist() == [5]


def test_fixed_size_lists_are_one_dimension_more():
    flat = pa.array(np.arange(12, dtype="f4"))
    x = pa.FixedSizeListArray.from_arrays(flat, 3)
    view = fh.share(x, "numpy")
    assert view.tolist() == np.arange(12).reshape(4, 3).tolist() and pointer(view) == pointer(flat)
    assert fh.share(x[1:3], "numpy").tolist() == [[3, 4, 5], [6, 7, 8]]
    deep = pa.FixedSizeListArray.from_arrays(x, 2)
    assert fh.share(deep, "numpy").shape == (2, 2, 3)
    hole = pa.array([[1, 2], None, [5, 6]], pa.list_(pa.int32(), 2))
    refused("NU01", fh.share, hole, "numpy")
    assert fh.convert(pa.chunked_array([x, x]), "numpy").shape == (8, 3)


def test_tensors_come_as_they_are():
    a = np.arange(6.0).reshape(2, 3)
    x = pa.Tensor.from_numpy(a)
    view = fh.share(x, "numpy")
    assert pointer(view) == pointer(a) and view.tolist() == a.tolist()


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (pa.array(["a"]), "DT03"),
        (pa.array([b"a"]), "DT03"),
        (pa.array([datetime.date(2020, 1, 1)]), "DT03"),
        (pa.array([1, 2]).cast(pa.timestamp("ns")), "DT03"),
        (pa.array([1, 2]).cast(pa.decimal128(20)), "DT03"),
        (pa.array(["a", "b"]).dictionary_encode(), "DT03"),
        (pa.array([[1], [2, 3]]), "DT03"),
        (pa.array([{"a": 1}]), "DT03"),
        (pl.Series([{"a": 1}]), "DT03"),
        (pl.Series(["a"]), "DT03"),
    ],
)
def test_X06_what_has_no_numbers_is_refused_with_what_to_do(x, code):
    assert refused(code, fh.convert, x, "numpy").fixes
    assert fh.plan(x, "numpy").codes == (code,)


def test_the_same_object_comes_back():
    x = pa.array([1, 2])
    t = pa.Tensor.from_numpy(np.zeros((2, 2)))
    assert fh.share(x, "pyarrow") is x and fh.convert(t, pa) is t and fh.copy(x, "pyarrow") is not x


def test_a_released_struct_is_refused():
    class Spent:
        def __init__(self):
            self.made = pa.array([1.0]).__arrow_c_array__()

        def __arrow_c_array__(self, requested_schema=None):
            return self.made

    x = Spent()
    assert fh.share(x, "numpy").tolist() == [1]
    refused("CP02", fh.share, x, "numpy")


# -- Polars and pandas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [d for d in NUMBERS if d != "float16"])
def test_a_polars_column_is_shared_read_only(dtype):
    s = pl.Series(np.arange(4).astype(dtype))
    view = fh.share(s, "numpy")
    assert view.tolist() == [0, 1, 2, 3] and view.dtype == dtype and not view.flags.writeable
    assert pointer(view) == s.to_numpy(allow_copy=False).__array_interface__["data"][0]


def test_X02_polars_nulls_slices_and_chunks():
    s = pl.Series([1, None, 3])
    refused("NU01", fh.convert, s, "torch")
    assert fh.convert(s, "torch", fill=0).tolist() == [1, 0, 3]
    assert fh.share(pl.Series([1, 2, 3])[1:], "numpy").tolist() == [2, 3]
    both = pl.concat([pl.Series([1, 2]), pl.Series([3])], rechunk=False)
    assert fh.plan(both, "numpy").codes == ("LY01",) and fh.convert(both, "numpy").tolist() == [1, 2, 3]
    assert fh.convert(pl.Series([True, False]), "numpy").tolist() == [True, False]


def test_B12_an_arrow_column_of_pandas_is_shared():
    s = pd.Series([1, 2, 3], dtype="int64[pyarrow]")
    view = fh.share(s, "numpy")
    assert view.tolist() == [1, 2, 3] and not view.flags.writeable
    assert pointer(view) == pointer(s.array.__arrow_array__().chunk(0))
    refused("NU01", fh.convert, pd.Series([1, None], dtype="int64[pyarrow]"), "numpy")
    assert fh.convert(pd.Series([1, None], dtype="int64[pyarrow]"), "numpy", fill=0).tolist() == [1, 0]


def test_arrow_to_jax_free_of_copies_where_it_is_aligned():
    jnp = framework("jax").numpy
    x = pa.array(np.arange(16, dtype="f4"))
    y = fh.convert(x, "jax")
    assert isinstance(y, jnp.ndarray) and values(y) == values(x)
    assert fh.plan(x, "jax").verdict == ("share" if pointer(x) % 64 == 0 else "copy")
    assert (pointer(y) == pointer(x)) == (fh.plan(x, "jax").verdict == "share")


def test_memory_aligned_for_arrow_is_taken_without_a_copy():
    a = aligned(np.arange(4.0))
    assert pointer(fh.share(fh.share(a), "pyarrow", freeze=True)) == pointer(a)


# -- nested and extension types ------------------------------------------------------------------------------------------


def permuted():
    """Four tensors of shape (2, 3) that lie as (3, 2), from PyArrow's own constructor."""
    numbers = pa.FixedSizeListArray.from_arrays(pa.array(range(24), pa.int32()), 6)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int32(), [3, 2], permutation=[1, 0]), numbers)


@pytest.mark.parametrize("cut", [slice(None), slice(1, 3), slice(4, 4)])
def test_tensors_of_one_shape_keep_it(cut):
    for x in (pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24, dtype="i4").reshape(4, 3, 2)), permuted()):
        theirs = np.asarray(x.to_tensor().to_numpy())[cut]
        view = fh.share(x[cut], "numpy")
        assert view.shape == theirs.shape and np.array_equal(view, theirs)
        assert view.size == 0 or (view.strides == theirs.strides and np.shares_memory(view, x.to_tensor().to_numpy()))
        assert fh.convert(x[cut], "torch").tolist() == theirs.tolist()
        both = pa.chunked_array([x[cut], x])
        assert np.array_equal(fh.convert(both, "numpy"), np.concatenate([theirs, x.to_tensor().to_numpy()]))
    assert fh.convert(pa.chunked_array([], permuted().type), "numpy").shape == (0, 2, 3)


def test_a_shape_that_does_not_fit_its_list_is_refused():
    class Lies:
        """A list of two numbers whose metadata speaks of tensors of five."""

        def __arrow_c_array__(self, requested_schema=None):
            field = pa.field("", pa.list_(pa.int8(), 2), metadata={
                "ARROW:extension:name": "arrow.fixed_shape_tensor", "ARROW:extension:metadata": self.json})
            return field.__arrow_c_schema__(), pa.array([[1, 2]], pa.list_(pa.int8(), 2)).__arrow_c_array__()[1]

    for json in ('{"shape":[5]}', '{"shape":[-1,-2]}', '{"shape":[2],"permutation":[1]}', "{}", "no json", ""):
        Lies.json = json
        refused("CP02", fh.share, Lies(), "numpy")
    Lies.json = '{"shape":[1,2],"permutation":[1,0]}'
    assert fh.share(Lies(), "numpy").tolist() == [[[1], [2]]]


def test_lists_of_bits_are_unpacked():
    x = pa.array([[True, False], [False, False], [True, True]], pa.list_(pa.bool_(), 2))
    assert fh.convert(x, "numpy").tolist() == x.to_pylist() and fh.convert(x[1:], "torch").tolist() == x[1:].to_pylist()
    assert fh.convert(pa.chunked_array([x, x[2:]]), "numpy").shape == (4, 2)
    refused("OB01", fh.share, x, "numpy")


def test_X02_nulls_in_lists_are_counted_by_their_numbers():
    ints = pa.list_(pa.int32(), 2)
    for x, text in (
        (pa.array([[1, None], [3, 4]], ints), "1 of 4"),
        (pa.array([[1, 2], None], ints), "2 of 4"),
        (pa.array([[None, 2], None, [5, 6]], ints), "3 of 6"),
        (pa.array([[[1, 2]], [None], None], pa.list_(ints, 1)), "4 of 6"),
    ):
        for wishes in ({}, {"fill": 0}):
            assert text in str(refused("NU01", fh.convert, x, "numpy", **wishes))
        mended = eval(refused("NU01", fh.convert, x, "numpy").fixes[0], {"x": x})
        assert fh.convert(mended, "numpy").tolist() == x.flatten(recursive=True).fill_null(0).to_pylist()
    assert fh.share(pa.array([None, [1, 2]], ints)[1:], "numpy").tolist() == [[1, 2]]


ODD = {
    "dictionary": (lambda: pa.array([10, 20, 10]).dictionary_encode(), [10, 20, 10]),
    "dictionary, chunked": (lambda: pa.chunked_array([pa.array([10, 20]).dictionary_encode()]), [10, 20]),
    "date32": (lambda: pa.array([datetime.date(1970, 1, 3)]), [2]),
    "date64": (lambda: pa.array([86_400_000], pa.date64()), [86_400_000]),
    "time32": (lambda: pa.array([5], pa.time32("s")), [5]),
    "time64": (lambda: pa.array([5], pa.time64("ns")), [5]),
    "timestamp": (lambda: pa.array([5], pa.timestamp("us", tz="UTC")), [5]),
    "duration": (lambda: pa.array([5], pa.duration("ms")), [5]),
    "decimal32": (lambda: pa.array([decimal.Decimal("1.5")], pa.decimal32(5, 2)), [1.5]),
    "decimal128": (lambda: pa.array([decimal.Decimal("1.5")], pa.decimal128(5, 2)), [1.5]),
    "text": (lambda: pa.array(["1.5", "2"]), [1.5, 2]),
    "text views": (lambda: pa.array(["1.5", "2"], pa.string_view()), [1.5, 2]),
    "bytes of a size": (lambda: pa.array([b"ab", b"cd"], pa.binary(2)), [97, 98, 99, 100]),
    "uuid": (lambda: pa.array([bytes(range(16))], pa.uuid()), list(range(16))),
    "lists": (lambda: pa.array([[1], [2, 3]]), [1, 2, 3]),
    "large lists": (lambda: pa.array([[1], [2, 3]], pa.large_list(pa.int8())), [1, 2, 3]),
    "list views": (lambda: pa.array([[1], [2, 3]], pa.list_view(pa.int8())), [1, 2, 3]),
    "maps": (lambda: pa.array([[(1, 2)]], pa.map_(pa.int8(), pa.int8())), [2]),
    "runs": (lambda: pa.compute.run_end_encode(pa.array([7, 7, 8])), [7, 7, 8]),
    "unions": (lambda: pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([5])]), [5]),
    "polars dates": (lambda: pl.Series([datetime.date(1970, 1, 3)]), [2]),
    "polars times": (lambda: pl.Series([datetime.datetime(1970, 1, 1)], dtype=pl.Datetime("ms")), [0]),
    "polars categories": (lambda: pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])), [0, 1]),
    "polars text": (lambda: pl.Series(["1.5"]), [1.5]),
    "polars decimals": (lambda: pl.Series([decimal.Decimal("1.5")]), [1.5]),
    "polars lists": (lambda: pl.Series([[1], [2, 3]]), [1, 2, 3]),
    "polars wide integers": (lambda: pl.Series([5], dtype=pl.Int128), [5]),
}


@pytest.mark.parametrize("name", ODD)
def test_X06_the_first_fix_of_each_type_runs(name):
    make, numbers = ODD[name]
    error = refused("DT03", fh.convert, make(), "numpy")
    assert fh.convert(eval(error.fixes[0], {"x": make(), "pyarrow": pa, "numpy": np}), "numpy").tolist() == numbers


def test_a_byte_for_a_bool_is_what_arrow_keeps():
    x = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, 2], pa.int8()))
    view = fh.share(x, "numpy")
    assert view.dtype == np.int8 and view.tolist() == [0, 1, 2], "2 is true to Arrow, and no bool to DLPack"
