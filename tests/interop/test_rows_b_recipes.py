"""Rows B02, B03, B05, B11, B12 and B23: the reasons why people convert at all, as recipes that do what they promise."""

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

import freehold as fh
from row_tools import address, blocking, codes, copies_made, do, ledger_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_b02_preprocess_with_numpy():
    """B02: preprocess with NumPy (or pandas), hand over to PyTorch: the result of the last step is shared."""
    raw = np.array([[1.0, 200.0], [3.0, 400.0]])
    scaled = ((raw - raw.mean(axis=0)) / raw.std(axis=0)).astype(np.float32)
    planned, t = do("convert", scaled, "torch")
    assert planned.verdict == "share" and t.tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    t[0, 0] = 5
    assert scaled[0, 0] == 5
    # Or leave the last cast to the handover: the same values, one pass less.
    fused = fh.convert((raw - raw.mean(axis=0)) / raw.std(axis=0), "torch", dtype="float32")
    assert fused.dtype == torch.float32 and fused[1].tolist() == t[1].tolist()


def test_b02_preprocess_with_pandas():
    """B02: a pandas column after its preprocessing goes over with the dtype that the model wants."""
    column = pd.Series([1.0, 2.0, 3.0]).rolling(2, min_periods=1).mean()
    planned, t = do("convert", column, "torch", dtype="float32")
    assert list(planned.steps) == ["cast"] and t.tolist() == [1.0, 1.5, 2.5]
    planned, view = do("share", column, "numpy")
    assert planned.verdict == "share" and not view.flags.writeable and codes(planned) == ["RO02"]


def test_b03_borrow_for_one_call():
    """B03: functions that PyTorch lacks: borrow for one call, and the view ends with the block."""
    t = torch.tensor([3.0, 1.0, 2.0])
    with fh.share(t) as view:
        assert np.median(np.from_dlpack(view)) == 2.0
        assert ledger_of(t)[0] == "torch"
        np.from_dlpack(view)[0] = 30.0
    assert t[0] == 30.0 and fh.ledger.owner(t) is None
    with pytest.raises(fh.BoundaryError, match="given back"):
        np.from_dlpack(view)


def test_b03_a_view_that_outlives_the_block_is_reported_as_still_lent():
    """B03: a native view that outlives its block is reported, and stays usable and on the ledger until it is gone."""
    t = torch.tensor([3.0, 1.0, 2.0])
    with pytest.warns(fh.BoundaryWarning, match=r"f32\[3\] torch cpu is still lent") as caught:
        with fh.share(t) as view:
            kept = np.from_dlpack(view)
    assert caught[0].filename == __file__
    assert ledger_of(t)[0] == "torch" and "still lent" in fh.ledger.report()
    t[1] = 9
    assert kept.tolist() == [3.0, 9.0, 2.0], "the memory is held by whoever still looks at it"
    del kept
    assert fh.ledger.owner(t) is None


def test_b05_matplotlib_takes_what_freehold_gives(axes):
    """B05: matplotlib draws the tensor's own memory, and takes an fh.Tensor where it takes an array."""
    t = torch.tensor([0.0, 1.0, 4.0, 9.0])
    (line,) = axes.plot(fh.share(t, "numpy"))
    assert line.get_ydata().tolist() == t.tolist()
    shown = axes.imshow(fh.share(t.reshape(2, 2)))
    assert shown.get_array().tolist() == [[0.0, 1.0], [4.0, 9.0]]


def test_b11_imshow_with_and_without_grad(axes):
    """B11: plt.imshow(image.numpy()) fails as soon as grad is on; convert(detach=True) does not, and copies nothing."""
    image = torch.rand(28, 28)
    assert axes.imshow(fh.convert(image, "numpy"), cmap="gray").get_array().shape == (28, 28)
    image.requires_grad_()
    with pytest.raises(RuntimeError, match="requires grad"):
        axes.imshow(image.numpy(), cmap="gray")
    assert do("convert", image, "numpy")[1].code == "GR01"
    planned, pixels = do("convert", image, "numpy", detach=True)
    assert planned.verdict == "share" and address(pixels) == image.data_ptr()
    shown = axes.imshow(pixels, cmap="gray").get_array()
    assert np.array_equal(shown, image.detach().numpy())


CSV = "a,b,c\n1,0.5,x\n2,1.5,y\n3,2.5,z\n"


def test_b12_a_column_at_a_time_from_csv():
    """B12: torch.from_numpy(df.values).float(): a column at a time, one pass, no consolidation."""
    df = pd.read_csv(io.StringIO(CSV))
    with pytest.raises(TypeError):
        torch.from_numpy(df.values)
    for name in ("a", "b"):
        planned, t = do("convert", df[name], "torch", dtype="float32")
        assert planned.verdict == "copy" and list(planned.steps) == ["cast"] and planned.bytes_copied == 12
        assert t.dtype == torch.float32 and t.tolist() == df[name].tolist()
        t[0] = 99
        assert df[name][0] != 99


def test_b12_a_whole_frame_is_one_pass_where_pandas_and_torch_make_three_arrays():
    """B12: for a whole frame the plan shows the copies that `df.values` and `.float()` hide."""
    df = pd.read_csv(io.StringIO(CSV))[["a", "b"]]
    values = df.values
    assert values.dtype == np.float64 and not np.shares_memory(values, df["b"].to_numpy()), "consolidated: a copy"
    planned = fh.plan(df, "torch", dtype="float32")
    assert (planned.verdict, list(planned.steps), planned.bytes_copied) == ("copy", ["layout", "cast"], 24)
    assert codes(planned) == ["LY01", "CA01"], "gathered, and cast: the two that are hidden today"
    before = copies_made()
    t = fh.convert(df, "torch", dtype="float32")
    assert copies_made() == before + 1 and fh.ledger.copies()[-1]["bytes"] == 24, "one pass for both"
    assert t.dtype == torch.float32 and t.is_contiguous() and t.tolist() == [[1.0, 0.5], [2.0, 1.5], [3.0, 2.5]]
    assert fh.convert(df, "numpy").tolist() == values.tolist(), "promoted as NumPy and pandas do"
    with pytest.raises(fh.BoundaryError) as refused:
        fh.share(df, "numpy")
    assert refused.value.code == "LY01" and "2 columns" in str(refused.value)
    assert eval(refused.value.fixes[1].split("#")[0], {"fh": fh, "x": df}).tolist() == [1, 2, 3]
    with fh.policy(copies="error"), pytest.raises(fh.BoundaryError) as refused:
        fh.convert(df, "torch")
    assert refused.value.code == "PO01"
    with pytest.raises(fh.BoundaryError, match="column 'b'") as refused:
        fh.convert(df, "torch", dtype="int32")
    assert refused.value.code == "CA02"


def test_b12_an_all_float_frame_is_read_only_in_pandas_3():
    """B12: an all-float frame is one block, which pandas 3 hands out read-only: shared with NumPy, copied for torch."""
    df = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    assert not df.values.flags.writeable, "pandas 3, today"
    planned, view = do("share", df, "numpy")
    assert planned.verdict == "share" and codes(planned) == ["RO02"]
    assert view.tolist() == df.values.tolist() and np.shares_memory(view, df.values)
    planned, t = do("convert", df, "torch")
    assert blocking(planned) == ["RO01"] and planned.bytes_copied == 48
    t[0, 0] = 5
    assert df["a"][0] == 0


def test_b12_text_and_nulls_are_refused_with_what_to_do():
    """B12: text has no number (DT01/DT03), nulls have no value (NU01) unless fill= says which."""
    df = pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64"), "s": ["x", "y", "z"], "o": [1, "two", 3.0]})
    assert np.isnan(df["n"].to_numpy(dtype="float64", na_value=np.nan)[1]), "what people get today: a float64 NaN"
    planned, refused = do("convert", df["n"], "torch")
    assert refused.code == "NU01" and "1 of 3" in str(refused) and "fill=" in refused.fixes[0]
    t = fh.convert(df["n"], "torch", fill=-1)
    assert t.dtype == torch.int64 and t.tolist() == [1, -1, 3]
    for name in ("s", "o"):
        planned, refused = do("convert", df[name], "torch")
        assert refused.code in ("DT01", "DT03"), name
    planned, refused = do("convert", df, "torch")
    assert refused.code == "NU01" and "column 'n'" in str(refused), "the column is named"
    planned, refused = do("convert", df[["s"]], "torch")
    assert refused.code == "DT01" and "column 's'" in str(refused)
    assert fh.convert(df[["n"]], "torch", fill=0).tolist() == [[1], [0], [3]]


def test_b23_the_four_uses_that_remain():
    """B23: visualisation, evaluation, exporting data, debugging: one recipe each, run by test_recipes.py."""
    from test_recipes import FOLDER, expected

    recipes = {script.stem: script for script in FOLDER}
    for name in ("plot_image", "predictions_out", "export_data", "debug_values"):
        assert expected(recipes[name])
    t = torch.tensor([[1.0, 2.0]], requires_grad=True)
    text = io.StringIO()
    np.savetxt(text, fh.convert(t, "numpy", detach=True), fmt="%g")  # exporting
    assert text.getvalue() == "1 2\n"
    view = fh.share(t, "numpy", detach=True)  # debugging: is this the memory that I think it is?
    assert fh.explain(t.detach(), view).aliases and fh.explain(t.detach(), view).bytes == 8
