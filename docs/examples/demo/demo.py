"""The story of Freehold in a minute: NumPy, PyTorch and a C library hand each other tensors.

Run by `make demo`. Every line it prints is what really happened: the values are read back through the other side.
"""

import ctypes
import os
import sys
from pathlib import Path

import numpy as np
import torch

import freehold as fh


def title(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


def show(code, value=""):
    print(f"  {code:<58} {value}")


def share_both_ways():
    title("1. NumPy -> PyTorch: one memory, written from both sides")
    a = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    show('t = fh.share(a, "torch")', fh.plan(a, "torch"))
    t = fh.share(a, "torch")
    a[0] = 99.0
    show("a[0] = 99", f"t is {t.tolist()}")
    t[1] = -7.0
    show("t[1] = -7", f"a is {a.tolist()}")
    show("fh.explain(a, t)")
    print("    " + str(fh.explain(a, t)).replace("\n", "\n    "))
    assert a.tolist() == t.tolist() == [99.0, -7.0, 3.0]


def cast():
    title("2. Another dtype: a copy, and it says so before it happens")
    a = np.linspace(0, 1, 1_000_000)
    show('fh.plan(a, "torch", dtype="float32")', fh.plan(a, "torch", dtype="float32"))
    t = fh.convert(a, "torch", dtype="float32")
    a[0] = 5.0
    show("a[0] = 5; the copy does not follow", f"t[0] is {t[0].item()}")
    ids = np.array([2**40 + 5], dtype=np.int64)
    try:
        fh.convert(ids, "torch", dtype="int32")
    except fh.BoundaryError as error:
        print("    " + str(error).replace("\n", "\n    "))


def read_only():
    title("3. A read-only array: PyTorch would write through it; Freehold does not let it")
    a = np.array([1.0, 2.0, 3.0])
    a.setflags(write=False)
    try:
        fh.share(a, "torch")
    except fh.BoundaryError as error:
        print("    " + str(error).replace("\n", "\n    "))
    t = fh.convert(a, "torch")
    t[0] = 100.0
    show('t = fh.convert(a, "torch"); t[0] = 100', f"a is still {a.tolist()}")


def negative_stride():
    title("4. A reversed view: torch.from_numpy raises; Freehold re-lays it out in one pass")
    a = np.arange(5)
    try:
        torch.from_numpy(a[::-1])
    except ValueError as error:
        show("torch.from_numpy(a[::-1])", f"ValueError: {str(error)[:48]}...")
    show('fh.convert(a[::-1], "torch")', f"{fh.convert(a[::-1], 'torch').tolist()}  ({fh.plan(a[::-1], 'torch')})")


def gradients():
    title("5. A tensor that requires grad: the graph is never dropped silently")
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    try:
        fh.convert(t, "numpy")
    except fh.BoundaryError as error:
        print("    " + str(error).replace("\n", "\n    "))
    a = fh.convert(t, "numpy", detach=True)
    show('a = fh.convert(t, "numpy", detach=True)', f"shares {a.tolist()}, a.flags.writeable is {a.flags.writeable}")


def through_c(library):
    title("6. A C library takes a PyTorch tensor and hands one back (docs/examples/demo/blur.c)")
    capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    capsule_pointer.restype, capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
    wrap = ctypes.pythonapi.PyCapsule_New
    wrap.restype, wrap.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    blur = ctypes.CDLL(library).blur
    blur.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_size_t]

    t = torch.tensor([0.0, 0.0, 3.0, 0.0, 0.0])
    capsule = t.__dlpack__(max_version=(1, 0))
    out, words = ctypes.c_void_p(), ctypes.create_string_buffer(1024)
    status = blur(capsule_pointer(capsule, b"dltensor_versioned"), ctypes.byref(out), words, len(words))
    if status != 0:
        raise RuntimeError(words.value.decode())
    # The C side took the tensor: the capsule is consumed, as DLPack spells it.
    rename(capsule, b"used_dltensor_versioned")
    back = fh.convert(fh.from_dlpack(wrap(out, b"dltensor_versioned", None)), "torch")
    show("blur(t) in C", f"{[round(x, 2) for x in back.tolist()]}")
    show("what the C library decided", words.value.decode())


def ledger(mark):
    title("7. The ledger: who owns what, what was copied and why, what is still lent")
    a = np.zeros((512, 512), dtype=np.float32)
    t = fh.share(a, "torch")
    n = fh.share(t[:4], "numpy")
    print("    " + fh.ledger.report().replace("\n", "\n    ").rstrip())
    del a, t, n
    left = fh.ledger.leaks(since=mark)
    show("everything let go: fh.ledger.leaks(since=mark)", left)
    assert not left


def main():
    print(f"Freehold {fh.__version__}, NumPy {np.__version__}, PyTorch {torch.__version__}")
    mark = fh.ledger.mark()
    share_both_ways()
    cast()
    read_only()
    negative_stride()
    gradients()
    library = os.environ.get("FREEHOLD_DEMO_LIBRARY")
    if library and Path(library).exists():
        through_c(library)
    else:
        raise SystemExit("FREEHOLD_DEMO_LIBRARY does not name the built blur library: run `make demo`")
    ledger(mark)


if __name__ == "__main__":
    main()
