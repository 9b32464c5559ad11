"""What every test of this folder gets: the ledger must be as it was, and memory too."""

import ctypes
import gc
import sys

import pytest

try:
    import freehold as fh
except ImportError:  # the documentation's own tests run without the package
    fh = None

# TensorFlow brings an LLVM of its own, and the process ends where the Triton of PyTorch brings a second; a process has one
# CUDA driver. What imports TensorFlow or brings a driver runs in a process apart, from test_apart.py, or when it is named.
APART = ["test_frameworks_tensorflow.py", "test_matrix.py", "test_cuda.py", "test_cuda_rows.py"]
collect_ignore = [] if any(name in argument for name in APART for argument in sys.argv) else APART

FAILED = pytest.StashKey[bool]()

# -- memory ------------------------------------------------------------------------------------------------------------------

# Runs of a test that is marked `flat`, and how often they are repeated before it is said to grow.
RUNS, WINDOWS = 64, 12


def pytest_configure(config):
    config.addinivalue_line("markers", "flat: runs the test again and again; what each run keeps in memory fails it")


class Heap(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks in_use free keep".split()]


def _in_use():
    """Bytes that malloc has given out, and blocks that Python has; exact, unlike the resident size."""
    gc.collect()
    if fh is not None:
        fh.ledger.live()  # drops what was given back without the GIL
    info = getattr(ctypes.CDLL(None), "mallinfo2", None)
    heap = 0
    if info is not None:
        info.restype = Heap
        heap = info()
        heap = heap.in_use + heap.hblkhd
    return heap, sys.getallocatedblocks()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs what is marked `flat` in windows of some runs. A leak grows in every window; a cache (malloc has one itself, of
    freed blocks) until it is full."""
    result = yield
    if pyfuncitem.get_closest_marker("flat") is None:
        return result
    while fh.ledger.stats()["copies_dropped"] == 0:  # the ledger's list of the last copies grows until it is full
        fh.copy(1.0)
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    gc.collect()
    gc.freeze()
    grown = []
    for _ in range(WINDOWS):
        before = _in_use()
        for _ in range(RUNS):
            pyfuncitem.obj(**arguments)
        after = _in_use()
        grown.append((after[0] - before[0], after[1] - before[1]))
        if grown[-1][0] < 16 * RUNS and grown[-1][1] < RUNS:
            return result
    pytest.fail(f"{RUNS} runs keep so many bytes of malloc and blocks of Python, {WINDOWS} times: {grown}")


@pytest.fixture(autouse=True, scope="module")
def settled():
    """What is there when a file's tests begin, frameworks mostly, is put aside: with PyTorch loaded, each collection would
    look through it for a tenth of a second. Garbage is collected before, so that none is put aside."""
    gc.collect()
    gc.freeze()


# -- the ledger --------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """What a module lists in EXPLAINED (by name, with or without parameters) must fail, and each entry must be of use."""
    unused = {}
    for item in items:
        explained = getattr(item.module, "EXPLAINED", {})
        name = item.nodeid.split("::", 1)[1]
        key = name if name in explained else name.split("[")[0]
        unused.setdefault(item.module.__name__, set(explained)).discard(key)
        if key in explained:
            item.add_marker(pytest.mark.xfail(reason=explained[key], strict=True))
    if not any("::" in argument for argument in config.args):
        for module, names in unused.items():
            if names:
                raise pytest.UsageError(f"{module} explains tests that do not exist: {', '.join(sorted(names))}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[FAILED] = call.excinfo is not None
    return report


@pytest.fixture(autouse=True)
def nothing_leaks(request):
    """Fails a test that leaves a live record on the ledger (not one that failed: its traceback holds its objects)."""
    if fh is None:
        yield
        return
    mark, before = fh.ledger.mark(), fh.ledger.stats()["live"]["bytes"]
    yield
    if request.node.stash.get(FAILED, True):
        return
    leaked = fh.ledger.leaks(since=mark)
    for put_aside in (False, True):
        if leaked:  # perhaps there is a cycle, and perhaps it was put aside
            if put_aside:
                gc.unfreeze()
            gc.collect()
            if put_aside:
                gc.freeze()
            leaked = fh.ledger.leaks(since=mark)
    assert not leaked, "still open at the end of the test:\n" + "\n".join(
        f"  {holder['framework']} {holder['dtype']}{holder['shape']} from {holder['from']}" for holder in leaked
    )
    now = fh.ledger.stats()["live"]["bytes"]
    assert now <= before, f"{now - before} B more on the ledger than before the test"
