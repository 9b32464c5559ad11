"""PyTorch's tensors that are not what they seem: wrappers, lazy bits, missing storage, other layouts, compiled functions."""

import warnings

import numpy as np
import pytest
import torch

import freehold as fh
from frameworks import pointer
from producers import refused


# -- plain tensors in a costume: shared like any other -----------------------------------------------------------------------


class Mine(torch.Tensor):
    """A subclass that leaves operators to PyTorch."""


def inference():
    with torch.inference_mode():
        return torch.arange(3.0)


PLAIN = {
    "a subclass": lambda: torch.arange(3.0).as_subclass(Mine),
    "made in inference mode": inference,
    "a buffer of a module": lambda: torch.nn.Buffer(torch.arange(3.0)),
    "a parameter without a gradient": lambda: torch.nn.Parameter(torch.arange(3.0), requires_grad=False),
    "in shared memory": lambda: torch.arange(3.0).share_memory_(),
    "of a storage": lambda: torch.tensor([]).set_(torch.arange(5.0).untyped_storage(), 0, (3,)),
    "out of a compiled function": lambda: torch.compile(lambda t: t * 1, backend="eager")(torch.arange(3.0)),
}


@pytest.mark.parametrize("to", ["numpy", None])
@pytest.mark.parametrize("kind", PLAIN)
def test_A27_a_tensor_in_a_costume_is_shared(kind, to):
    t = PLAIN[kind]()
    y = fh.share(t, to)
    assert pointer(y) == t.data_ptr() and np.asarray(y).tolist() == [0, 1, 2]
    np.asarray(y)[1] = 9
    assert t.detach().tolist() == [0, 9, 2]


def test_A29_a_parameter_hangs_on_a_graph():
    for t in (torch.nn.Parameter(torch.ones(2)), torch.ones(2, requires_grad=True) * 2):
        refused("GR01", fh.share, t, "numpy")
        assert not fh.share(t, "numpy", detach=True).flags.writeable
        assert fh.copy(t, "numpy", detach=True).flags.writeable


# -- what has no dense storage -------------------------------------------------------------------------------------------------


def nested(layout):
    with warnings.catch_warnings(action="ignore"):  # nested tensors are a prototype, PyTorch says
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


def fake():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(3)




def sparse(method, *arguments):
    with warnings.catch_warnings(action="ignore"):  # compressed layouts are beta, PyTorch says
        return getattr(torch.eye(2), method)(*arguments)


UNSTORED = {
    "sparse_coo": (lambda: sparse("to_sparse"), "LY02"),
    "sparse_csr": (lambda: sparse("to_sparse_csr"), "LY02"),
    "sparse_csc": (lambda: sparse("to_sparse_csc"), "LY02"),
    "sparse_bsr": (lambda: sparse("to_sparse_bsr", (1, 1)), "LY02"),
    "of oneDNN": (lambda: torch.ones(2, 3).to_mkldnn(), "LY02"),
    "nested": (lambda: nested(torch.strided), "LY02"),
    "nested and jagged": (lambda: nested(torch.jagged), "LY02"),
    "meta": (lambda: torch.empty(2, device="meta"), "LY03"),
    "fake": (fake, "LY03"),
    "zeros that are nowhere": (lambda: torch._efficientzerotensor(3), "LY03"),
    "a parameter to come": (lambda: torch.nn.UninitializedParameter(), "LY03"),
}


@pytest.mark.parametrize("to", ["numpy", "torch", None])
@pytest.mark.parametrize("kind", UNSTORED)
def test_X19_nothing_to_share_has_a_reason(kind, to):
    make, code = UNSTORED[kind]
    t = make()
    for verb in (fh.share, fh.convert, fh.copy):
        refused(code, verb, t, to)
    assert fh.plan(t, to).codes == (code,)


@pytest.mark.parametrize("transform", [torch.vmap, torch.func.grad, torch.func.functionalize])
def test_X19_inside_a_transformation_there_is_no_storage(transform):
    codes = []

    def look(t):
        codes.extend(fh.plan(t, "numpy").codes)
        refused("LY03", fh.convert, t, "numpy")
        return t.sum()

    transform(look)(torch.eye(2))
    assert codes == ["LY03"]


def test_X19_zeros_become_memory_by_their_fix():
    x = torch._efficientzerotensor(3)
    error = refused("LY03", fh.convert, x, "numpy")
    assert fh.share(eval(error.fixes[0], {"t": x}), "numpy").tolist() == [0, 0, 0]


# -- dtypes --------------------------------------------------------------------------------------------------------------------


def test_X05_two_numbers_a_byte():
    t = torch.arange(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    x = fh.share(t)
    assert x.shape == (4,) and x.data_ptr == t.data_ptr() and "f4_e2m1fnx2" in repr(x)
    refused("DT02", fh.convert, t, "numpy")
    assert torch.equal(torch.from_dlpack(x).view(torch.uint8), t.view(torch.uint8))


def test_X05_bits_without_a_meaning():
    t = torch.empty(2, dtype=torch.uint8).view(torch.bits8)
    error = refused("DT03", fh.convert, t, "numpy")
    assert fh.share(eval(error.fixes[0], {"t": t, "torch": torch}), "numpy").dtype == np.uint8


def test_X06_quantised_tensors_have_two_ways_out():
    with warnings.catch_warnings(action="ignore"):  # PyTorch says once in a process that they are going
        t = torch.quantize_per_tensor(torch.tensor([0.5, 1.0]), 0.5, 0, torch.quint8)
        error = refused("DT03", fh.convert, t, "numpy")
        assert fh.share(eval(error.fixes[0], {"t": t}), "numpy").tolist() == [0.5, 1]
        assert fh.share(eval(error.fixes[1], {"t": t}), "numpy").tolist() == [1, 2]


# -- compiled functions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_hand_over_inside_a_compiled_function_breaks_the_graph_and_nothing_else(backend):
    def through_numpy(t):
        lent = fh.share(torch.sin(t), "numpy")
        lent[0] = 7
        return torch.from_numpy(lent) + 1

    compiled = torch.compile(through_numpy, backend=backend)
    with warnings.catch_warnings(action="ignore"):  # Dynamo says that it does not look into our functions
        for _ in range(2):
            assert compiled(torch.zeros(3)).tolist() == [8, 1, 1]


def test_a_compiled_function_writes_to_what_was_lent():
    a = np.zeros(3, "f4")
    t = fh.share(a, "torch")
    torch.compile(lambda t: t.add_(1), backend="eager")(t)
    assert a.tolist() == [1, 1, 1]
