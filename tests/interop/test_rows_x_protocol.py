"""Rows X16, X17, X19, X26: what a producer's methods say and raise, and tensors that have no memory to hand over.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a protocol that the frameworks of
today get wrong.
"""

import functools
import warnings

import numpy as np
import pytest
import torch

import freehold as fh
from capsules import READ_ONLY, name_of
from producers import (
    AnyArguments,
    Made,
    Modern,
    NoArguments,
    OldRaises,
    OldStream,
    Raises,
    assert_runs,
    fresh,
    refused,
)
from row_tools import codes, do, read_only

TARGETS = ["numpy", "torch", None]


# -- X16: read-only producers --------------------------------------------------------------------------------------------


def mapped(tmp_path):
    np.arange(3.0).tofile(tmp_path / "values")
    return np.memmap(tmp_path / "values", dtype="f8", mode="r")


READ_ONLY_SOURCES = {
    "flag": lambda tmp_path: read_only(np.arange(3.0)),
    "memmap": mapped,
    "bytes": lambda tmp_path: np.frombuffer(np.arange(3.0).tobytes()),
    "memoryview": lambda tmp_path: memoryview(np.arange(3.0)).toreadonly(),
    "capsule": lambda tmp_path: fresh(np.arange(3.0), flags=READ_ONLY),
    "view": lambda tmp_path: fh.share(np.arange(3.0), writable=False),
}


@pytest.mark.parametrize("source", READ_ONLY_SOURCES)
def test_x16_case_1_an_immutable_producer_into_torch(source, tmp_path):
    """X16, case 1: never silently writable: a copy by default, a refusal by share or by policy, a hazard by trust."""
    x = READ_ONLY_SOURCES[source](tmp_path)
    decision, t = do("convert", x, "torch")
    assert decision.verdict == "copy" and decision.steps == ("fresh",) and codes(decision)[0] == "RO01"
    t += 1
    assert np.asarray(fh.copy(x)).tolist() == [0, 1, 2] and t.tolist() == [1, 2, 3]
    decision, error = do("share", x, "torch")
    assert error.code == "RO01"
    with fh.policy(readonly="reject"):
        refused("RO01", fh.convert, x, "torch")
    for to in ("numpy", None):
        decision, view = do("share", x, to)
        assert not np.asarray(view).flags.writeable
        with pytest.raises(ValueError):
            np.asarray(view)[0] = 1
        refused("RO01", fh.share, x, to, writable=True)
    before = len(fh.ledger.hazards())
    with fh.policy(readonly="trust"):
        trusted = fh.share(x, "torch")
    assert trusted.tolist() == [0, 1, 2]
    assert [hazard["code"] for hazard in fh.ledger.hazards()[before:]] == ["RO01"]


def test_x16_what_pytorch_does_with_it_today(tmp_path):
    """X16, case 1: PyTorch writes through a read-only mapping, which ends the process; here it is a copy."""
    np.arange(3.0).tofile(tmp_path / "values")
    path = str(tmp_path / "values")
    assert_runs(
        "import numpy as np, torch, freehold as fh\n"
        f"x = np.memmap({path!r}, dtype='f8', mode='r')\n"
        "t = fh.convert(x, 'torch'); t += 1\n"
        "assert x.tolist() == [0, 1, 2]\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.from_numpy(np.memmap(path, dtype="f8", mode="r")).tolist() == [0, 1, 2]


def test_x16_an_array_interface_that_is_read_only():
    """X16: the flag of `__array_interface__` is the owner's word too."""
    a = read_only(np.arange(3.0))
    theirs = type("Theirs", (), {"__array_interface__": property(lambda self: a.__array_interface__)})()
    assert not fh.share(theirs).writable
    refused("RO01", fh.share, theirs, "torch")
    assert fh.convert(theirs, "torch").data_ptr() != a.ctypes.data


# -- X17, case 23: what an immutable consumer and a host consumer must not get ------------------------------------------


def test_x17_a_frozen_owner_does_not_change_under_a_consumer():
    """X17: what a consumer that promises immutability needs: `freeze=True` keeps the owner from writing while lent."""
    a = np.arange(3.0)
    view = fh.share(a, writable=False, freeze=True)
    with pytest.raises(ValueError):
        a[0] = 9
    assert np.asarray(view).tolist() == [0, 1, 2] and not view.writable
    del view
    a[0] = 9
    assert a[0] == 9
    independent = fh.copy(a)
    a[0] = 1
    assert np.asarray(independent)[0] == 9


def test_x26_case_23_a_host_object_gets_no_stream():
    """X26, case 23: NumPy, Arrow, JAX and TensorFlow refuse any stream on the host, so none is passed, not even -1."""
    for stream in (None, -1, 0, 1, 2, 12345):
        producer = fresh(np.arange(3.0))
        x = fh.share(producer, "numpy", stream=stream)
        assert x.tolist() == [0, 1, 2] and producer.calls == [{"max_version": (1, 3)}]
    device = Modern(Made(device=(2, 0)))
    fh.share(device, stream=7)
    assert device.calls == [{"max_version": (1, 3), "stream": 7}]
    plain = Modern(Made(device=(2, 0)))
    fh.share(plain)
    assert "stream" not in plain.calls[0] or plain.calls[0]["stream"] is not None
    for stream in (-1, 0, 1):
        refused("AR01", fh.share(np.zeros(3)).__dlpack__, stream=stream)


# -- X19: no memory to hand over ---------------------------------------------------------------------------------------


def fake():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.zeros(3)


def quiet(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


NO_MEMORY = {
    "sparse coo": ("LY02", lambda: torch.eye(3).to_sparse()),
    "sparse csr": ("LY02", lambda: torch.eye(3).to_sparse_csr()),
    "mkldnn": ("LY02", lambda: torch.eye(3).to_mkldnn()),
    "nested": ("LY02", lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])),
    "nested, jagged": (
        "LY02",
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
    ),
    "quantised": ("DT03", lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
    "meta": ("LY03", lambda: torch.zeros(3, device="meta")),
    "fake": ("LY03", fake),
}


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("kind", NO_MEMORY)
def test_x19_case_17_nothing_to_share(kind, to):
    """X19, case 17: refused with the reason, in a message of a few lines, and no address is ever asked for."""
    code, make = NO_MEMORY[kind]
    x = quiet(make)
    for verb in ("share", "convert", "copy"):
        decision, error = quiet(lambda verb=verb: do(verb, x, to))
        assert error.code == code and codes(decision) == [code]
        assert len(str(error).splitlines()) <= 8 and "0x" not in str(error), "no C++ stack frames"
    before = len(fh.ledger.live())
    quiet(lambda: refused(code, fh.share, x))
    assert len(fh.ledger.live()) == before


@pytest.mark.parametrize("kind", ["sparse coo", "sparse csr", "mkldnn", "nested", "quantised"])
def test_x19_the_first_fix_runs(kind):
    """X19: the message's own line makes a tensor that can be handed over."""
    t = quiet(NO_MEMORY[kind][1])
    error = quiet(lambda: refused(NO_MEMORY[kind][0], fh.share, t, "numpy"))
    dense = quiet(lambda: eval(error.fixes[0], {"t": t}))
    assert fh.share(dense, "numpy").size > 0


def test_x19_wrong_advice_today():
    """X19: PyTorch says `.cpu()` of a meta tensor, which has nothing to copy; here the advice is another."""
    error = refused("LY03", fh.convert, torch.zeros(3, device="meta"), "numpy")
    assert ".cpu()" not in str(error) and "no storage" in str(error)


def test_x19_inside_a_transformation():
    """X19: in vmap and grad a tensor stands for many, or for a graph; its own bytes are neither."""
    seen = []

    def look(x):
        seen.append(fh.plan(x, "numpy").codes[0])
        return x.sum()

    torch.vmap(look)(torch.zeros(2, 3))
    torch.func.grad(look)(torch.zeros(3))
    assert seen == ["LY03", "LY03"]


def test_x19_a_plain_subclass_is_a_tensor():
    """X19: a subclass that only adds behaviour has memory, and is shared both ways."""

    class Named(torch.Tensor):
        pass

    t = torch.arange(3.0).as_subclass(Named)
    decision, a = do("share", t, "numpy")
    a[0] = 5
    assert t[0] == 5 and decision.verdict == "share"
    p = torch.nn.Parameter(torch.zeros(2))
    refused("GR01", fh.share, p, "numpy")
    assert not fh.share(p, "numpy", detach=True).flags.writeable


# -- X26, case 22: the ladder ----------------------------------------------------------------------------------------------


class OwnTypeError(TypeError):
    """What Arrow raises for nulls is a TypeError too."""


def test_x26_what_the_frameworks_do_today():
    """X26, case 22: torch calls a producer that raises TypeError again and again, with fewer and fewer arguments."""
    producer = Raises(OwnTypeError("nulls"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError):
            torch.from_dlpack(producer)
        assert len(producer.calls) > 1, "PyTorch calls once now: say so in the documentation"
        producer = Raises(OwnTypeError("nulls"))
        with pytest.raises(TypeError):
            np.from_dlpack(producer)
        assert len(producer.calls) > 1, "NumPy calls once now: say so in the documentation"


@pytest.mark.parametrize("text", ["3 nulls", "max_version", "__dlpack__() got an unexpected keyword argument 'max_version'"])
@pytest.mark.parametrize("kind", [Raises, OldRaises])
def test_x26_case_22_a_genuine_error_arrives_after_one_call(kind, text):
    """X26, case 22: whatever a producer's own TypeError says, it is not a question about versions: once, and out."""
    for error in (OwnTypeError(text), TypeError(text), BufferError(text), KeyError(text), RuntimeError(text)):
        producer = kind(error)
        for call in (fh.from_dlpack, fh.plan, lambda x: fh.share(x, "torch"), lambda x: fh.copy(x, "numpy")):
            producer.calls.clear()
            with pytest.raises(type(error)) as caught:
                call(producer)
            assert caught.value is error and len(producer.calls) == 1
            error.__traceback__ = None


class Decorated(Modern):
    """A method behind a decorator that keeps its signature, as decorators should."""

    def wrap(method):
        @functools.wraps(method)
        def wrapped(self, *args, **kwargs):
            return method(self, *args, **kwargs)

        return wrapped

    __dlpack__ = wrap(Modern.__dlpack__)


class Hidden(Modern):
    """A method behind a decorator that says nothing."""

    def __dlpack__(self, *args, **kwargs):
        return Modern.__dlpack__(self, *args, **kwargs)


class Positional(Modern):
    """The standard's arguments, but not keyword-only."""

    def __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None):
        return self.export(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)


class Inherits(OldStream):
    """A subclass that adds nothing."""


class Slotted:
    """No dictionary, no weak references."""

    __slots__ = ("inner",)

    def __init__(self, made):
        self.inner = Modern(made)

    calls = property(lambda self: self.inner.calls)
    exported = property(lambda self: self.inner.exported)

    def __dlpack__(self, *, max_version=None, **rest):
        return self.inner.__dlpack__(max_version=max_version, **rest)

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()


SIGNATURES = {
    Modern: (1, 3),
    Positional: (1, 3),
    AnyArguments: (1, 3),
    Decorated: (1, 3),
    Hidden: (1, 3),
    Slotted: (1, 3),
    OldStream: None,
    Inherits: None,
    NoArguments: None,
}


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("kind", SIGNATURES)
def test_x26_case_22_every_signature_is_called_once_and_right(kind, to):
    """X26, case 22: what a method takes is read from its signature: one call, with the version if it can be told."""
    array = np.arange(3.0)
    producer = kind(lambda max_version=None, **_: Made(array, legacy=max_version is None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (1, 2):
            x = fh.share(producer, to)
            assert len(producer.calls) == n
    wanted = SIGNATURES[kind]
    assert producer.calls == [{"max_version": wanted} if wanted else {}] * 2
    np.asarray(x)[0] = 5
    assert array[0] == 5
    del x
    fh.ledger.live()
    assert [made.deletes for made in producer.exported] == [1, 1]


def test_x26_the_read_only_flag_is_not_lost_on_the_way():
    """X26: a producer that marks its memory is asked for a version that can say so, and believed."""
    producer = fresh(np.arange(3.0), flags=READ_ONLY)
    assert not fh.share(producer, "numpy").flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused("RO01", fh.share, producer, "torch")
    assert all(asked == {"max_version": (1, 3)} for asked in producer.calls)


def test_x26_our_own_method_raises_only_buffer_errors():
    """X26: no consumer's ladder is started by us: what cannot be exported is a BufferError, however it is asked."""
    cases = [
        (fh.share(np.arange(3.0), writable=False), {}),
        (fh.share(np.arange(3.0), writable=False), {"max_version": (0, 8)}),
        (fh.share(np.arange(3.0)), {"dl_device": (2, 0)}),
        (fh.share(np.arange(3.0)), {"dl_device": (2, 0), "copy": False}),
        (fh.share(np.arange(3.0)), {"dl_device": "nonsense"}),
        (fh.share(np.arange(3.0)), {"max_version": "nonsense"}),
        (fh.share(np.arange(3.0)), {"max_version": (1, -1)}),
        (fh.share(np.arange(3.0)), {"stream": 1}),
    ]
    for x, asked in cases:
        with pytest.raises(BufferError):
            x.__dlpack__(**asked)
    # NumPy's ladder drops its arguments on a TypeError: it must not get a writable array out of it.
    assert not np.from_dlpack(fh.share(np.arange(3.0), writable=False)).flags.writeable


def test_x26_what_is_no_producer():
    """X26: a method that gives no capsule, or is not there, is refused by name, or is the producer's own error."""

    class Gives(Modern):
        def __dlpack__(self, **asked):
            return self.made

    error = refused("OB01", fh.from_dlpack, Gives(3))
    assert "int" in str(error) and "capsule" in str(error)

    class NoDevice:
        def __dlpack__(self, *, max_version=None):
            raise AssertionError("the device is asked first")

    with pytest.raises(AttributeError):
        fh.from_dlpack(NoDevice())

    class OnTheInstance:
        pass

    x = OnTheInstance()
    x.__dlpack__ = Modern(Made()).__dlpack__
    refused("OB01", fh.share, x)
    made = Made(name=b"somebody_else's")
    capsule = made.capsule()
    refused("OB01", fh.from_dlpack, capsule)
    assert name_of(capsule) == "somebody_else's" and made.deletes == 0
