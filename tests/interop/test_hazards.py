"""What the ledger says of memory that two rely on: A39, X12, X13, X17, X24, X25, and the hard cases 24 and 27."""

import ctypes
import gc

import numpy as np
import pytest
import torch

import freehold as fh
from capsules import opened
from producers import Made, call_with_gil, refused, take


@pytest.fixture(params=[3, 4])
def level(request):
    before, fh.ledger.level = fh.ledger.level, request.param
    yield request.param
    fh.ledger.level = before


@pytest.fixture
def canaries():
    before, fh.ledger.level = fh.ledger.level, 4
    yield
    fh.ledger.level = before


class since:
    """The hazards of a block."""

    def __init__(self):
        self.seen = len(fh.ledger.hazards())

    def found(self, code=None):
        gc.collect()
        return [h for h in fh.ledger.hazards()[self.seen :] if code in (None, h["code"])]


def here(text, function):
    """The site of the first line of a function with a text in it."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    return f"{__file__}:{first + next(i for i, line in enumerate(lines) if text in line)} in {function.__qualname__}"


# -- identity --------------------------------------------------------------------------------------------------------------


def hands(x):
    return [(link["holder"]["framework"], link["derivation"]) for link in fh.ledger.chain(x)]


def test_x25_case_27_a_chain_of_three_hands_and_back():
    """X25, case 27: numpy -> torch -> numpy -> torch is one buffer with one owner, and the chain says who gave it to whom."""
    a = np.arange(4.0)
    t = fh.share(a, "torch")
    b = fh.share(t, "numpy")
    u = fh.share(b, "torch")
    assert {fh.ledger.owner(x)["id"] for x in (a, t, b, u)} == {fh.ledger.owner(a)["id"]}
    assert fh.ledger.owner(u)["owner"]["framework"] == "numpy"
    view = "view-of"
    assert hands(u)[0] == ("numpy", None) and hands(u)[-1] == ("torch", view)
    assert [name for name, _ in hands(u)] == ["numpy", "torch", "torch", "numpy", "numpy", "torch"]
    assert all(derivation == view for _, derivation in hands(u)[1:])


@pytest.mark.parametrize("asked", [None, (1, 3)])
def test_x25_our_own_capsule_that_comes_back(asked):
    """X25: an export of ours is recognised when it is imported again: a holder of the same buffer, with its parent."""
    a = np.arange(4.0)
    capsule = fh.share(a).__dlpack__(max_version=asked)
    x = fh.from_dlpack(capsule)
    buffer = fh.ledger.owner(a)
    assert buffer["owner"]["framework"] == "numpy" and [h["verdict"] for h in buffer["holders"]] == ["share", "share"]
    newest = buffer["holders"][-1]
    parent = fh.ledger.chain(x)[-2]["holder"]
    assert newest["parent"] == parent["id"] and parent["parent"] == buffer["owner"]["id"]
    assert "consumed" in parent["flags"] and "exported" not in parent["flags"]


def test_x25_copies_and_casts_are_derived_from_what_they_were_made_of():
    """X25: copy-of and cast-of lead into another buffer, and on to its owner."""
    a = np.arange(4.0)
    for wishes, derivation in (({}, "copy-of"), ({"dtype": "float32"}, "cast-of")):
        t = fh.copy(a, "torch", **wishes)
        held = fh.share(a)
        t = fh.copy(held, "torch", **wishes)
        assert derivation in [link for _, link in hands(t)]
        assert fh.ledger.owner(t)["id"] != fh.ledger.owner(a)["id"] and hands(t)[0] == ("numpy", None)


def test_x25_an_address_that_is_used_again_is_another_buffer():
    """X25: a block of ours that comes back from the pool at the same address has another id, and its generation says so."""
    first = fh.copy(np.zeros(100_000))
    address, one = first.data_ptr, fh.ledger.owner(first)
    del first
    assert fh.ledger.owner(address) is None, "closed before the memory could be anybody else's"
    for _ in range(100):
        second = fh.copy(np.zeros(100_000))
        if second.data_ptr == address:
            break
    else:
        pytest.skip("the pool gave other blocks")
    two = fh.ledger.owner(second)
    assert two["id"] > one["id"] and two["generation"] > one["generation"] and two["base"] == one["base"]


def test_x10_a_view_that_overlaps_itself():
    """X10: a broadcast view and the row it repeats share bytes; the rows beside it do not."""
    a = np.zeros((2, 4))
    wide = fh.share(np.broadcast_to(a[0], (3, 4)))
    other = fh.share(a[1])
    (alias,) = [x for x in fh.ledger.aliases(a[0]) if x["holder"]["shape"] == [3, 4]][:1]
    assert alias["overlap"] == "some" and "read_only" in alias["holder"]["flags"]
    assert all(x["holder"]["shape"] != [3, 4] for x in fh.ledger.aliases(a[1]))
    del wide, other


# -- writers ---------------------------------------------------------------------------------------------------------------


def test_two_borrowers_that_can_both_write(level):
    """Two frameworks that can write the same bytes are a pair, with both lines; an owner and who borrowed from it are not."""
    a = np.zeros(8)
    t = fh.share(a, "torch")
    mine = lambda: [c for c in fh.ledger.conflicts() if c["writer"]["buffer"] == fh.ledger.owner(a)["id"]]  # noqa: E731
    assert mine() == []
    x = fh.share(a[:4])
    view = memoryview(x)
    (conflict,) = [c for c in mine() if c["other"]["framework"] == "buffer"]
    assert conflict["code"] == "AL01" and conflict["writer"]["framework"] == "torch"
    assert conflict["writer"]["site"] == here('t = fh.share(a, "torch")', test_two_borrowers_that_can_both_write)
    del t, view, x
    odd, even = fh.share(a[1::2], "torch"), fh.share(a[::2])
    assert mine() == [], "no byte of theirs is the same"
    del odd, even


def test_al03_an_immutable_target_over_an_owner_that_can_write(level):
    """X17: under alias="trust" the alias is made, and is a hazard with the owner and the line that shared it."""
    pyarrow = pytest.importorskip("pyarrow")
    a, block = np.zeros(16, np.float32), since()
    with fh.policy(alias="trust"):
        shared = fh.share(a, "pyarrow")
    (hazard,) = block.found("AL03")
    owner, target = hazard["holders"]
    assert (owner["framework"], target["framework"]) == ("numpy", "pyarrow")
    line = here('fh.share(a, "pyarrow")', test_al03_an_immutable_target_over_an_owner_that_can_write)
    assert owner["site"] == target["site"] == line
    assert isinstance(shared, pyarrow.Array | pyarrow.Tensor)


def test_gr02_both_sides_of_a_writable_alias_of_a_leaf(level):
    """GR02: a detached view that may write, under readonly="trust": the leaf, the target, and the line."""
    w, block = torch.ones(3, requires_grad=True), since()
    with fh.policy(readonly="trust"):
        view = fh.share(w, "numpy", detach=True, writable=True)
    (hazard,) = block.found("GR02")
    assert [h["framework"] for h in hazard["holders"]] == ["torch", "numpy"]
    assert hazard["holders"][1]["site"].startswith(__file__)
    assert view.flags.writeable


def test_a39_read_only_memory_is_watched_at_level_4(canaries):
    """A39: what is lent read-only and changes under its holder: AL01 with the owner and the holder, each with its line."""
    base = np.zeros(6)
    view = base[:]
    view.flags.writeable = False
    block = since()
    lent = fh.share(fh.share(view), "numpy")
    assert not lent.flags.writeable
    base[2] = 5
    del lent
    hazards = block.found("AL01")
    assert hazards and hazards[0]["holders"][-1]["framework"] == "numpy"
    assert all(h["site"].startswith(__file__) for h in hazards[0]["holders"])
    with pytest.warns(fh.BoundaryWarning, match="AL01"):
        fh.share(base)


def test_level_4_is_silent_where_nobody_did_wrong(canaries):
    """Level 4: every kind of handover, and no hazard."""
    block = since()
    for _ in range(3):
        a, t = np.arange(12.0).reshape(3, 4), torch.arange(12.0)
        locked = a[:2]
        locked.flags.writeable = False
        made = [fh.share(a, "torch"), fh.share(t, "numpy"), fh.share(locked), fh.share(locked, "numpy"), fh.copy(a, "torch")]
        made += [fh.convert(a.T, "torch", dtype="float32"), fh.share(a, freeze=True), memoryview(fh.share(a[0]))]
        made += [torch.from_dlpack(fh.share(a)), np.from_dlpack(fh.share(t)), fh.from_dlpack(fh.share(a).__dlpack__())]
        a_sum = a.sum()
        del made
        a += 1
        assert a.sum() == a_sum + 12
    assert block.found() == []


# -- capsules --------------------------------------------------------------------------------------------------------------


def test_cp01_both_lines_of_a_capsule_that_is_used_twice(level):
    """X12: the second time names the line of the first, in the error and in the hazard."""
    capsule, block = Made(np.arange(3.0)).capsule(), since()
    x = fh.from_dlpack(capsule)
    error = refused("CP01", fh.share, capsule, "torch")
    first = here("x = fh.from_dlpack(capsule)", test_cp01_both_lines_of_a_capsule_that_is_used_twice)
    assert f"it was consumed at {first}" in str(error)
    (hazard,) = block.found("CP01")
    assert [h["site"] for h in hazard["holders"]][0] == first and len(hazard["holders"]) == 2
    del x


def test_cp01_a_capsule_that_nobody_took(level):
    """X12: who lent it, and the line that made the capsule."""
    a, block = np.arange(3.0), since()
    capsule = fh.share(a).__dlpack__()
    del capsule
    (hazard,) = block.found("CP01")
    assert "nobody had consumed" in hazard["note"] and hazard["holders"][0]["framework"] == "numpy"
    assert hazard["holders"][1]["site"] == here("capsule = fh.share(a)", test_cp01_a_capsule_that_nobody_took)


def test_cp03_a_deleter_that_runs_twice_and_one_with_another_pointer(canaries):
    """X12: neither reads what it is given; the holder and its line are named, and nothing is freed twice."""
    a, block = np.arange(3.0), since()
    capsule = fh.share(a).__dlpack__(max_version=(1, 3))
    assert opened(capsule).deleter
    address, deleter = take(capsule)
    del capsule
    call_with_gil(address, deleter)
    call_with_gil(address, deleter)
    (hazard,) = block.found("CP03")
    assert hazard["note"].endswith("called a deleter twice")
    assert hazard["holders"][1]["site"].startswith(__file__)
    other = ctypes.create_string_buffer(64)
    call_with_gil(ctypes.addressof(other), deleter)
    assert "no export of ours" in block.found("CP03")[1]["note"]
    with pytest.warns(fh.BoundaryWarning, match="CP03"):
        fh.share(a)


# -- owners that move their memory -----------------------------------------------------------------------------------------


def reset_torch():
    t = torch.arange(64.0)
    return t, lambda: t.untyped_storage().resize_(0)


def reset_data():
    t = torch.arange(64.0)
    return t, lambda: t.set_(torch.zeros(64).untyped_storage())


@pytest.mark.parametrize("reset", [reset_torch, reset_data])
def test_case_24_an_owner_that_frees_what_it_lent(reset, canaries):
    """Case 24: storage that is reset under a live view is found when the ledger is next asked, with everyone who has one."""
    owner, free = reset()
    block = since()
    view = fh.share(owner)
    assert block.found() == []
    before = fh.ledger.owner(owner)
    free()
    (hazard,) = block.found("CP03")
    assert f"buffer #{before['id']}" in hazard["note"] and "moved or freed" in hazard["note"]
    assert hazard["holders"][0]["framework"] == type(owner).__module__.split(".")[0]
    assert hazard["holders"][0]["site"].startswith(__file__)
    assert len(block.found("CP03")) == 1, "said once"
    with pytest.warns(fh.BoundaryWarning, match="CP03"):
        fh.share(np.zeros(1))
    if owner.untyped_storage().nbytes():
        again = fh.share(owner)
        assert fh.ledger.owner(again)["id"] != before["id"], "what the owner has now is another buffer"
        del again
    del view


def test_case_24_numpy_refuses_while_it_is_watched(canaries):
    """Case 24: NumPy resizes nothing that has a weak reference, so at level 4 it refuses even with refcheck=False."""
    a = np.arange(64.0)
    view = fh.share(a)
    with pytest.raises(ValueError, match="resize"):
        a.resize(1_000_000, refcheck=False)
    del view
