"""Freehold: many libraries, one memory space, no nonsense.

Takes a tensor from any framework, decides whether to share its memory, convert it or refuse, says why, and keeps a
ledger of who owns every buffer and who holds a view of it.

    import freehold as fh

    t = fh.share(array, "torch")     # the same memory, or BoundaryError with the reason and what to type instead
    t = fh.convert(array, "torch")   # the same memory if it can be, else one copy
    t = fh.copy(array, "torch")      # new memory that nobody else has
    fh.plan(array, "torch")          # what convert would do, and why; no byte is touched
    fh.ledger                        # who owns what

To build C and C++ against this package: `fh.get_include()` and `fh.get_cmake_dir()`.
"""

from ._freehold import (
    BoundaryError,
    BoundaryWarning,
    Decision,
    Tensor,
    __version__,
    convert,
    copy,
    explain,
    from_dlpack,
    ledger,
    plan,
    policy,
    share,
)

# What type checkers know, without an import of `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._targets import Targets

__all__ = [
    "BoundaryError",
    "BoundaryWarning",
    "Decision",
    "Tensor",
    "convert",
    "copy",
    "explain",
    "from_dlpack",
    "ledger",
    "plan",
    "policy",
    "share",
    "targets",
]

# Where they are found, for `help` and for pickles.
for _verb in (convert, copy, explain, from_dlpack, plan, policy, share):
    _verb.__module__ = __name__
del _verb


def targets() -> "Targets":
    """What is installed, and what each side takes: a dict by name, which prints as a table. Nothing is imported to find out.

    >>> fh.targets()["numpy"].strides
    'any'
    >>> fh.targets()["torch"].default_dtype
    'float32'
    """
    # Imported when asked for: to find versions takes longer than all the rest of the package.
    from ._targets import find

    return find()


def get_include() -> str:
    """The folder of the C and C++ headers: `#include <freehold/freehold.hpp>`.

    >>> fh.get_include().endswith("include")
    True
    """
    return _part("include")


def get_cmake_dir() -> str:
    """The folder for `find_package(freehold CONFIG)`, which gives the target `freehold::freehold`: pass it as `freehold_DIR`.

    >>> fh.get_cmake_dir().endswith("cmake")
    True
    """
    return _part("cmake")


def _part(name: str) -> str:
    from os import path

    folder = path.join(path.dirname(__file__), name)
    if not path.isdir(folder):
        raise RuntimeError(f"this build of freehold has no {folder}: `make python` and `make wheel` put it there")
    return folder
