"""What `fh.plan` says and what the verb then does agree: verdict, bytes, aliasing, writability, dtype, order."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import freehold as fh

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128", "bfloat16", "float8_e4m3fn"]
LAYOUTS = ["C", "F", "reversed", "every_second", "offset", "broadcast", "0d", "empty", "size_1", "swapped", "record"]


def np_dtype(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def array_of(dtype, layout, writable):
    """An array of small values, exact in every dtype, in one of the layouts that users make."""
    dtype = np_dtype(dtype)
    base = (np.arange(12) % 2).reshape(3, 4).astype(dtype)
    array = {
        "C": lambda: base,
        "F": lambda: np.asfortranarray(base),
        "reversed": lambda: base[::-1],
        "every_second": lambda: base[:, ::2],
        "offset": lambda: base[1:, 1:],
        "broadcast": lambda: np.lib.stride_tricks.as_strided(base, (3, 4), (0, dtype.itemsize)),
        "0d": lambda: base[1, 1:2].reshape(()),
        "empty": lambda: base[:0],
        "size_1": lambda: base[:, 1:2],
        # ml_dtypes have one byte order only.
        "swapped": lambda: base.astype(dtype.newbyteorder()) if dtype.isbuiltin else base,
        "record": lambda: np.array([(0, 1), (1, 0)], [("pad", "i1"), ("x", dtype)])["x"],
    }[layout]()
    if not writable:
        array.flags.writeable = False
    return array


def sources():
    arrays = st.builds(array_of, st.sampled_from(DTYPES), st.sampled_from(LAYOUTS), st.booleans())
    return st.one_of(arrays, arrays.map(as_torch).filter(lambda t: t is not None), arrays.map(as_tensor))


def as_tensor(array):
    try:
        return fh.share(array)
    except fh.BoundaryError:
        return array


def as_torch(array):
    try:
        return fh.convert(array, "torch")
    except fh.BoundaryError:
        return None


def bits(x):
    """The values of anything here, as an array of NumPy's."""
    if isinstance(x, torch.Tensor):
        return fh.convert(x.detach(), "numpy")
    return np.asarray(x)


@settings(max_examples=12000, deadline=None)
@given(
    x=sources(),
    to=st.sampled_from([None, "numpy", "torch"]),
    copy=st.sampled_from([None, True, False]),
    order=st.sampled_from([None, "C", "F"]),
    dtype=st.sampled_from([None, None, *DTYPES]),
    writable=st.sampled_from([None, None, True, False]),
    readonly=st.sampled_from(["copy", "reject", "trust"]),
)
def test_plan_and_deed_agree(x, to, copy, order, dtype, writable, readonly):
    wishes = {"copy": copy, "order": order, "dtype": dtype, "writable": writable}
    with fh.policy(readonly=readonly):
        plan = fh.plan(x, to, **wishes)
        before = fh.ledger.stats()["copied"]
        try:
            y = fh.convert(x, to, **wishes)
        except fh.BoundaryError as refused:
            # What only the values can tell is the one thing that a plan does not know.
            assert plan.verdict == "reject" or refused.code == "CA02"
            if plan.verdict == "reject":
                assert refused.code == plan.codes[0]
                assert str(refused).splitlines()[0] == str(plan).splitlines()[0]
                assert refused.fixes == plan.fixes
            return
        after = fh.ledger.stats()["copied"]

    assert plan, f"the plan refused ({plan}), and it was done"
    if copy is False:
        assert plan.verdict == "share"
    if copy is True:
        assert plan.verdict == "copy"
    copied = sum(row["bytes"] for row in after) - sum(row["bytes"] for row in before)
    assert copied == plan.bytes_copied

    if y is x:
        assert plan.verdict == "share" and plan.bytes_copied == 0
        return
    told, face = fh.explain(x, y), fh.convert(y)
    if plan.verdict == "copy":
        assert told.aliases is False and plan.bytes_copied == plan.bytes_allocated
        assert plan.bytes_copied == face.nbytes
    else:
        assert plan.bytes_copied == 0
        assert told.aliases is (face.nbytes > 0)
    assert face.dtype == plan.dtype and face.device == plan.device
    assert face.shape == tuple(x.shape)
    if to != "torch":
        assert (y.flags.writeable if to == "numpy" else y.writable) == plan.writable
    if order:
        assert bits(y).flags[order + "_CONTIGUOUS"]
    if dtype is None:
        assert np.array_equal(bits(x), bits(y))
    elif not plan.to_dict()["bit_view"]:
        assert np.array_equal(bits(x).astype(np_dtype(dtype)), bits(y))


@settings(max_examples=200, deadline=None)
@given(
    grad=st.booleans(),
    detach=st.booleans(),
    to=st.sampled_from([None, "numpy", "torch"]),
    copy=st.sampled_from([None, True, False]),
)
def test_plan_and_deed_agree_on_graphs(grad, detach, to, copy):
    x = torch.ones(3, requires_grad=grad)
    plan = fh.plan(x, to, detach=detach, copy=copy)
    try:
        y = fh.convert(x, to, detach=detach, copy=copy)
    except fh.BoundaryError as refused:
        assert plan.verdict == "reject" and refused.code == plan.codes[0]
        return
    assert plan
    assert fh.explain(x.detach(), y.detach() if to == "torch" else y).aliases == (plan.verdict == "share")
    if to == "torch" and grad and not detach:
        assert y is x and y.requires_grad


def test_the_same_object_comes_back_where_nothing_is_to_do():
    a, t = np.arange(3.0), torch.ones(3, requires_grad=True)
    f = fh.share(a)
    for x, to in ((a, "numpy"), (t, "torch"), (f, None), (t.expand(2, 3), "torch"), (a[::-1], "numpy")):
        assert fh.share(x, to) is x and fh.convert(x, to) is x
        assert fh.copy(x, to, detach=True) is not x


def test_a_copy_never_loses_a_graph_silently():
    t = torch.ones(3, requires_grad=True)
    for call in (lambda: fh.copy(t, "torch"), lambda: fh.convert(t, "torch", dtype="float64")):
        with pytest.raises(fh.BoundaryError) as refused:
            call()
        assert refused.value.code == "GR01"


def test_run_carries_a_plan_out():
    a = np.arange(6.0)[::-1]
    plan = fh.plan(a, "torch", dtype="float32")
    assert plan.run().tolist() == [5, 4, 3, 2, 1, 0]
    refused = fh.plan(a, "torch", copy=False)
    assert not refused and refused.codes[0] == "ST01"
    try:
        refused.run()
    except fh.BoundaryError as error:
        assert error.code == "ST01" and not error.decision
    else:
        raise AssertionError("a refusal cannot be run")
