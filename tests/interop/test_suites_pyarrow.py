"""PyArrow's own dlpack tests, of the wheel that is installed, with our functions in the place of every `from_dlpack`."""

import gc

import numpy as np
import pytest

import freehold as fh
from frameworks import framework
from suites import theirs

pa = framework("pyarrow")


@pytest.fixture(scope="module", autouse=True)
def little_to_collect():
    """Each of their tests collects garbage, which takes long with many frameworks alive: these are set aside."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


MODULE = "pyarrow.tests.test_dlpack"


def composed(owner, x, *, device=None, copy=None):
    """fh.from_dlpack, read by NumPy or by Arrow."""
    tensor = fh.from_dlpack(x, device=device, copy=copy)
    return np.asarray(tensor) if owner is np else owner.from_dlpack(tensor)


def converted(owner, x, *, device=None, copy=None):
    """fh.convert straight to NumPy or to Arrow."""
    return fh.convert(x, "numpy" if owner is np else "pyarrow", device=device, copy=copy)


def produced(owner, x, **wishes):
    """NumPy's and Arrow's own consumers, which read our tensor."""
    return owner.from_dlpack(fh.share(x), **wishes)


globals().update(theirs(MODULE, "from_dlpack", composed, lambda x: x))
globals().update(theirs(MODULE, "convert", converted, lambda x: x))
globals().update(theirs(MODULE, "share", produced, fh.share))

# What PyArrow expects and Freehold does not do, by the test's name, with the row that says so. Each must fail.
NEEDS_CLASS = "pa.FixedShapeTensorArray is asked for by its class; to=\"pyarrow\" gives a pa.Tensor of these dimensions"
LEGACY = "X16: immutable memory never leaves in a legacy capsule, which could not say so"
EXPLAINED = {
    "test_convert_from_dlpack_zero_copy": "X17: an Array never changes, so memory that NumPy can write to is copied (AL03)",
    "test_convert_array_from_dlpack_multi_dim_not_supported": "to=\"pyarrow\" gives a pa.Tensor of two dimensions",
    "test_convert_fixed_shape_tensor_array_from_dlpack": NEEDS_CLASS,
    "test_convert_fixed_shape_tensor_array_from_dlpack_transposed": NEEDS_CLASS,
    "test_convert_fixed_shape_tensor_array_from_dlpack_not_first_major": NEEDS_CLASS,
    "test_share_dlpack": LEGACY,
    "test_share_dlpack_legacy_capsule": LEGACY + "; for a mutable Tensor it leaves, without Arrow's warning",
    "test_share_dlpack_legacy_capsule_immutable_tensor": LEGACY + ": RO01, where Arrow has NotImplementedError",
    "test_share_dlpack_legacy_capsule_copy_not_supported": "X21: copy= is honoured in legacy capsules too",
    "test_share_tensor_dlpack": "a legacy capsule of mutable memory is allowed, and given without Arrow's warning",
}
for case in ("array", "sliced_array", "empty_array"):
    EXPLAINED[f"test_share_dlpack_versioned_roundtrip[{case}]"] = LEGACY
for variant in ("from_dlpack", "convert", "share"):
    EXPLAINED |= {
        f"test_{variant}_from_dlpack_no_dlpack_method": "OB01 names what object() offers; Arrow's is an AttributeError",
        f"test_{variant}_dlpack_not_supported": "X02: nulls are NU01, and bits are unpacked where they may be copied",
    }
