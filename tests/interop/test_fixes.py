"""The lines after "Do:" run, and solve the problem: every refusal that Python code can bring about, typed in again."""

import ast

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import torch

import freehold as fh
from row_tools import read_only


def grad():
    return torch.tensor([1.0, 2.0], requires_grad=True)


def packed():
    return np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "u1"), ("b", "f8")])


def nulls():
    return pd.Series([1, None, 3], dtype="Int64")


def negated():
    return torch.tensor([1 + 2j, 3 + 4j]).conj().imag


# Code: [(source, target, wishes, verb, values that the fixes must give, policy)]
CASES = [
    ("RO01", lambda: read_only(np.arange(3.0)), "torch", {}, fh.share, [0, 1, 2], {}),
    ("RO01", lambda: read_only(np.arange(3.0)), "numpy", {"writable": True}, fh.share, [0, 1, 2], {}),
    ("RO01", lambda: read_only(np.arange(3.0)), "torch", {}, fh.convert, [0, 1, 2], {"readonly": "reject"}),
    ("RO01", lambda: torch.arange(3.0), "torch", {"writable": False}, fh.share, [0, 1, 2], {}),
    ("RO01", lambda: b"abc", "torch", {}, fh.share, [97, 98, 99], {}),
    ("RO01", lambda: read_only(np.arange(3.0)), "torch", {}, fh.share, [0, 1, 2], {"max_copy_bytes": 0}),
    ("ST01", lambda: np.arange(3.0)[::-1], "torch", {}, fh.share, [2, 1, 0], {}),
    ("ST01", lambda: np.arange(3.0)[::-1], "torch", {"dtype": "float64", "copy": False}, fh.convert, [2, 1, 0], {}),
    ("ST03", lambda: packed()["b"], "torch", {}, fh.share, [2, 4], {}),
    ("LY01", lambda: torch.arange(4.0).reshape(2, 2).T, "numpy", {"order": "C", "copy": False}, fh.convert,
     [[0, 2], [1, 3]], {}),
    ("LY01", lambda: pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), "numpy", {}, fh.share, None, {}),
    ("LY01", lambda: pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), "torch", {}, fh.share, [[1, 0.5], [2, 1.5]], {}),
    ("LY02", lambda: torch.eye(2).to_sparse(), "numpy", {}, fh.convert, [[1, 0], [0, 1]], {}),
    ("CA01", lambda: np.arange(3.0), "torch", {"dtype": "float32", "copy": False}, fh.convert, [0, 1, 2], {}),
    ("CA02", lambda: np.array([2**40]), "torch", {"dtype": "int32"}, fh.convert, None, {}),
    ("CA02", lambda: np.array([2**40]), "torch", {"dtype": "int32"}, fh.copy, None, {}),
    ("CA02", lambda: np.array([1 + 2j]), "numpy", {"dtype": "float64"}, fh.convert, None, {}),
    ("CA02", lambda: [2**70, 1], "numpy", {}, fh.copy, [2.0**70, 1], {}),
    ("CA02", lambda: 2**70, "numpy", {}, fh.copy, 2.0**70, {}),
    ("DT01", lambda: np.array([1, 2], dtype=object), "torch", {}, fh.convert, [1, 2], {}),
    ("DT01", lambda: np.array(["1.5", "2"], dtype=object), "torch", {}, fh.convert, [1.5, 2], {}),
    ("DT01", lambda: [[1, 2], [3]], "torch", {}, fh.copy, [[1, 2], [3, 0]], {}),
    ("DT01", lambda: pd.DataFrame({"a": [1.0, 2.0], "s": ["3", "4"]}), "torch", {}, fh.convert, [[1, 3], [2, 4]], {}),
    ("DT02", lambda: np.array([1, -2], dtype=ml_dtypes.int4), "torch", {}, fh.convert, None, {}),
    ("DT03", lambda: np.array(["2020-01-01"], dtype="datetime64[D]"), "torch", {}, fh.convert, [18262], {}),
    ("DT03", lambda: np.array([5], dtype="timedelta64[s]"), "torch", {}, fh.convert, [5], {}),
    ("DT03", lambda: np.array([1.5], dtype=np.longdouble), "torch", {}, fh.convert, [1.5], {}),
    ("DT03", packed, "torch", {}, fh.convert, None, {}),
    ("DT03", lambda: np.array(["12", "34"]), "torch", {}, fh.convert, None, {}),
    ("DT03", lambda: np.array([b"12", b"34"]), "torch", {}, fh.convert, None, {}),
    ("DT03", lambda: np.zeros(2, dtype="V4"), "torch", {}, fh.convert, None, {}),
    ("BO01", lambda: np.arange(3, dtype=">i4"), "torch", {}, fh.share, [0, 1, 2], {}),
    ("DV02", lambda: np.arange(3.0), "torch", {"device": "cuda:9"}, fh.convert, [0, 1, 2], {}),
    ("DV02", lambda: np.arange(3.0), "torch", {"device": "cuda:9", "dtype": "float32"}, fh.copy, [0, 1, 2], {}),
    ("GR01", grad, "numpy", {}, fh.share, [1, 2], {}),
    ("GR01", grad, "numpy", {"dtype": "float64", "order": "C"}, fh.convert, [1, 2], {}),
    ("GR01", grad, "numpy", {}, fh.copy, [1, 2], {}),
    ("GR02", grad, "numpy", {"detach": True, "writable": True}, fh.share, [1, 2], {}),
    ("LZ01", negated, "numpy", {}, fh.share, [-2, -4], {}),
    ("LZ01", lambda: torch.tensor([1 + 2j]).conj(), "numpy", {}, fh.share, [1 - 2j], {}),
    ("NU01", nulls, "torch", {}, fh.convert, [1, 0, 3], {}),
    ("NU01", nulls, "torch", {"dtype": "float32"}, fh.copy, [1, 0, 3], {}),
    ("NU01", lambda: np.ma.masked_invalid([1.0, np.nan]), "numpy", {}, fh.convert, [1, 0], {}),
    ("AL02", lambda: torch.ones(1).expand(3), "numpy", {"writable": True}, fh.share, [1, 1, 1], {}),
    ("PO01", lambda: np.arange(3.0), "torch", {"dtype": "float32"}, fh.convert, [0, 1, 2], {"copies": "error"}),
    ("PO01", lambda: np.arange(3.0), "torch", {"dtype": "float32"}, fh.convert, [0, 1, 2], {"max_copy_bytes": 4}),
    ("PO01", lambda: np.arange(3.0), "torch", {}, fh.copy, [0, 1, 2], {"max_copy_bytes": 4}),
    ("PO01", lambda: np.arange(3.0), "torch", {}, fh.share, [0, 1, 2], {"devices": "cuda"}),
    ("OB01", lambda: [1.0, 2.0], "torch", {}, fh.share, [1, 2], {}),
    ("OB01", lambda: np.float32(2.5), "torch", {}, fh.share, 2.5, {}),
]
# Codes whose first cause is not a call like these: capsules, hazards, hints, devices, broken producers.
ELSEWHERE = {"RO02", "ST02", "LY03", "LY04", "OB02", "AG01", "DV01", "DV03", "SY01", "AL01", "AL03", "VE01", "CP01", "CP02", "CP03", "HT01",
             "HT02", "AR01", "ME01", "IN01"}


def runnable(line):
    """The line as code if that is what it is, rather than advice in words."""
    try:
        tree = ast.parse(line)
    except SyntaxError:
        return None
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return tree if names & {"fh", "x", "t"} else None


def execute(tree, names):
    """Runs a line and gives the value of its last expression, or `y`, or `x` where it changed that."""
    names.update(fh=fh)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        exec(compile(ast.Module(tree.body[:-1], []), "fix", "exec"), names)
        return eval(compile(ast.Expression(last.value), "fix", "eval"), names)
    exec(compile(tree, "fix", "exec"), names)
    return names.get("y", names["x"])


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]} {c[4].__name__} {c[2]} {c[3] or ''}".strip())
def test_every_fix_that_is_code_runs_and_solves_it(case):
    code, make, to, wishes, verb, expected, rules = case
    x = make()
    with fh.policy(**rules), pytest.raises(fh.BoundaryError) as refused:
        verb(x, to, **wishes)
    assert refused.value.code == code
    fixes = [(line, runnable(line)) for line in refused.value.fixes]
    assert any(tree for _, tree in fixes), f"no line of {refused.value.fixes} is code"
    for line, tree in fixes:
        if tree is None:
            assert not line.startswith(("fh.", "with ", "x.", "t.", "x[")), f"looks like code, and is not: {line}"
            continue
        source = make()
        with fh.policy(**rules):
            result = execute(tree, {"x": source, "t": source})
            if not isinstance(result, (np.ndarray, torch.Tensor, fh.Tensor)) or "fh." not in line:
                result = verb(result, to, **wishes)  # the line mends the source: then the call does
        if "fh." in line and to:
            assert type(result).__module__.split(".")[0] == to, f"{line} gave a {type(result)}"
        if expected is not None:
            assert fh.convert(result, "numpy", detach=True).tolist() == expected, line
        if "dtype" in wishes and "drop" not in line and code != "DT02":
            assert wishes["dtype"] in str(result.dtype), f"{line} forgot the dtype"


def test_every_code_that_a_call_can_bring_about_is_here():
    known = {case[0] for case in CASES}
    assert not known & ELSEWHERE
    from test_docs_pages import CODES

    assert known | ELSEWHERE == set(CODES)


def test_a_fix_is_not_the_call_that_failed_and_not_one_that_fails_in_its_turn():
    a = read_only(np.arange(3.0))
    with fh.policy(max_copy_bytes=0), pytest.raises(fh.BoundaryError) as refused:
        fh.share(a, "torch")
    assert not any(line.startswith("fh.copy") for line in refused.value.fixes), "it would be PO01"
    with pytest.raises(fh.BoundaryError) as refused:
        fh.convert(pd.DataFrame({"a": [2**60 + 1], "b": [1.0]}), "torch")
    assert refused.value.code == "CA02" and all("allow" in line for line in refused.value.fixes)
    with pytest.raises(fh.BoundaryError) as refused:
        fh.share(object(), "torch")
    assert refused.value.code == "OB01" and not any(runnable(line) for line in refused.value.fixes)
