"""What the tests of the requirement rows have in common: a plan is only right if the call then does what it said."""

import numpy as np
import torch

import freehold as fh
from producers import CUDA, over_bytes

VERBS = {
    "share": (fh.share, {"copy": False}),
    "convert": (fh.convert, {}),
    "copy": (fh.copy, {"copy": True}),
}


def read_only(array):
    """An array that nobody may write to any more."""
    array.flags.writeable = False
    return array


def values_of(x):
    """The values, as the framework that has them reads them."""
    if isinstance(x, torch.Tensor):
        return x.resolve_conj().resolve_neg().numpy()
    return np.asarray(x)


def codes(decision):
    return [code for code, _ in decision.reasons]


def blocking(decision):
    """The codes that are not mere information."""
    hints = {code for code, _ in decision.hints}
    return [code for code in codes(decision) if code not in hints]


def address(x):
    """Address of the first element, asked of the framework and not of Freehold."""
    if isinstance(x, torch.Tensor):
        return x.data_ptr()
    if isinstance(x, fh.Tensor):
        return x.data_ptr
    return x.__array_interface__["data"][0]


def ledger_of(x):
    """(owner's framework, sorted frameworks of the holders) of the buffer that x is in; what `fh.ledger` says."""
    buffer = fh.ledger.owner(x)
    if buffer is None:
        return None
    owner = buffer["owner"]
    return (owner and owner["framework"], sorted(holder["framework"] for holder in buffer["holders"]))


def copied_bytes():
    return sum(row["bytes"] for row in fh.ledger.stats()["copied"])


def copies_made():
    return sum(row["count"] for row in fh.ledger.stats()["handovers"] if row["verdict"] == "copy")


def do(verb, x, to=None, **wishes):
    """Plans, calls, and checks that the call did what was planned. Gives the decision, and the result or the error."""
    call, rule = VERBS[verb]
    planned = fh.plan(x, to, **wishes, **rule)
    before = copies_made()
    try:
        result = call(x, to, **wishes)
    except fh.BoundaryError as error:
        assert planned.verdict == "reject" and not planned, f"{planned} was planned, and {error.code} came"
        assert codes(error.decision) == codes(planned) and error.code == codes(planned)[0]
        assert error.decision.verdict == "reject" and planned.bytes_copied == planned.bytes_allocated == 0
        assert error.fixes and error.fixes == planned.fixes
        assert copies_made() == before, "a refusal copies nothing"
        return planned, error
    assert bool(planned), f"{planned} was planned, and {result!r} came"
    if planned.verdict == "share":
        assert verb != "copy" and planned.bytes_copied == planned.bytes_allocated == 0 and planned.steps == ()
        assert copies_made() == before, "a share copies nothing"
        assert fh.explain(x, result).aliases
    else:
        assert planned.verdict == "copy" and verb != "share" and planned.steps
        assert copies_made() == before + 1, "one copy, one entry"
        entry = fh.ledger.copies()[-1]
        assert (entry["bytes"], tuple(entry["steps"]), entry["reasons"]) == (
            planned.bytes_copied,
            planned.steps,
            codes(planned),
        )
        if not isinstance(x, (list, tuple, int, float, complex, range, np.generic)):
            assert not fh.explain(x, result).aliases, "a copy must not alias its source"
    return planned, result


def on_a_device():
    """A tensor of two float32 on a device that is not here: its capsule says CUDA, and its address is nobody's."""
    return over_bytes((2,), device=CUDA, data=0x7F0000000000)
