"""The corpus: real bugs of other projects, each rebuilt as a small consumer or producer, and what Freehold says of each."""

import gc
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))

import freehold as fh  # noqa: E402


class Watched:
    """Everything that was found since the test began."""

    def __init__(self):
        fh.ledger.live()
        self.mark, self.seen = fh.ledger.mark(), len(fh.ledger.hazards())

    def hazards(self, code):
        gc.collect()
        return [hazard for hazard in fh.ledger.hazards()[self.seen :] if hazard["code"] == code]

    def leaks(self):
        gc.collect()
        return fh.ledger.leaks(since=self.mark)

    def never_returned(self):
        """The one holder that was never given back: (framework, code, site)."""
        (leak,) = [leak for leak in self.leaks() if leak["role"] == "holder"]
        return leak["framework"], leak["code"], leak["site"]


def level(number):
    before = fh.ledger.level
    fh.ledger.level = number
    found = Watched()
    yield found
    fh.ledger.level = before


@pytest.fixture
def sites():
    """Level 3: call sites."""
    yield from level(3)


@pytest.fixture
def canaries():
    """Level 4."""
    yield from level(4)
