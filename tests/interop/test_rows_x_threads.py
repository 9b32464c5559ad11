"""Rows X13, X23, X24: deleters on any thread and at any time, many threads, the end of the interpreter, and forks.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a lifetime that the frameworks of
today get wrong.
"""

import gc
import os
import sys
import threading
import warnings

import numpy as np
import pytest

import freehold as fh
from producers import Made, Modern, assert_runs, call_on_foreign_thread, call_with_gil, call_without_gil, counter, take

THREADS = {"with the GIL": call_with_gil, "without the GIL": call_without_gil, "foreign": call_on_foreign_thread}
PROGRAM = "import ctypes, gc, os, sys, threading, time\nimport numpy as np, torch\nimport freehold as fh, producers\n"
PROGRAM += "from producers import Made, Modern, call_without_gil, take\n"


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


def test_x13_a_drop_that_was_put_off_needs_no_call_of_ours():
    """X13: the interpreter drops what waits by itself, between two instructions of whoever has the GIL next."""
    a = np.zeros(3)
    references = sys.getrefcount(a)
    call_without_gil(*take(fh.share(a).__dlpack__(max_version=(1, 3))))
    for _ in range(1000):
        pass
    assert sys.getrefcount(a) == references


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
    """X13: two threads an array hand over and let go, half of the deleters without the GIL: each reference comes back."""
    owned = [np.full(3, i, "f8") for i in range(8)]
    references = [sys.getrefcount(a) for a in owned]

    def work(a):
        for i in range(500):
            t = fh.share(a, "torch")
            assert t[0] == a[0]
            taken = take(fh.share(t).__dlpack__(max_version=(1, 3)))
            (call_without_gil if i % 2 else call_with_gil)(*taken)

    threads = [threading.Thread(target=work, args=(a,)) for a in owned for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del threads
    gc.collect()
    fh.ledger.live()
    assert [sys.getrefcount(a) for a in owned] == references


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_x13_a_drop_that_was_put_off_runs_code():
    """X13: what waits may run anything when it is dropped: a finalizer that hands over again, and an exception."""

    class Talkative(np.ndarray):
        def __del__(self):
            made.append(fh.copy([1.0, 2.0]))
            raise ValueError("nobody hears this")

    made = []
    taken = take(fh.share(np.arange(4.0).view(Talkative)).__dlpack__(max_version=(1, 3)))
    with pytest.raises(KeyError, match="mine"):
        try:
            {}["mine"]
        finally:  # the exception is on its way while the finalizer raises its own
            call_on_foreign_thread(*taken)
            fh.ledger.live()
    assert len(made) == 1 and made[0].shape == (2,)


SHUTDOWN = {
    "globals of every kind": """
        a = np.zeros(4); t = fh.share(a, "torch"); b = fh.share(t, "numpy"); f = fh.share(b); m = memoryview(f)
        c = f.__dlpack__(); v = f.__dlpack__(max_version=(1, 3)); d = fh.plan(a, "torch"); made = Made()
        p = fh.from_dlpack(Modern(made)); q = fh.share(p, "torch"); g = fh.share(torch.zeros(3), "numpy")
        z = fh.share(a, "torch", freeze=True); y = fh.share(a, freeze=True); k = fh.copy(a, "torch")
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
    # Every call here is of fh.Tensor: PyTorch ends the process by itself when a thread is in it at the end.
    "threads that never stop": """
        def work():
            a = np.zeros(4)
            while True:
                b = fh.share(fh.share(a), "numpy", writable=False)
                call_without_gil(*take(fh.share(b).__dlpack__(max_version=(1, 3))))
        for _ in range(3): threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
    """,
    "threads in the middle of a copy": """
        a = np.zeros((1000, 1000))
        def work():
            while True: fh.convert(a.T, dtype="float32", order="C")
        for _ in range(3): threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
    """,
}


@pytest.mark.parametrize("program", SHUTDOWN)
def test_x13_case_5_shutdown(program):
    """X13, case 5: whatever is still lent when the interpreter goes, the process ends well and says nothing."""
    body = "\n".join(line.removeprefix("        ") for line in SHUTDOWN[program].splitlines())
    for _ in range(3 if "threads" in program else 1):  # where they are at the end is chance
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
        + "if child == 0: del f; sys.exit(int(fh.share(np.ones(4), 'torch').sum()) - 4)\n"
        + "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and made.deletes == 0\n"
        + "t[0] = 3; assert a[0] == 3\n"
    )


# -- X23: several threads, several interpreters --------------------------------------------------------------------------


def test_x23_threads_share_nothing_but_the_ledger():
    """X23: what each thread asks, is refused and writes down is its own; what all of them held is counted once, and gone."""
    start, wrong = threading.Barrier(6), []

    def work(number):
        a = np.full((4, 3), number, "f8")
        kind = type(f"Kind{number}", (Modern,), {})  # the cache of types is asked by all of them at once
        start.wait()
        for i in range(200):
            rule = ("copy", "reject", "trust")[(number + i) % 3]
            with fh.policy(readonly=rule):
                frozen = fh.share(a, writable=False)
                verdict = {"copy": "copy", "reject": "reject", "trust": "share"}[rule]
                seen = fh.plan(frozen, "torch").verdict
                if seen != verdict or fh.convert(a.T, "numpy", dtype="int32").sum() != 12 * number:
                    wrong.append((rule, seen))
            if fh.share(kind(Made([float(number)])), "numpy").tolist() != [number]:
                wrong.append(number)
            try:
                fh.share([number])
            except fh.BoundaryError as error:
                if error.code != "OB01" or error.decision.verdict != "reject":
                    wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not wrong and fh.policy().readonly == "copy" and fh.ledger.live() == []


INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
text = '''
try:
    import freehold as fh
except ImportError:  # newer Pythons: with a GIL of its own, an interpreter does not get the module
    pass
else:
    x = fh.copy([1.0, 2.0])
    assert memoryview(x).tolist() == [1, 2]
    try:
        fh.share([1])
    except fh.BoundaryError as error:
        assert error.code == "OB01"
    with fh.policy(readonly="trust"):
        assert fh.policy().readonly == "trust"
    del x
print("there")
'''
def another():
    made = interpreters.create()
    assert interpreters.run_string(made, text) is None
    interpreters.destroy(made)
"""


@pytest.mark.parametrize("order", ["import freehold as fh\nanother()\nanother()", "another()\nimport freehold as fh\nanother()"])
def test_x23_another_interpreter_of_the_process(order):
    """X23: it has the module or is refused it, and the first one goes on with an exception and a ledger of its own."""
    after = "x = fh.copy([3.0])\ntry:\n    fh.share([1])\nexcept fh.BoundaryError as error:\n    print(error.code, fh.policy().readonly)\n"
    after += "del x\nprint(len(fh.ledger.live()))\n"
    assert assert_runs(INTERPRETERS + order + "\n" + after).split() == ["there", "there", "OB01", "copy", "0"]
