"""Many hand-overs in a loop over 20 pairs: resident memory stays flat, and the ledger ends empty.

    python tests/interop/soak.py              # one million
    python tests/interop/soak.py 100000       # so many; `make test` does this

Prints the resident memory as it goes, and ends with 1 if it grew.
"""

import gc
import mmap
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import mlx.core as mx
import numpy as np
import paddle
import polars
import pyarrow as pa
import torch
import tvm_ffi

import freehold as fh

# Memory of the frameworks' own caches, and of a heap with holes: a leak of one header (64 bytes) in one of the pairs
# is 3 MB in a million hand-overs.
SLACK_KIB = 1536
STEPS = 10


def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * (mmap.PAGESIZE // 1024)


def pairs():
    """name -> a function that hands something over and lets it go."""
    a = np.arange(64, dtype="f4").reshape(8, 8)
    t = torch.arange(64.0).reshape(8, 8)
    x = fh.copy(np.arange(64, dtype="f4"))
    j = jax.numpy.arange(64.0)
    p = paddle.arange(64, dtype="float32")
    m = mx.arange(64)
    mx.eval(m)
    w = pa.array(np.arange(64, dtype="f4"))
    c = polars.Series(np.arange(64, dtype="f4"))
    v = tvm_ffi.from_dlpack(np.arange(64, dtype="f4"))
    frozen = fh.copy(np.arange(64, dtype="f4"))
    return {
        "numpy -> torch": lambda: fh.share(a, "torch"),
        "torch -> numpy": lambda: fh.share(t, "numpy"),
        "numpy -> fh.Tensor": lambda: fh.share(a),
        "torch -> fh.Tensor": lambda: fh.share(t),
        "fh.Tensor -> numpy": lambda: fh.share(x, "numpy"),
        "fh.Tensor -> torch": lambda: fh.share(x, "torch"),
        "numpy -> torch, copied": lambda: fh.copy(a, "torch"),
        "numpy -> torch, cast and turned": lambda: fh.convert(a.T, "torch", dtype="float64", order="C"),
        "jax -> numpy": lambda: fh.share(j, "numpy"),
        "jax -> torch": lambda: fh.convert(j, "torch"),
        "fh.Tensor -> jax": lambda: fh.share(frozen, "jax", freeze=True),
        "paddle -> numpy": lambda: fh.share(p, "numpy"),
        "numpy -> paddle": lambda: fh.share(a, "paddle"),
        "mlx -> numpy": lambda: fh.share(m, "numpy"),
        "numpy -> mlx": lambda: fh.convert(a, "mlx"),
        "pyarrow -> numpy": lambda: fh.share(w, "numpy"),
        "fh.Tensor -> pyarrow": lambda: fh.share(frozen, "pyarrow", freeze=True),
        "polars -> torch": lambda: fh.convert(c, "torch"),
        "tvm_ffi -> torch": lambda: fh.share(v, "torch"),
        "numpy -> tvm_ffi": lambda: fh.share(a, "tvm_ffi"),
    }


def hand_over(calls, count):
    """So many hand-overs, as many of each pair."""
    for call in calls:
        for _ in range(count // len(calls)):
            call()
    fh.ledger.live()  # drops what was given back without the GIL
    gc.collect()


def main(total):
    calls = pairs()
    assert len(calls) == 20
    hand_over(calls.values(), max(total // STEPS, 40_000))  # caches fill, pools grow, and the ledger's event ring comes round
    lent, start, before = len(fh.ledger.live()), time.monotonic(), resident_kib()
    print(f"{'hand-overs':>12} {'resident KiB':>13} {'grown':>7}")
    for step in range(1, STEPS + 1):
        hand_over(calls.values(), total // STEPS)
        print(f"{step * total // STEPS:>12} {resident_kib():>13} {resident_kib() - before:>7}")
    grown, took = resident_kib() - before, time.monotonic() - start
    assert len(fh.ledger.live()) == lent, "the pairs' own tensors, and nothing else"
    calls.clear()
    gc.collect()
    print(f"{took / total * 1e6:.2f} us a hand-over; {grown} KiB more; {len(fh.ledger.live())} buffers live")
    if fh.ledger.live() or grown > SLACK_KIB:
        print(fh.ledger.report())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
