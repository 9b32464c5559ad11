"""Tables of pandas, Polars and Arrow: one block is shared, columns and their chunks are gathered in one pass, and a column
that is no numbers is refused by its name. The values are compared with what each library makes of its own table."""

import datetime
import decimal

import numpy as np
import pytest
import torch

import freehold as fh
from frameworks import framework
from producers import refused

pd = pytest.importorskip("pandas")
pa = framework("pyarrow")
pl = framework("polars")


def chunked(*chunks):
    """A column of pandas in several chunks of Arrow."""
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array(list(chunks))))


TABLES = {
    "pandas, two dtypes": lambda: pd.DataFrame({"a": [1.5, 2.5, 3.5], "b": [1, 2, 3]}),
    "pandas, Arrow": lambda: pd.DataFrame({"a": pd.Series([1, 2, 3], dtype="int32[pyarrow]"), "b": [4.5, 5, 6]}),
    "pandas, a column in chunks": lambda: pd.DataFrame({"a": chunked([1, 2], [3]), "b": [4.5, 5.0, 6.0]}),
    "pandas, all columns in chunks": lambda: pd.DataFrame({"a": chunked([1], [2, 3]), "b": chunked([4, 5], [6])}),
    "pandas, masked": lambda: pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int8"), "b": [4.5, 5.0, 6.0]}),
    "pandas, one name": lambda: pd.DataFrame([[1, 2.5], [3, 4.5]], columns=["a", "a"]),
    "polars": lambda: pl.DataFrame({"a": [1, 2, 3], "b": [4.5, 5.0, 6.0]}),
    "polars, one dtype": lambda: pl.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]}),
    "polars, in chunks": lambda: pl.concat([pl.DataFrame({"a": [1], "b": [2.5]})] * 3, rechunk=False),
    "polars, no rows": lambda: pl.DataFrame({"a": [], "b": []}, schema={"a": pl.Int8, "b": pl.Float32}),
    "arrow": lambda: pa.table({"a": [1, 2, 3], "b": [4.5, 5.0, 6.0]}),
    "arrow, other chunks in each": lambda: pa.table({"a": pa.chunked_array([[1], [2, 3]]), "b": pa.chunked_array([[4, 5], [6]])}),
    "arrow, a batch": lambda: pa.record_batch({"a": [1, 2, 3], "b": pa.array([True, False, True])}),
}


def expected(table):
    """The numbers, as the library itself hands them to NumPy."""
    if isinstance(table, (pa.Table, pa.RecordBatch)):
        return table.to_pandas().to_numpy()
    return table.to_numpy()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", TABLES)
def test_B12_a_table_is_gathered_in_one_pass(name, order):
    table = TABLES[name]()
    want = np.asarray(expected(table), "float64")
    plan = fh.plan(table, "numpy", dtype="float64", order=order)
    assert plan.verdict == "copy" and plan.bytes_copied == want.nbytes and "LY01" in plan.codes
    mark = fh.ledger.mark()
    got = fh.convert(table, "numpy", dtype="float64", order=order)
    assert got.dtype == np.float64 and got.shape == want.shape and np.array_equal(got, want)
    assert got.flags[f"{order}_CONTIGUOUS"] and got.flags.writeable
    copies = [copy for copy in fh.ledger.copies() if copy["bytes"] == want.nbytes]
    assert want.nbytes == 0 or copies, "one copy, of the bytes that were planned"
    del got
    assert not fh.ledger.leaks(since=mark)


@pytest.mark.parametrize("to", ["torch", "numpy", None, "mlx", "pyarrow"])
def test_B12_a_table_arrives_everywhere(to):
    table = TABLES["arrow, other chunks in each"]()
    y = fh.convert(table, to, dtype="float32")
    assert np.array_equal(np.asarray(fh.share(y, "numpy")), np.asarray(expected(table), "float32"))


def test_B12_the_dtype_of_the_whole_is_numpys():
    assert fh.convert(TABLES["polars"](), "numpy").dtype == np.result_type("i8", "f8")
    assert fh.convert(TABLES["arrow, a batch"](), "numpy").dtype == np.result_type("i8", "?")
    assert fh.convert(TABLES["polars, one dtype"](), "torch").dtype == torch.int64


@pytest.mark.parametrize("name", TABLES)
def test_B12_columns_are_not_one_array(name):
    error = refused("LY01", fh.share, TABLES[name](), "numpy")
    assert "columns" in str(error) and any("fh.copy(x)" in fix or "fh.convert(x" in fix for fix in error.fixes)


NOT_NUMBERS = {
    "pandas, text": (lambda: pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), "DT01"),
    "pandas, categories": (lambda: pd.DataFrame({"b": pd.Series(["x"], dtype="category"), "a": [1]}), "DT03"),
    "pandas, dates": (lambda: pd.DataFrame({"b": pd.to_datetime(["2020-01-01"])}), "DT03"),
    "pandas, nulls": (lambda: pd.DataFrame({"a": [1.0], "b": pd.array([None], dtype="Int64")}), "NU01"),
    "polars, text": (lambda: pl.DataFrame({"a": [1], "b": ["x"]}), "DT03"),
    "polars, nulls": (lambda: pl.DataFrame({"a": [1], "b": [None]}, schema={"a": pl.Int8, "b": pl.Int8}), "NU01"),
    "arrow, text": (lambda: pa.table({"a": [1], "b": ["x"]}), "DT03"),
    "arrow, nulls": (lambda: pa.table({"a": [1, 2], "b": [None, 2]}), "NU01"),
    "arrow, lists": (lambda: pa.table({"b": pa.array([[1, 2]], pa.list_(pa.int8(), 2))}), "LY01"),
}


@pytest.mark.parametrize("name", NOT_NUMBERS)
def test_X06_the_column_is_named(name):
    make, code = NOT_NUMBERS[name]
    error = refused(code, fh.convert, make(), "numpy")
    assert "column 'b'" in str(error) and fh.plan(make(), "numpy").codes == (code,)


def test_X02_nulls_are_filled_in_every_column():
    for table in (NOT_NUMBERS["polars, nulls"][0](), NOT_NUMBERS["pandas, nulls"][0]()):
        assert fh.convert(table, "numpy", dtype="float64", fill=7).tolist() == [[1, 7]]
    assert fh.convert(NOT_NUMBERS["arrow, nulls"][0](), "numpy", fill=0).tolist() == [[1, 0], [2, 2]]


def test_a_table_without_columns():
    refused("OB01", fh.convert, pl.DataFrame(), "numpy")
    assert fh.convert(pd.DataFrame(), "numpy").shape == (0, 0)


# -- columns of pandas that are no plain numbers, with the first fix of each run ---------------------------------------------

COLUMNS = {
    "category": (lambda: pd.Series(["a", "b", "a"], dtype="category"), "DT03", [0, 1, 0]),
    "an index of categories": (lambda: pd.CategoricalIndex(["a", "b"]), "DT03", [0, 1]),
    "an array of categories": (lambda: pd.Categorical(["b", "b"]), "DT03", [0, 0]),
    "dates": (lambda: pd.Series(pd.to_datetime(["1970-01-02"]).astype("datetime64[s]")), "DT03", [86400]),
    "dates in a zone": (lambda: pd.Series(pd.to_datetime(["1970-01-02"], utc=True).as_unit("s")), "DT03", [86400]),
    "durations": (lambda: pd.Series(pd.to_timedelta([5], unit="s").as_unit("s")), "DT03", [5]),
    "periods": (lambda: pd.Series(pd.period_range("1970-01-03", periods=2, freq="D")), "DT03", [2, 3]),
    "an index of dates": (lambda: pd.DatetimeIndex(["1970-01-02"]).as_unit("s"), "DT03", [86400]),
    "intervals": (lambda: pd.Series(pd.interval_range(0, 2)), "DT03", [0, 1]),
    "sparse": (lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1])), "LY02", [0, 0, 1]),
    "levels": (lambda: pd.MultiIndex.from_tuples([(1, 2), (3, 4)]), "LY01", [1, 3]),
    "text": (lambda: pd.Series(["1.5", "2"], dtype="str"), "DT01", [1.5, 2]),
    "dates of Arrow": (lambda: pd.Series([datetime.date(1970, 1, 3)], dtype=pd.ArrowDtype(pa.date32())), "DT03", [2]),
    "times of Arrow": (lambda: pd.Series([5], dtype="timestamp[s][pyarrow]"), "DT03", [5]),
    "decimals of Arrow": (lambda: pd.Series([decimal.Decimal("1.5")], dtype=pd.ArrowDtype(pa.decimal128(5, 2))), "DT03", [1.5]),
    "text of Arrow": (lambda: pd.Series(["1.5"], dtype="string[pyarrow]").astype(pd.ArrowDtype(pa.string())), "DT03", [1.5]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_X06_a_column_of_pandas_is_refused_with_a_fix_that_runs(name):
    make, code, values = COLUMNS[name]
    error = refused(code, fh.convert, make(), "numpy")
    assert fh.plan(make(), "numpy").codes == (code,)
    mended = eval(error.fixes[0], {"x": make()})
    assert fh.convert(mended, "numpy").tolist() == values


def test_the_arrays_inside_are_taken_too():
    assert fh.convert(pd.array([1, 2], dtype="Int16"), "torch").tolist() == [1, 2]
    assert fh.convert(pd.array([1.5], dtype="Float32"), "numpy").dtype == np.float32
    assert fh.convert(pd.array([True, False], dtype="boolean"), "numpy").tolist() == [True, False]
    refused("NU01", fh.convert, pd.array([1, None], dtype="Int16"), "torch")
    assert fh.convert(pd.array([1, None], dtype="Int16"), "numpy", fill=3).tolist() == [1, 3]
    held = pd.Series([1.5, 2.5]).array
    assert fh.share(held, "numpy").__array_interface__["data"][0] == held.to_numpy().__array_interface__["data"][0]
