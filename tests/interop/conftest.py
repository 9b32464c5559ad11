"""What every test of this folder gets: the ledger must be as it was, and the policy the default."""

import gc

import pytest

try:
    import freehold as fh
except ImportError:  # the documentation's own tests run without the package
    fh = None


@pytest.fixture(autouse=True)
def nothing_leaks():
    """Fails a test that leaves a live record on the ledger."""
    if fh is None:
        yield
        return
    gc.collect()
    mark = fh.ledger.mark()
    yield
    gc.collect()
    leaked = fh.ledger.leaks(since=mark)
    assert not leaked, "still open at the end of the test:\n" + "\n".join(
        f"  {holder['framework']} {holder['dtype']}{holder['shape']} from {holder['from']}" for holder in leaked
    )
