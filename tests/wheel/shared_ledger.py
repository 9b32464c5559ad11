"""C++ in a Python process has the runtime and the ledger of `import freehold`, whichever of the two was loaded first."""

import array
import ctypes
import sys

library, first = sys.argv[1:]
if first == "plugin":
    plugin = ctypes.CDLL(library)
import freehold as fh  # noqa: E402

if first == "package":
    plugin = ctypes.CDLL(library)

plugin.plugin_keep.restype, plugin.plugin_keep.argtypes = ctypes.c_double, [ctypes.c_void_p]
plugin.plugin_live_holders.restype = ctypes.c_uint64
pointer_of, rename = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_SetName
pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
NAME, USED = b"dltensor_versioned", b"used_dltensor_versioned"

values = array.array("f", [1, 2, 3])
capsule = fh.share(values).__dlpack__(max_version=(1, 3))
managed = pointer_of(capsule, NAME)
rename(capsule, USED)
assert plugin.plugin_keep(managed) == 6.0

holders = [holder["framework"] for holder in fh.ledger.live()[0]["holders"]]
assert "plugin" in holders, f"Python's ledger does not know what C++ holds: {holders}"
live = fh.ledger.stats()["live"]["holders"]
assert plugin.plugin_live_holders() == live > 0, "two ledgers in one process"
plugin.plugin_let_go()
del capsule
assert not fh.ledger.live(), fh.ledger.live()
print("one ledger")
