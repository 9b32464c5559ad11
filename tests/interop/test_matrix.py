"""Every source, every target, a choice of dtypes, layouts and owners, every verb: what is planned is what is done.

Each cell of docs/matrix.md is one of these cases, planned and then carried out: values are compared, aliasing is proved by
addresses and by writing through both sides, and the ledger must be empty at the end.

    python tests/interop/test_matrix.py --update    # writes docs/matrix.md
"""

import gc
import importlib.util
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from frameworks import NO_SKIP, REQUIRED, aligned, dtype_of, framework, pointer, shape_of, values

PAGE = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"
NEEDED = [name for name in REQUIRED if name not in ("PIL", "onnxruntime", "drjit")]
MISSING = [name for name in NEEDED if importlib.util.find_spec(name.split(".")[0]) is None]
if MISSING and not NO_SKIP:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)
for _name in NEEDED:  # now, in an order that all of them survive
    framework(_name)

DTYPES = ["bool", "uint8", "uint16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
LAYOUTS = {
    "contiguous": lambda a: a,
    "sliced": lambda a: a[:, ::2],
    "transposed": lambda a: a.T,
    "negative": lambda a: a[::-1],
    "1-d": lambda a: a[0],
    "0-d": lambda a: a[1, 1:2].reshape(()),
    "empty": lambda a: a[:0],
    "broadcast": lambda a: np.lib.stride_tricks.as_strided(a[:1], a.shape, (0, a.strides[1])),
    "other byte order": lambda a: swapped(a),
    "field of a record": lambda a: field(a),
}
# What only NumPy has; broadcast, PyTorch has too.
NUMPYS = ("broadcast", "other byte order", "field of a record")
TARGETS = ["numpy", "torch", "fh.Tensor", "jax", "tensorflow", "paddle", "mlx", "pyarrow", "tvm_ffi"]
VERBS = {"share": False, "convert": None, "copy": True}


class Absent(Exception):
    """The framework has no such tensor."""


def base(dtype):
    """A 3 x 4 array in memory aligned to 64 bytes, every value exact in every dtype."""
    return aligned((np.arange(12).reshape(3, 4) % 2).astype(getattr(ml_dtypes, dtype, dtype)))


def swapped(array):
    """The same values with their bytes the other way round; `None` where there is no such dtype."""
    dtype = array.dtype.newbyteorder()
    return None if dtype == array.dtype or array.dtype.name == "bfloat16" else array.astype(dtype)


def field(array):
    """The same values as a field of packed records, whose strides are no multiple of the item size."""
    records = np.zeros(array.shape, [("tag", "u1"), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


def frozen(array):
    array.flags.writeable = False
    return array


def own(name, a):
    """A tensor of a framework with an array's values, made by the framework itself, in memory of its own."""
    dtype = a.dtype.name
    listed = a.tolist() if dtype != "bfloat16" else a.astype("f4").tolist()
    if name == "jax":
        jax = framework("jax")
        if dtype in ("int64", "float64", "complex128"):
            raise Absent
        return jax.numpy.asarray(a)
    if name == "tensorflow":
        return framework("tensorflow").constant(listed, dtype, a.shape)
    if name == "paddle":
        paddle = framework("paddle")
        if dtype == "uint16":
            raise Absent
        return paddle.to_tensor(listed, dtype=dtype).reshape(list(a.shape))
    if name == "mlx":
        mx = framework("mlx.core")
        if dtype == "complex128":
            raise Absent
        kind = getattr(mx, "bool_" if dtype == "bool" else dtype)
        x = mx.zeros(a.shape, kind, stream=mx.cpu) if 0 in a.shape else mx.array(listed).astype(kind, stream=mx.cpu)
        mx.eval(x)
        return x
    if name == "pyarrow":
        pa = framework("pyarrow")
        if a.ndim != 1 or dtype in ("bfloat16", "complex64", "complex128"):
            raise Absent
        return pa.array(listed, dtype)
    if name == "polars":
        if a.ndim != 1 or dtype in ("bfloat16", "float16", "complex64", "complex128"):
            raise Absent
        return framework("polars").from_arrow(framework("pyarrow").array(listed, dtype))
    raise AssertionError(name)


def own_aligned(name, a):
    """As `own`, at an address that is a multiple of 64, so that the page is the same every time. MLX never has one."""
    kept = []
    for _ in range(500):
        x = own(name, a)
        if a.size == 0 or (a.dtype == bool and name in ("pyarrow", "polars")):  # no elements, or bits that are unpacked
            return x
        where = 0 if name == "mlx" else x.to_numpy(allow_copy=False).__array_interface__["data"][0] if name == "polars" else pointer(x)
        if where % 64 == 0:
            return x
        kept.append(x)
    raise AssertionError(f"no tensor of {name} is aligned to 64 bytes")


def sources():
    """(name, layout, writable, maker of a tensor from an array)."""
    for layout in LAYOUTS:
        yield "numpy", layout, True, lambda a: a
        yield "numpy", layout, False, frozen
        if layout == "broadcast":
            yield "torch", layout, True, lambda a: fh.share(a[:1], "torch").expand(a.shape)
        if layout in NUMPYS:
            continue
        yield "fh.Tensor", layout, True, fh.share
        yield "fh.Tensor", layout, False, lambda a: fh.share(a, writable=False)
        yield "tvm_ffi", layout, True, lambda a: fh.share(a, "tvm_ffi")
        if layout != "negative":
            yield "torch", layout, True, lambda a: fh.share(a, "torch")
    for layout in ("contiguous", "1-d", "0-d", "empty"):
        for name in ("jax", "tensorflow", "paddle", "mlx", "pyarrow", "polars"):
            writable = name in ("paddle", "mlx")
            yield name, layout, writable, lambda a, name=name: own_aligned(name, a)


def writes(x, value):
    """Writes to every element through the framework that has it; False where it cannot."""
    if isinstance(x, np.ndarray) and x.flags.writeable:
        x[...] = value
        return True
    if isinstance(x, torch.Tensor):
        (x[:1] if x.dim() and x.stride(0) == 0 else x).fill_(value)
        return True
    if isinstance(x, fh.Tensor) and x.writable:
        np.asarray(x)[...] = value
        return True
    if type(x).__module__.startswith(("tvm_ffi", "paddle", "mlx")):
        view = fh.share(x, "numpy")
        view[...] = value
        return True
    return False


def plain(x):
    """Values as nested lists; `None` where the framework itself has no way to print them."""
    if isinstance(x, fh.Tensor) or type(x).__module__.startswith("tvm_ffi"):
        return np.asarray(fh.share(x, "numpy")).tolist()
    if type(x).__module__.startswith("paddle") and dtype_of(x) == "bfloat16":
        return np.asarray(fh.share(x, "numpy")).tolist()
    if type(x).__module__.startswith("mlx") and 0 in shape_of(x):
        return np.zeros(shape_of(x)).tolist()
    return values(x)


def cell(decision):
    """`share`, `copy ST01`, `- DT02`."""
    verdict = {"share": "share", "copy": "copy", "reject": "-"}[decision.verdict]
    hints = {code for code, _ in decision.hints}
    codes = [code for code in decision.codes if code not in hints or code in ("RO02", "AL02")]
    if decision.verdict == "copy" and not codes:
        return "copy"
    return " ".join([verdict, *codes[:1]])


def carry_out(case, dtype):
    """One case in all verbs: {verb: cell}; `None` where the source does not exist."""
    (name, layout, writable, make), target = case
    row = {}
    for verb, rule in VERBS.items():
        a = LAYOUTS[layout](base(dtype))
        if a is None:
            return None
        try:
            x = make(a)
        except (Absent, fh.BoundaryError):
            return None
        to = None if target == "fh.Tensor" else target
        planned = fh.plan(x, to, copy=rule)
        row[verb] = cell(planned)
        try:
            y = fh.convert(x, to, copy=rule)
        except fh.BoundaryError as refused:
            assert planned.verdict == "reject" and refused.code == planned.codes[0], (planned, refused)
            continue
        assert planned.verdict != "reject", (planned, y)
        check(x, y, a, planned, target)
        del x, y
    return row


# What was carried out in this process: the page has cells that the tests of the pairs have done already.
DONE = {}


def cells_of(source, target, dtype):
    key = (*source[:3], target, dtype)
    if key not in DONE:
        DONE[key] = carry_out((source, target), dtype)
    return DONE[key]


def check(x, y, a, planned, target):
    """Values, shape and dtype, and that memory is shared or not as the plan said."""
    if y is x:  # as it was, in its own byte order
        assert planned.verdict == "share" and planned.dtype == a.dtype.name
        return
    assert shape_of(y) == a.shape and dtype_of(y) == planned.dtype, (y, planned)
    assert plain(y) == a.astype(getattr(ml_dtypes, planned.dtype, planned.dtype)).tolist()
    if a.size == 0:
        return
    aliases = fh.explain(x, y).aliases
    assert aliases is (planned.verdict == "share"), (planned, pointer(y))
    # Written through the result, and then through the source: the other side sees it exactly where memory is shared.
    one, other = (True, False) if planned.dtype == "bool" else (3, 2)
    before = plain(x)
    written = writes(y, one)
    assert written <= planned.writable, "what was planned read-only cannot be written to"
    if written:
        assert plain(x) == (np.full(a.shape, one).tolist() if aliases else before)
    before = plain(y)
    if writes(x, other):
        assert plain(y) == (np.full(a.shape, other).tolist() if aliases else before)
    if target in ("numpy", "fh.Tensor"):
        assert (y.flags.writeable if target == "numpy" else y.writable) == planned.writable


def table():
    """The page, from cases that were carried out."""
    text = [
        "# The matrix",
        "",
        "Every source and every target, in layouts that users make: what `fh.share` and `fh.convert` do, and the",
        "[code](e/README.md) of the reason. `-` is a refusal; what `convert` does not refuse, `fh.copy` copies. An array of Arrow",
        "and a column of Polars have one dimension; what is read-only is marked *ro*. Memory is aligned to 64 bytes (what is not,",
        "JAX and TensorFlow get as a copy, AG01), and JAX has no 64-bit types until `jax_enable_x64` is set.",
        "",
        "Written by `python tests/interop/test_matrix.py --update`: each cell was planned, carried out and checked by values, by",
        "addresses and by writing through both sides. `make test` does the same and compares.",
        "",
        "## Layouts, float32",
        "",
    ]
    text += rows([(source, "float32") for source in sources()], lambda s, d: f"{s[0]}, {s[1]}{'' if s[2] else ', ro'}")
    text += ["", "## Dtypes, contiguous (Arrow and Polars: one dimension)", ""]
    some = [s for s in sources() if s[1] == ("1-d" if s[0] in ("pyarrow", "polars") else "contiguous")]
    some = [s for s in some if s[2] or s[0] not in ("numpy", "fh.Tensor")]
    text += rows([(s, d) for s in some for d in DTYPES if d != "float32"], lambda s, d: f"{s[0]}, {d}")
    return "\n".join(text) + "\n"


def rows(cases, label):
    lines = ["| source | " + " | ".join(TARGETS) + " |", "|---" * (len(TARGETS) + 1) + "|"]
    for source, dtype in cases:
        cells = [cells_of(source, target, dtype) for target in TARGETS]
        if cells[0] is None:
            continue
        words = [c["share"] if c["share"] == c["convert"] else f"{c['share']} / {c['convert']}" for c in cells]
        lines.append(f"| {label(source, dtype)} | " + " | ".join(words) + " |")
    return lines


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", TARGETS)
def test_each_pair_does_what_it_planned(target, dtype):
    done = 0
    for source in sources():
        try:
            done += cells_of(source, target, dtype) is not None
        except AssertionError as error:
            raise AssertionError(f"{source[:3]} -> {target}, {dtype}: {error}") from error
    assert done >= 20


def test_B15_the_page_shows_what_is_done():
    assert PAGE.read_text(encoding="utf-8") == table(), "python tests/interop/test_matrix.py --update, and read the difference"


def test_the_ledger_is_empty_after_all_of_it():
    gc.collect()
    assert fh.ledger.live() == []


if __name__ == "__main__":
    assert sys.argv[1:] == ["--update"], __doc__
    PAGE.write_text(table(), encoding="utf-8")
