"""Rows X13, X18, X22, X24: deleters on any thread and at any time, what pins memory, what must not move while lent.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a lifetime that the frameworks of
today get wrong.
"""

import array as arrays
import gc
import mmap
import os
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch

import freehold as fh
import producers
from producers import Made, Modern, assert_runs, call_on_foreign_thread, call_with_gil, call_without_gil, counter, take
from row_tools import codes, do

THREADS = {"with the GIL": call_with_gil, "without the GIL": call_without_gil, "foreign": call_on_foreign_thread}
PROGRAM = "import ctypes, gc, os, sys, threading\nimport numpy as np, torch\nimport freehold as fh, producers\n"
PROGRAM += "from producers import Made, Modern, take\n"


# -- X13, case 5: deleters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [None, (1, 3)])
@pytest.mark.parametrize("how", THREADS)
def test_x13_case_5_a_deleter_on_any_thread(how, asked):
    """X13, case 5: an array's reference is dropped at once under the GIL, and put off without it: never touched there."""
    a = np.arange(4.0)
    references, deferred = sys.getrefcount(a), counter("deferred_drops")
    address, deleter = take(fh.share(a).__dlpack__(max_version=asked))
    assert sys.getrefcount(a) == references + 1
    THREADS[how](address, deleter)
    fh.ledger.live()  # an entry into the module drops what waits, if the interpreter has not done so by itself
    assert sys.getrefcount(a) == references and fh.ledger.owner(a) is None
    assert counter("deferred_drops") - deferred == (how != "with the GIL")


@pytest.mark.parametrize("how", THREADS)
def test_x13_memory_of_ours_needs_no_python(how):
    """X13: a copy's memory is freed where its deleter is called, without a queue and without the GIL."""
    deferred = counter("deferred_drops")
    x = fh.copy(np.arange(1000.0))
    address, deleter = take(x.__dlpack__(max_version=(1, 3)))
    place = x.data_ptr
    del x
    assert fh.ledger.owner(place)["len"] == 8000
    THREADS[how](address, deleter)
    assert fh.ledger.owner(place) is None and counter("deferred_drops") == deferred


@pytest.mark.parametrize("how", THREADS)
def test_x13_a_foreign_deleter_on_a_foreign_thread(how):
    """X13, case 5: producer -> Freehold -> consumer: theirs is called by ours, once, on whatever thread that is."""
    made = Made()
    address, deleter = take(fh.from_dlpack(Modern(made)).__dlpack__(max_version=(1, 3)))
    assert made.deletes == 0
    THREADS[how](address, deleter)
    assert made.deletes == 1


def test_x13_many_threads_at_once():
    """X13: eight threads hand over and let go, half of the deleters without the GIL: every reference comes back."""
    owned = [np.full(3, i, "f8") for i in range(8)]
    references = [sys.getrefcount(a) for a in owned]

    def work(a):
        for i in range(200):
            t = fh.share(a, "torch")
            assert t[0] == a[0]
            take_and_release = take(fh.share(t).__dlpack__(max_version=(1, 3)))
            (call_without_gil if i % 2 else call_with_gil)(*take_and_release)

    threads = [threading.Thread(target=work, args=(a,)) for a in owned]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del threads
    gc.collect()
    fh.ledger.live()
    assert [sys.getrefcount(a) for a in owned] == references


def test_x13_a_drop_that_was_put_off_runs_code():
    """X13: what waits may run anything when it is dropped: a finalizer that hands over again, and an exception."""

    class Talkative(np.ndarray):
        def __del__(self):
            made.append(fh.copy([1.0, 2.0]))
            raise ValueError("nobody hears this")

    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pytest.PytestUnraisableExceptionWarning)
        call_on_foreign_thread(*take(fh.share(np.arange(4.0).view(Talkative)).__dlpack__(max_version=(1, 3))))
        with pytest.raises(KeyError, match="mine"):
            {}["mine"], fh.ledger.live()
        fh.ledger.live()
        gc.collect()
    assert len(made) == 1 and made[0].shape == (2,)


SHUTDOWN = {
    "globals of every kind": """
        a = np.zeros(4); t = fh.share(a, "torch"); b = fh.share(t, "numpy"); f = fh.share(b); m = memoryview(f)
        c = f.__dlpack__(); v = f.__dlpack__(max_version=(1, 3)); d = fh.plan(a, "torch"); made = Made()
        p = fh.from_dlpack(Modern(made)); q = fh.share(p, "torch"); z = fh.share(a, "torch", freeze=True)
    """,
    "cycles that only the collector finds": """
        class Holder: pass
        h = Holder(); h.t = fh.share(np.zeros(4), "torch"); h.h = h; h.f = fh.share(h.t)
        sys.modules["kept"] = h; del h
    """,
    "a deleter after the interpreter": """
        address, deleter = take(fh.share(np.zeros(4)).__dlpack__(max_version=(1, 3)))
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit.argtypes = [ctypes.c_void_p] * 3
        assert libc.__cxa_atexit(deleter, address, None) == 0
    """,
    "a deleter after the interpreter, of a chain through PyTorch": """
        t = fh.share(fh.share(np.zeros(4)), "torch")
        address, deleter = take(fh.share(fh.share(t, "numpy")).__dlpack__())
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit.argtypes = [ctypes.c_void_p] * 3
        assert libc.__cxa_atexit(deleter, address, None) == 0
    """,
    "a deleter on a foreign thread at exit": """
        import atexit
        left = [take(fh.share(np.zeros(4)).__dlpack__(max_version=(1, 3))) for _ in range(3)]
        for one in left: atexit.register(producers.call_on_foreign_thread, *one)
    """,
    "an exception that leaves the program": """
        try:
            x = fh.from_dlpack(Modern(Made())); raise KeyError("mine")
        except KeyError:
            sys.exit(0)
    """,
    "sys.exit in a with block": """
        with fh.share(np.zeros(4)) as t:
            keep = np.asarray(fh.copy(t)); sys.exit(0)
    """,
}


@pytest.mark.parametrize("program", SHUTDOWN)
def test_x13_case_5_shutdown(program):
    """X13, case 5: whatever is still lent when the interpreter goes, the process ends well and says nothing."""
    body = "\n".join(line.removeprefix("        ") for line in SHUTDOWN[program].splitlines())
    assert_runs(PROGRAM + body)


def test_x13_what_is_left_alone_at_shutdown_is_counted():
    """X13: after the end of the interpreter a reference is leaked, not touched; the counter of the ledger says so."""
    printed = assert_runs(
        PROGRAM
        + "import atexit\n"
        + "def end():\n"
        + "    fh._freehold._shutdown()\n"
        + "    producers.call_on_foreign_thread(*left)\n"
        + "    print(producers.counter('leaked_at_shutdown'))\n"
        + "left = take(fh.share(np.zeros(4)).__dlpack__(max_version=(1, 3)))\n"
        + "atexit.register(end)\n"
    )
    assert printed.split() == ["1"]


# -- X24, case 27: fork --------------------------------------------------------------------------------------------------


def in_child(work):
    """Runs `work` in a forked child, which must end by itself with what it returned as its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads alive
        pid = os.fork()
    if pid == 0:
        try:
            code = work() or 0
        except BaseException:
            code = 99
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_x24_case_27_a_child_frees_nothing_of_its_parent():
    """X24, case 27: a child lets go of everything, hands over on its own, and ends well; the parent notices nothing."""
    a, made = np.arange(4.0), Made()
    t, x = fh.share(a, "torch"), fh.from_dlpack(Modern(made))
    held = {"t": t, "x": x, "capsule": fh.share(a).__dlpack__(max_version=(1, 3))}
    before = fh.ledger.stats()["live"]

    def child():
        # What the parent holds is not on the child's ledger.
        if fh.ledger.live() or fh.ledger.stats()["live"]["holders"]:
            return 98
        held.clear()
        own = fh.share(np.ones(3), "torch")
        own[0] = 5
        call_on_foreign_thread(*take(fh.share(a).__dlpack__(max_version=(1, 3))))
        fh.ledger.live()
        t[0] = 77
        return int(own.sum()) - 7

    assert in_child(child) == 0
    assert made.deletes == 0 and fh.ledger.stats()["live"] == before
    assert a[0] == 0, "the child writes to its own pages"
    t[1] = 9
    assert a.tolist() == [0, 9, 2, 3] and np.asarray(x).tolist() == [1, 2, 3]
    held.clear()
    del t, x
    fh.ledger.live()
    assert made.deletes == 1 and fh.ledger.owner(a) is None


def test_x24_a_child_of_a_busy_parent():
    """X24: a fork while other threads hand over: the child inherits no lock that nobody will release."""
    stop = threading.Event()

    def work():
        a = np.zeros(8)
        while not stop.is_set():
            call_without_gil(*take(fh.share(fh.share(a, "torch")).__dlpack__(max_version=(1, 3))))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: int(fh.convert(np.ones(3), "torch", dtype="float32").sum()) - 3) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    fh.ledger.live()


def test_x24_a_child_that_ends_like_a_program():
    """X24: a worker that runs the interpreter's own shutdown over what it inherited."""
    assert_runs(
        PROGRAM
        + "import warnings; warnings.simplefilter('ignore')\n"
        + "a = np.zeros(4); t = fh.share(a, 'torch'); f = fh.share(t); made = Made(); x = fh.from_dlpack(Modern(made))\n"
        + "child = os.fork()\n"
        + "if child == 0: sys.exit(int(fh.share(np.ones(4), 'torch').sum()) - 4)\n"
        + "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and made.deletes == 0\n"
        + "t[0] = 3; assert a[0] == 3\n"
    )


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
    "torch -> fh": lambda a, t: fh.share(t),
    "a view of torch": lambda a, t: fh.share(t[1:], "numpy"),
    "a capsule taken": lambda a, t: fh.from_dlpack(fh.share(a).__dlpack__(max_version=(1, 3))),
    "a capsule not taken": lambda a, t: fh.share(a).__dlpack__(),
    "a capsule looked at": lambda a, t: fh.plan(fh.share(a).__dlpack__()),
    "through the protocol": lambda a, t: np.from_dlpack(fh.share(t)),
    "copied": lambda a, t: fh.copy(a, "torch", dtype="float32"),
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
    mark, references, before = fh.ledger.mark(), sys.getrefcount(a), resident_kib()
    for _ in range(100_000):
        call(a, t)
    gc.collect()
    grown = resident_kib() - before
    assert grown < 2048, f"{grown} KiB more"
    assert sys.getrefcount(a) == references and not fh.ledger.leaks(since=mark)
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
    # In a process of its own: the heap of this one has holes to hide a few tensors in.
    assert_runs("""if True:
        import freehold as fh, torch
        from test_rows_x_lifetimes import resident_kib
        fh.copy(torch.ones(2_500_000)[:10], "numpy")
        before = resident_kib()
        kept = [fh.copy(torch.ones(2_500_000)[:10], "numpy") for _ in range(20)]
        assert resident_kib() - before < 60_000, resident_kib() - before
        views = [fh.share(torch.ones(2_500_000)[:10], "numpy") for _ in range(20)]
        assert resident_kib() - before > 150_000, "the views do pin what the ledger says that they pin"
        pinned = [buffer for buffer in fh.ledger.live() if buffer["pinned_ratio"] < 1e-4]
        assert len(pinned) == 20 and sum(buffer["len"] for buffer in pinned) == 200_000_000
        assert sum(a.sum() for a in kept + views) == 400
    """)


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
    fh.ledger.live()
    lent.append(1)
    numbers.append(3.0)
    assert (len(lent), len(numbers)) == (9, 3)


def test_x22_a_mapping_stays_mapped(tmp_path):
    """X22: a file's mapping is not closed under a view of it."""
    path = tmp_path / "values"
    np.arange(4, dtype="f4").tofile(path)
    with open(path, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    view = fh.share(mapped, "numpy")
    with pytest.raises(BufferError):
        mapped.close()
    view[0] = 9
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


def test_x13_the_owner_goes_with_the_last_holder():
    """X13, case 3: in whatever order the holders go, the owner goes with the last, and not before."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        t = torch.zeros(4)
        alive = weakref.ref(t)
        held = [fh.share(t, "numpy"), fh.share(t), np.asarray(memoryview(fh.share(t)))]
        del t
        for i in order:
            assert np.asarray(held[i]).tolist() == [0] * 4
            held[i] = None
        gc.collect()
        fh.ledger.live()
        assert alive() is None
