"""Freehold: many libraries, one memory space, no nonsense.

Takes a tensor from any framework, decides whether to share its memory, convert it or refuse, says why, and keeps a
ledger of who owns every buffer and who holds a view of it.

    import freehold as fh

    t = fh.share(array, "torch")     # the same memory, or BoundaryError with the reason and what to type instead
    t = fh.convert(array, "torch")   # the same memory if it can be, else one copy
    t = fh.copy(array, "torch")      # new memory that nobody else has
    fh.plan(array, "torch")          # what convert would do, and why; no byte is touched
    fh.ledger                        # who owns what
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
from ._targets import targets

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
