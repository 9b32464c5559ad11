"""Times copies, casts and layout changes: Freehold beside memcpy, NumPy and PyTorch, into memory that is there.

Usage: copies.py THREADS [TABLE [ROW]], the last two regular expressions: only tables whose title, and rows whose
name, has a match. Prints one JSON object a case. The contestants of one case take turns, round after
round, so that a machine that slows down slows them all; the best round counts, because everything else on the machine
can only add time. memcpy moves as many bytes as the case reads and writes together, so that GB/s can be compared.
"""

import ctypes
import json
import os
import re
import sys
import time

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
TABLE, ROW = (re.compile(sys.argv[i] if len(sys.argv) > i else "") for i in (2, 3))
# Read when Freehold is imported.
os.environ["FREEHOLD_NUM_THREADS"] = str(THREADS)

import ml_dtypes  # noqa: E402, F401 (gives NumPy bfloat16 and the f8 kinds)
import numpy as np  # noqa: E402
import torch  # noqa: E402

import freehold as fh  # noqa: E402

torch.set_num_threads(THREADS)

MIB = 1 << 20
# Bytes read and written together: half of what a core has to itself, what all cores share, and memory.
SIZES = {"L2": 1 * MIB, "L3": 16 * MIB, "DRAM": 512 * MIB}
REAL = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8"]
F8 = ["float8_e4m3fn", "float8_e5m2"]
PAIRS = [(a, b) for a in REAL for b in REAL if a != b]
PAIRS += [(f8, wide) for f8 in F8 for wide in ("float32", "float16", "bfloat16")]
PAIRS += [(wide, f8) for f8 in F8 for wide in ("float32", "float16", "bfloat16")]

libc = ctypes.CDLL(None)
libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
libc.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.memchr.restype = ctypes.c_void_p


def values(shape, dtype):
    """Small whole numbers: every dtype holds them, so that no contestant may refuse."""
    n = int(np.prod(shape))
    return torch.arange(n, dtype=torch.int32).remainder_(13).to(getattr(torch, dtype)).reshape(shape)


def as_numpy(x):
    return x if isinstance(x, np.ndarray) else fh.share(x, "numpy")


def best_of(contestants, seconds):
    """The best time of each, in seconds a call."""
    best, calls = {}, {}
    for name, call in contestants.items():
        call()
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        calls[name] = max(1, int(seconds / 8 / max(once, 1e-7)))
    for _ in range(8):
        for name, call in contestants.items():
            # PyTorch's threads wait for more work before they sleep, and would take the next contestant's core.
            time.sleep(0.01 if THREADS > 1 else 0)
            if calls[name] > 1:
                call()  # brings back what the contestant before pushed out of the caches
            start = time.perf_counter()
            for _ in range(calls[name]):
                call()
            spent = (time.perf_counter() - start) / calls[name]
            best[name] = min(best.get(name, spent), spent)
    return best


def memcpy_of(total):
    """A call that reads and writes `total` bytes together, in memory of the same allocator as the cases'."""
    src, dst = torch.ones(total // 2, dtype=torch.uint8), torch.ones(total // 2, dtype=torch.uint8)
    if THREADS > 1:
        # PyTorch's own threads: starting Python's for every call would be what is measured.
        return lambda: dst.copy_(src)
    call = lambda: libc.memcpy(dst.data_ptr(), src.data_ptr(), total // 2)  # noqa: E731
    call.keep = src, dst
    return call


def wanted(table, row=""):
    return TABLE.search(table) and (not row or ROW.search(row))


def case(table, row, x, y, seconds=0.25):
    """Prints one case: `x` is copied into `y`, both PyTorch tensors or NumPy arrays, or calls that make them."""
    if not wanted(table, row):
        return
    x, y = (side() if callable(side) else side for side in (x, y))
    nx, ny = as_numpy(x), as_numpy(y)
    total = nx.nbytes + ny.nbytes
    contestants = {
        "memcpy": memcpy_of(total),
        "freehold": lambda: fh.copy(x, out=y),
        "numpy": lambda: np.copyto(ny, nx, casting="unsafe"),
    }
    if isinstance(x, torch.Tensor):
        contestants["torch"] = lambda: y.copy_(x)
    best = best_of(contestants, seconds)
    fh.copy(x, out=y)
    ours = ny.copy()
    np.copyto(ny, nx, casting="unsafe")
    assert ours.tobytes() == ny.tobytes(), f"{table} {row}: not NumPy's bytes"
    speeds = {name: total / spent / 1e9 for name, spent in best.items()}
    print(json.dumps({"table": table, "row": row, "threads": THREADS, "gbs": speeds}), flush=True)


def reading():
    """What a cast that narrows comes near to: it reads most of what it moves, where memcpy reads half."""
    table = "reading alone (memchr), beside memcpy"
    if THREADS > 1 or not wanted(table):
        return
    for size, total in SIZES.items():
        memory = torch.ones(total, dtype=torch.uint8)
        calls = {"memcpy": memcpy_of(total), "memchr": lambda: libc.memchr(memory.data_ptr(), 2, total)}
        assert calls["memchr"]() is None
        speeds = {name: total / spent / 1e9 for name, spent in best_of(calls, 0.25).items()}
        print(json.dumps({"table": table, "row": size, "threads": THREADS, "gbs": speeds}), flush=True)


def casts():
    for size, total in SIZES.items():
        title = f"contiguous, {size}"
        n = total // 8
        case(title, "float32 -> float32", lambda: values((n,), "float32"), lambda: values((n,), "float32"))
        for a, b in PAIRS:
            item = getattr(torch, a).itemsize + getattr(torch, b).itemsize
            n = total // item // 64 * 64
            case(title, f"{a} -> {b}", lambda: values((n,), a), lambda: torch.zeros(n, dtype=getattr(torch, b)))


def transposes():
    title = "transposes"
    for rows, columns in ((1024, 1024), (4096, 4096), (8192, 8192), (5000, 3000)):
        for to in ("float32", "bfloat16"):
            x = lambda: values((rows, columns), "float32").t()  # noqa: E731
            y = lambda: torch.zeros(columns, rows, dtype=getattr(torch, to))  # noqa: E731
            case(title, f"float32 -> {to}, {rows} x {columns}", x, y)
    for dtype in ("uint8", "int16", "float64"):
        y = lambda: torch.zeros(4096, 4096, dtype=getattr(torch, dtype))  # noqa: E731
        case(title, f"{dtype}, 4096 x 4096", lambda: values((4096, 4096), dtype).t(), y)


def permutations():
    title = "permutations"
    if not wanted(title):
        return
    for channels in (1, 2, 3, 4, 16):
        nhwc = values((32, 224, 224, channels), "uint8")
        for to in ("uint8", "float32"):
            y = torch.zeros(32, channels, 224, 224, dtype=getattr(torch, to))
            case(title, f"uint8 NHWC -> {to} NCHW, {channels} channels", nhwc.permute(0, 3, 1, 2), y)
    nchw = values((32, 3, 224, 224), "float32")
    case(title, "float32 NCHW -> NHWC, 3 channels", nchw.permute(0, 2, 3, 1), torch.zeros(32, 224, 224, 3))
    nchw = values((32, 64, 112, 112), "float32")
    case(title, "float32 NCHW -> NHWC, 64 channels", nchw.permute(0, 2, 3, 1), torch.zeros(32, 112, 112, 64))
    x = lambda: values((24, 36, 40, 44, 72), "float32").permute(4, 2, 0, 3, 1)  # noqa: E731
    case(title, "float32, 5-D (4, 2, 0, 3, 1), 418 MiB", x, lambda: torch.zeros(x().shape), seconds=4)


def strides():
    title = "strides"
    if not wanted(title):
        return
    n = 16 * MIB
    case(title, "every other float32", values((2 * n,), "float32")[::2], torch.zeros(n))
    case(title, "float32 into every other", values((n,), "float32"), torch.zeros(2 * n)[::2])
    case(title, "one row to 4096 rows, float32", values((4096,), "float32").expand(4096, 4096), torch.zeros(4096, 4096))
    column = values((4096, 1), "float32").expand(4096, 4096)
    case(title, "one column to 4096 columns, float32", column, torch.zeros(4096, 4096))
    case(title, "real parts of complex64", torch.zeros(n, dtype=torch.complex64).real, torch.zeros(n))
    reverse = fh.share(values((n,), "float32"), "numpy")[::-1]
    case(title, "float32, reversed", reverse, np.zeros(n, "f4"))
    case(title, "big-endian float32", np.arange(n, dtype=">f4"), np.zeros(n, "f4"))
    case(title, "big-endian float64 -> float32", np.arange(n, dtype=">f8"), np.zeros(n, "f4"))


if __name__ == "__main__":
    reading()
    casts()
    transposes()
    permutations()
    strides()
