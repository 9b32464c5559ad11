"""What every test of this folder gets: the ledger must be as it was."""

import gc
import sys

import pytest

try:
    import freehold as fh
except ImportError:  # the documentation's own tests run without the package
    fh = None

# TensorFlow brings an LLVM of its own, and the process ends where the Triton of PyTorch brings a second: what imports
# TensorFlow runs in a process apart, from test_apart.py, or when it is named.
APART = ["test_frameworks_tensorflow.py", "test_matrix.py"]
collect_ignore = [] if any(name in argument for name in APART for argument in sys.argv) else APART

FAILED = pytest.StashKey[bool]()


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
    mark = fh.ledger.mark()
    yield
    if request.node.stash.get(FAILED, True):
        return
    leaked = fh.ledger.leaks(since=mark)
    if leaked:  # a collection with PyTorch loaded takes a tenth of a second, so only where there may be a cycle
        gc.collect()
        leaked = fh.ledger.leaks(since=mark)
    assert not leaked, "still open at the end of the test:\n" + "\n".join(
        f"  {holder['framework']} {holder['dtype']}{holder['shape']} from {holder['from']}" for holder in leaked
    )
