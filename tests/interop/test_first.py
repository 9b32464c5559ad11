"""The two frameworks, both ways: what one side writes the other reads."""

import numpy as np
import pytest
import torch

import freehold as fh


def test_numpy_and_torch_write_into_each_other():
    a = np.arange(6.0).reshape(2, 3)
    t = fh.share(a, "torch")
    t[0, 0] = 99
    a[1, 1] = 7
    assert a[0, 0] == 99 and t[1, 1] == 7 and t.dtype == torch.float64
    b = fh.share(t, "numpy")
    b[0, 2] = -1
    assert a[0, 2] == -1 and b.flags.writeable and b.ctypes.data == a.ctypes.data


def test_convert_casts_in_one_pass():
    a = np.arange(6, dtype="float64").reshape(2, 3)
    t = fh.convert(a[::-1], "torch", dtype="float32")
    assert t.dtype == torch.float32 and torch.equal(t, torch.tensor([[3.0, 4, 5], [0, 1, 2]]))
    t[0, 0] = 0
    assert a[1, 0] == 3


def test_plan_says_it_first_and_share_refuses():
    a = np.arange(3.0)[::-1]
    plan = fh.plan(a, "torch")
    assert (plan.verdict, plan.steps, plan.bytes_copied, plan.codes[0]) == ("copy", ("layout",), 24, "ST01")
    with pytest.raises(fh.BoundaryError) as refused:
        fh.share(a, "torch")
    assert refused.value.code == "ST01" and isinstance(refused.value, BufferError) and isinstance(refused.value, ValueError)
    assert refused.value.decision.verdict == "reject" and 'fh.convert(x, "torch")' in refused.value.fixes[0]


def test_the_ledger_knows_both():
    a = np.arange(4)
    t = fh.share(a, "torch")
    buffer = fh.ledger.owner(a)
    assert buffer["owner"]["framework"] == "numpy"
    assert [holder["framework"] for holder in buffer["holders"]] == ["torch"]
    del t
    assert fh.ledger.owner(a) is None
