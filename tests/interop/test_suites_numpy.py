"""NumPy's own dlpack tests, of the wheel that is installed, with our functions in the place of `np.from_dlpack`."""

import numpy as np

import freehold as fh
from suites import theirs

MODULE = "numpy._core.tests.test_dlpack"


def composed(_, x, *, device=None, copy=None):
    """fh.from_dlpack, read by NumPy."""
    return np.asarray(fh.from_dlpack(x, device=device, copy=copy))


def converted(_, x, *, device=None, copy=None):
    """fh.convert straight to NumPy."""
    return fh.convert(x, "numpy", device=device, copy=copy)


def produced(module, x, **wishes):
    """NumPy's own consumer, which reads our tensor."""
    return module.from_dlpack(fh.share(x), **wishes)


globals().update(theirs(MODULE, "from_dlpack", composed, lambda x: x))
globals().update(theirs(MODULE, "convert", converted, lambda x: x))
globals().update(theirs(MODULE, "share", produced, fh.share))

# What NumPy expects and Freehold does not do, by the test's name, with the row that says so. Each must fail.
EXPLAINED = {}
for variant in ("from_dlpack", "convert"):
    EXPLAINED |= {
        f"TestDLPack_{variant}::test_strides_not_multiple_of_itemsize": "X07: NumPy has such strides, so they are shared",
        f"TestDLPack_{variant}::test_invalid_byte_swapping": "X04: the bytes are swapped in the one copy that is made",
    }
for variant in ("from_dlpack", "convert", "share"):
    EXPLAINED[f"TestDLPack_{variant}::test_writeable"] = "A04: an array is taken by its own flag, not by a legacy capsule"
if np.lib.NumpyVersion(np.__version__) < "2.5.0":
    EXPLAINED["TestDLPack_share::test_dunder_dlpack_stream"] = "X20: BufferError and ValueError, as NumPy 2.5 has it"
