"""Rows X13, X18, X22: who holds what for how long, what pins memory, what must not move while lent.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a lifetime that the frameworks of
today get wrong.
"""

import array as arrays
import gc
import mmap
import sys
import weakref

import numpy as np
import pytest
import torch

import freehold as fh
import producers
from producers import Made, Modern, assert_runs, refused
from row_tools import codes, do

# -- references ---------------------------------------------------------------------------------------------------------


def refcount_of_array(make):
    """The array's reference count with a view alive, and after."""
    a = np.zeros(4)
    before = sys.getrefcount(a)
    view = make(a)
    during = sys.getrefcount(a)
    del view
    gc.collect()
    return before, during, sys.getrefcount(a)


# -- references --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda a: fh.share(a),
        lambda a: fh.share(a, "torch"),
        lambda a: fh.share(a, "numpy", writable=False),
        lambda a: np.from_dlpack(fh.share(a)),
        lambda a: torch.from_dlpack(fh.share(a)),
        lambda a: memoryview(fh.share(a)),
        lambda a: fh.share(fh.share(fh.share(a, "torch"), "numpy")),
        lambda a: fh.share(a).__dlpack__(),
        lambda a: fh.share(a).__dlpack__(max_version=(1, 3)),
    ],
)
def test_x13_a_view_holds_its_owner_once(make):
    """X13: however many steps a view is away from its owner, it holds it with one reference, and gives that back."""
    before, during, after = refcount_of_array(make)
    assert during == before + 1 and after == before


@pytest.mark.parametrize("make", [lambda a: fh.copy(a), lambda a: fh.copy(a, "torch"), lambda a: fh.convert(a, dtype="int8")])
def test_x13_a_copy_holds_nothing(make):
    """X13: a copy has no need of its source."""
    before, during, after = refcount_of_array(make)
    assert before == during == after


def test_x13_a_refusal_holds_nothing():
    """X13: nor has an exception, whatever refused and wherever."""
    a = np.zeros(4)
    before = sys.getrefcount(a)
    for call in (
        lambda: fh.share(a[::-1], "torch"),
        lambda: fh.share(a, dtype=None, nonsense=1),
        lambda: fh.convert(np.full(4, 2.5), "torch", dtype="int8"),
        lambda: fh.share(a, "nobody"),
    ):
        with pytest.raises((fh.BoundaryError, TypeError)):
            call()
    gc.collect()
    assert sys.getrefcount(a) == before


def test_x13_the_owner_goes_with_the_last_holder():
    """X13, case 3: in whatever order the holders go, the owner goes with the last, and not before."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        t = torch.zeros(4)
        alive = weakref.ref(t)
        held = [fh.share(t, "numpy"), fh.share(t), np.asarray(memoryview(fh.share(t)))]
        del t  # PyTorch keeps the storage, not the Python object
        held[1] = fh.share(held[1], "torch")
        for n, i in enumerate(order, 1):
            np.asarray(held[i])[0] = n
            assert all(np.asarray(x).tolist() == [n, 0, 0, 0] for x in held if x is not None)
            held[i] = None
        gc.collect()
        fh.ledger.live()
        assert alive() is None


# -- generators --------------------------------------------------------------------------------------------------------


def test_x13_a_generator_lets_go_when_it_is_closed():
    """X13: what a suspended generator holds is lent as long as it is suspended, and not longer."""
    a = np.arange(3.0)

    def lend():
        with fh.share(a) as t:
            for i in range(3):
                yield np.asarray(t)[i]

    steps = lend()
    assert next(steps) == 0
    assert fh.ledger.owner(a)["owner"]["framework"] == "numpy"
    steps.close()
    assert fh.ledger.owner(a) is None
    assert list(lend()) == [0, 1, 2] and fh.ledger.owner(a) is None
    unfinished = lend()
    next(unfinished)
    del unfinished
    assert fh.ledger.owner(a) is None


def test_x13_a_generator_is_no_tensor():
    """X13: a generator owns no memory, and reading it would use it up: refused, and nothing of it is read."""
    steps = (x for x in [1.0, 2.0])
    for verb in ("share", "convert", "copy"):
        decision, error = do(verb, steps, "torch")
        assert error.code == "OB01" and codes(decision) == ["OB01"]
    assert list(steps) == [1.0, 2.0]


# -- memory --------------------------------------------------------------------------------------------------------------

HANDOVERS = {
    "numpy -> torch -> numpy": lambda a, t: fh.share(fh.share(a, "torch"), "numpy"),
    "torch -> fh -> torch": lambda a, t: fh.share(fh.share(t), "torch"),
    "a view of torch": lambda a, t: fh.share(t[1:], "numpy"),
    "a buffer": lambda a, t: memoryview(fh.share(a)),
    "a capsule taken": lambda a, t: fh.from_dlpack(fh.share(a).__dlpack__(max_version=(1, 3))),
    "a capsule not taken": lambda a, t: fh.share(a).__dlpack__(max_version=(1, 3)),
    "a legacy capsule not taken": lambda a, t: fh.share(a).__dlpack__(),
    "a capsule looked at": lambda a, t: fh.plan(fh.share(a).__dlpack__()),
    "through the protocol": lambda a, t: np.from_dlpack(fh.share(t)),
    "copied": lambda a, t: fh.copy(a, "torch", dtype="float32"),
    "a list": lambda a, t: fh.copy([1, 2, 3]),
    "no elements": lambda a, t: fh.share(a[:0], "torch"),
    "a plan": lambda a, t: fh.plan(a, "torch"),
    "a refusal": lambda a, t: refused("ST01", fh.share, a[::-1], "torch"),
}


def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * (mmap.PAGESIZE // 1024)


@pytest.mark.parametrize("handover", HANDOVERS)
def test_x13_a_hundred_thousand_handovers(handover):
    """X13: memory stays flat, every reference comes back, and nothing is left on the ledger."""
    call, a, t = HANDOVERS[handover], np.zeros((4, 4)), torch.zeros(4, 4)
    for _ in range(5_000):
        call(a, t)
    gc.collect()
    mark, references, nones, before = fh.ledger.mark(), sys.getrefcount(a), sys.getrefcount(None), resident_kib()
    for _ in range(100_000):
        call(a, t)
    gc.collect()
    grown = resident_kib() - before
    assert grown < 1500, f"{grown} KiB more"
    assert sys.getrefcount(a) == references and abs(sys.getrefcount(None) - nones) < 50
    assert not fh.ledger.leaks(since=mark)
    assert fh.ledger.owner(a) is None and fh.ledger.owner(t) is None


def test_x13_refusals_and_foreign_deleters_leave_nothing():
    """X13, case 4: thousands of hostile capsules, refused and accepted: each is freed once, and memory stays flat."""
    count, before = 0, None
    for i in range(3_000):
        made = Made(version=(2, 0) if i % 3 == 0 else (1, 3), ndim=-1 if i % 3 == 1 else 1)
        try:
            fh.share(Modern(made), "torch")
        except fh.BoundaryError:
            pass
        fh.ledger.live() if i % 100 == 0 else None
        count += made.deletes
        producers._OUT.pop(made.address)
        if i == 1_000:
            before = resident_kib()
    fh.ledger.live()
    assert count >= 3_000 - 100 and resident_kib() - before < 4096


# -- X18: small views of large buffers -----------------------------------------------------------------------------------


BIG = {
    "numpy": lambda: np.zeros(2_500_000, np.float32)[:20],
    "torch": lambda: torch.zeros(2_500_000)[:20],
    "torch, a view of a view": lambda: torch.zeros(2500, 1000)[3:5].t()[::100, 0],
}


@pytest.mark.parametrize("source", BIG)
def test_x18_a_small_view_of_a_large_buffer(source):
    """X18: the hint says how little keeps how much, the ledger gives the ratio, and a copy releases it."""
    x = BIG[source]()
    bytes_ = x.numel() * 4 if isinstance(x, torch.Tensor) else x.nbytes
    to = "numpy" if isinstance(x, torch.Tensor) else "torch"
    decision = fh.plan(x, to)
    assert decision.verdict == "share" and "HT02" in codes(decision)
    hint = str(dict(decision.hints)["HT02"])
    assert f"{bytes_} B" in hint and "10000000 B" in hint
    view = fh.share(x, to)
    buffer = fh.ledger.owner(view)
    assert buffer["len"] == 10_000_000 and buffer["pinned_ratio"] < 1e-4 and "HT02" in fh.ledger.report()
    del view
    copied = fh.copy(x, to)
    assert "HT02" not in codes(fh.plan(copied)) and fh.ledger.owner(x) is None


def test_x18_a_detached_view():
    """X18: PyTorch does not say that a detached view is one; the plan looks at its storage."""
    x = torch.zeros(2_500_000, requires_grad=True)[:20].detach()
    assert "HT02" in codes(fh.plan(x, "numpy")) and "HT02" not in codes(fh.plan(fh.copy(x, "torch"), "numpy"))


def test_x18_what_is_not_worth_a_hint():
    """X18: most of a buffer, or a small buffer, is no reason to copy."""
    for x in (np.zeros(2_500_000)[:2_000_000], np.zeros(1000)[:1], torch.zeros(2_500_000)[100:], torch.zeros(1000)[0]):
        assert "HT02" not in codes(fh.plan(x, "numpy"))


def test_x18_the_copy_really_releases():
    """X18: twenty small copies of large tensors keep what they copied and nothing else; twenty views keep it all."""
    # In a process of its own, the heap of this one has holes to hide a few tensors in; and one whose malloc gives large blocks
    # back at once, where by default it keeps some 50 MB of them.
    program = """if True:
        import freehold as fh, torch
        from test_rows_x_lifetimes import resident_kib
        fh.copy(torch.ones(2_500_000)[:10], "numpy")
        before = resident_kib()
        kept = [fh.copy(torch.ones(2_500_000)[:10], "numpy") for _ in range(20)]
        assert resident_kib() - before < 30_000, resident_kib() - before
        views = [fh.share(torch.ones(2_500_000)[:10], "numpy") for _ in range(20)]
        assert resident_kib() - before > 150_000, "the views do pin what the ledger says that they pin"
        pinned = [buffer for buffer in fh.ledger.live() if buffer["pinned_ratio"] < 1e-4]
        assert len(pinned) == 20 and sum(buffer["len"] for buffer in pinned) == 200_000_000
        assert sum(a.sum() for a in kept + views) == 400
    """
    assert_runs(program, MALLOC_MMAP_THRESHOLD_="1000000")


# -- X22: resizing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["numpy", "torch", None])
def test_x22_what_is_lent_cannot_be_resized(to):
    """X22: every owner that can refuse does, as long as a view of it lives, and not longer."""
    lent, numbers, a = bytearray(8), arrays.array("d", [1, 2]), np.zeros(4)
    t = torch.from_numpy(np.zeros(4))
    views = [fh.share(lent, to), fh.share(numbers, to), fh.share(np.asarray(a)[:2], to), fh.share(t, to)]
    with pytest.raises(BufferError):
        lent.append(1)
    with pytest.raises(BufferError):
        numbers.append(3.0)
    with pytest.raises(ValueError):
        a.resize(8)
    with pytest.raises(RuntimeError):
        t.resize_(100)
    np.asarray(views[1])[0] = 7
    assert numbers[0] == 7
    del views
    for _ in range(10):  # PyTorch lets go without the GIL, so the interpreter drops it, between two instructions
        pass
    lent.append(1)
    numbers.append(3.0)
    assert (len(lent), len(numbers)) == (9, 3)


@pytest.mark.parametrize("to", ["numpy", None])
def test_x22_a_mapping_stays_mapped(tmp_path, to):
    """X22: a file's mapping is not closed under a view of it."""
    path = tmp_path / "values"
    np.arange(4, dtype="f4").tofile(path)
    with open(path, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    view = fh.share(mapped, to)
    with pytest.raises(BufferError):
        mapped.close()
    np.asarray(view)[0] = 9
    assert mapped[0] == 9
    del view
    mapped.close()


def test_x22_case_24_what_pytorch_lets_happen_today():
    """X22, case 24: PyTorch gives its memory back under a view of it; a copy is what is safe from that."""
    t = torch.arange(4.0)
    address, safe = t.data_ptr(), fh.copy(t, "numpy")
    view = np.from_dlpack(t)
    t.untyped_storage().resize_(0)
    assert t.data_ptr() != address and view.ctypes.data == address, "PyTorch refuses now: say so in the documentation"
    locked = torch.arange(4.0)
    locked.numpy()
    with pytest.raises(RuntimeError, match="not resizable"):  # its own way out does lock the storage
        locked.untyped_storage().resize_(0)
    assert safe.tolist() == [0, 1, 2, 3]
    del view
