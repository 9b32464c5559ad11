"""Freehold beside PyTorch, CuPy and JAX on a GPU, in one process. Usage: bench_frameworks.py [--quick]

Prints a JSON object a row and a claim (see report.py). The contestants of one row take turns, round after round, and the best
round counts. Every round ends when the device is done. Into memory that is there, unless a row says otherwise.
"""

import json
import sys
import time

import numpy as np
import torch

import freehold as fh

QUICK = "--quick" in sys.argv
CUDA = torch.device("cuda:0")
KIB, MIB = 1 << 10, 1 << 20
LARGE = (64 if QUICK else 256) * MIB
ROUNDS = 4 if QUICK else 6
# Seconds that a contestant has in a round.
TURN = 0.02 if QUICK else 0.04
failed = []


def seconds(row, contestants):
    """The best time of each, in seconds a call. One that fails has none, and fails the run."""
    calls, best = {}, {}
    for name, call in contestants.items():
        try:
            for _ in range(2):
                call()
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            calls[name] = max(1, int(TURN / max(time.perf_counter() - start, 1e-7)))
        except Exception as error:  # noqa: BLE001 (the other contestants are measured)
            failed.append(f"{row}, {name}: {type(error).__name__}: {error}")
            print(failed[-1], flush=True)
    for _ in range(ROUNDS):
        for name, count in calls.items():
            call = contestants[name]
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(count):
                call()
            torch.cuda.synchronize()
            spent = (time.perf_counter() - start) / count
            best[name] = min(best.get(name, spent), spent)
    return best


def rates(table, row, bytes_, contestants, note=""):
    """A row in GB/s."""
    best = seconds(f"{table}: {row}", contestants)
    found = {name: bytes_ / spent / 1e9 for name, spent in best.items()}
    print(json.dumps({"table": table, "row": row, "unit": "GB/s", "values": found, "note": note}), flush=True)
    return found


def times(table, row, contestants, unit="µs", note=""):
    """A row in times."""
    best = seconds(f"{table}: {row}", contestants)
    scale = {"µs": 1e6, "ms": 1e3, "ns": 1e9}[unit]
    found = {name: spent * scale for name, spent in best.items()}
    print(json.dumps({"table": table, "row": row, "unit": unit, "values": found, "note": note}), flush=True)
    return found


def claim(name, found, ours, theirs, unit="GB/s", row=""):
    """Ours over theirs."""
    if ours in found and theirs in found:
        of = f"{row}{': ' if row else ''}{found[ours]:.1f} of {found[theirs]:.1f} {unit}"
        print(json.dumps({"claim": name, "value": found[ours] / found[theirs], "of": of}), flush=True)


def size(bytes_):
    return f"{bytes_ // MIB} MiB" if bytes_ >= MIB else f"{bytes_ // KIB} KiB"


def link():
    """Whole blocks between host and device. PyTorch's page-locked copy is one call of the driver: the driver's own rate."""
    for bytes_ in (64 * KIB, MIB, 16 * MIB, LARGE):
        n = bytes_ // 4
        device, pinned = torch.zeros(n, device=CUDA), torch.ones(n, pin_memory=True)
        array = np.ones(n, np.float32)
        pageable = torch.from_numpy(array)
        found = rates("host to device", size(bytes_), bytes_, {
            "driver, page-locked": lambda: device.copy_(pinned, non_blocking=True),
            "Freehold, page-locked": lambda: fh.copy(pinned, out=device),
            "PyTorch, pageable": lambda: device.copy_(pageable),
            "Freehold, pageable": lambda: fh.copy(array, out=device),
        })
        if bytes_ == LARGE:
            claim("pinned-h2d", found, "Freehold, page-locked", "driver, page-locked")
            claim("pageable-h2d", found, "Freehold, pageable", "driver, page-locked")
            claim("pageable-h2d-torch", found, "Freehold, pageable", "PyTorch, pageable")
        assert bool((device == 1).all())
        device.fill_(2)
        found = rates("device to host", size(bytes_), bytes_, {
            "driver, page-locked": lambda: pinned.copy_(device, non_blocking=True),
            "Freehold, page-locked": lambda: fh.copy(device, out=pinned),
            "PyTorch, pageable": lambda: pageable.copy_(device),
            "Freehold, pageable": lambda: fh.copy(device, out=array),
        })
        if bytes_ == LARGE:
            claim("pinned-d2h", found, "Freehold, page-locked", "driver, page-locked")
        assert array[0] == 2 and array[-1] == 2 and float(pinned[-1]) == 2


def into_frameworks():
    """New arrays, as programs ask for them."""
    table, n = "host to device and back, into new arrays", LARGE // 16
    x = np.arange(n, dtype=np.float32)
    t = torch.from_numpy(x)
    on_device = t.to(CUDA)
    times(table, f"float32, {size(x.nbytes)}, to the device", {
        "PyTorch": lambda: t.to(CUDA),
        "Freehold": lambda: fh.convert(x, "torch", device="cuda:0"),
    })
    times(table, f"float32, {size(x.nbytes)}, to NumPy", {
        "PyTorch": lambda: on_device.cpu().numpy(),
        "Freehold": lambda: fh.convert(on_device, "numpy"),
    })
    wide = x.astype(np.float64)
    t64 = torch.from_numpy(wide)
    times(table, "float64 to float32 on the device", {
        "PyTorch": lambda: t64.to(CUDA, torch.float32),
        "PyTorch, cast first": lambda: t64.to(torch.float32).to(CUDA),
        "Freehold": lambda: fh.convert(wide, "torch", device="cuda:0", dtype="float32"),
    })
    half = on_device.to(torch.float16)
    times(table, "float16 on the device to float32 in NumPy", {
        "PyTorch": lambda: half.cpu().float().numpy(),
        "PyTorch, cast first": lambda: half.float().cpu().numpy(),
        "Freehold": lambda: fh.convert(half, "numpy", dtype="float32"),
    })
    got = fh.convert(wide, "torch", device="cuda:0", dtype="float32")
    assert got.is_cuda and bool((got == on_device).all())


def layouts_over_the_link():
    """Strided and transposed sources, cast on the way."""
    table, rows, columns = "host to device, laid out anew", 4096, LARGE // 16 // 4096
    wide = np.ones((rows, 2 * columns), np.float64)
    strided = wide[:, ::2]
    narrow = np.ones((rows, columns), np.float32)
    device = torch.zeros(rows, columns, device=CUDA)
    t_strided, t_narrow = torch.from_numpy(wide)[:, ::2], torch.from_numpy(narrow)
    found = times(table, f"every other float64 to float32, {rows} x {columns}", {
        "PyTorch": lambda: device.copy_(t_strided),
        "Freehold": lambda: fh.copy(strided, out=device),
        "Freehold, float32 as it lies": lambda: fh.copy(narrow, out=device),
        "PyTorch, float32 as it lies": lambda: device.copy_(t_narrow),
    })
    claim("strided-cast-h2d", found, "Freehold", "Freehold, float32 as it lies", "µs")
    turned, t_turned = narrow.T, t_narrow.T
    other = torch.zeros(columns, rows, device=CUDA)
    times(table, f"float32 transposed, {columns} x {rows}", {
        "PyTorch": lambda: other.copy_(t_turned),
        "Freehold": lambda: fh.copy(turned, out=other),
    })
    assert bool((device == 1).all()) and bool((other == 1).all())


def on_device():
    """GB/s read and written; the copy moves as many bytes as the cast."""
    table = "on the device"
    kinds = [("float32", "bfloat16"), ("float32", "float16"), ("bfloat16", "float32"), ("float64", "float32"),
             ("uint8", "float32"), ("float32", "float8_e4m3fn"), ("int64", "int32")]
    for from_, to in kinds:
        a, b = getattr(torch, from_), getattr(torch, to)
        n = LARGE // (a.itemsize + b.itemsize) * 2 // 64 * 64
        x, y = torch.ones(n, device=CUDA).to(a), torch.zeros(n, device=CUDA).to(b)
        total = x.nbytes + y.nbytes
        like = torch.empty(total // 2, dtype=torch.uint8, device=CUDA)
        other = torch.empty_like(like)
        found = rates(table, f"{from_} to {to}", total, {
            "copy": lambda: other.copy_(like),
            "PyTorch": lambda: y.copy_(x),
            "Freehold": lambda: fh.copy(x, out=y, on_loss="allow"),
        })
        claim("cast", found, "Freehold", "copy", row=f"{from_} to {to}")
        claim("cast-torch", found, "Freehold", "PyTorch", row=f"{from_} to {to}")
        assert bool((y.to(torch.float32) == 1).all())
    side = 4096 if QUICK else 8192
    for dtype in ("float32", "float16", "uint8", "float64"):
        x = torch.randint(0, 100, (side, side), device=CUDA).to(getattr(torch, dtype))
        y = torch.zeros_like(x)
        like = torch.empty_like(x)
        found = rates(table, f"{dtype} transposed, {side} x {side}", 2 * x.nbytes, {
            "copy": lambda: like.copy_(x),
            "PyTorch": lambda: y.copy_(x.T),
            "Freehold": lambda: fh.copy(x.T, out=y),
        })
        claim("transpose", found, "Freehold", "copy", row=dtype)
        claim("transpose-torch", found, "Freehold", "PyTorch", row=dtype)
        assert bool((y == x.T).all())
    x = torch.randn(64, 56, 56, 256, device=CUDA)
    y = torch.zeros(64, 256, 56, 56, device=CUDA)
    rates(table, "float32 NHWC to NCHW", 2 * x.nbytes, {
        "PyTorch": lambda: y.copy_(x.permute(0, 3, 1, 2)),
        "Freehold": lambda: fh.copy(x.permute(0, 3, 1, 2), out=y),
    })
    assert bool((y == x.permute(0, 3, 1, 2)).all())


def sharing():
    """One memory: no copy. Times of small calls."""
    table = "shared on the device"
    t = torch.zeros(1024, device=CUDA)
    try:
        import cupy
    except Exception as error:  # noqa: BLE001 (not installed, or of another CUDA)
        print(f"no CuPy: {error}", flush=True)
    else:
        c = cupy.zeros(1024, "f4")
        times(table, "PyTorch to CuPy", {
            "its own way": lambda: cupy.from_dlpack(t),
            "Freehold": lambda: fh.share(t, "cupy"),
        })
        times(table, "CuPy to PyTorch", {
            "its own way": lambda: torch.from_dlpack(c),
            "Freehold": lambda: fh.share(c, "torch"),
        })
    try:
        import jax
        import jax.numpy as jnp

        j = jax.device_put(jnp.zeros(1024), jax.devices("gpu")[0])
    except Exception as error:  # noqa: BLE001 (as above)
        print(f"no JAX on the device: {error}", flush=True)
    else:
        # PyTorch could write to what JAX says never changes, and JAX takes what PyTorch still can: both are the caller's promise.
        fh.policy(readonly="trust", alias="trust")
        times(table, "JAX to PyTorch", {
            "its own way": lambda: torch.from_dlpack(j),
            "Freehold": lambda: fh.share(j, "torch", writable=False),
        })
        times(table, "PyTorch to JAX", {
            "its own way": lambda: jax.dlpack.from_dlpack(t),
            "Freehold": lambda: fh.share(t, "jax"),
        })


def main():
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device")
    for part in (link, on_device, layouts_over_the_link, into_frameworks, sharing):
        try:
            part()
        except Exception as error:  # noqa: BLE001 (the other parts are measured)
            failed.append(f"{part.__name__}: {type(error).__name__}: {error}")
            print(failed[-1], flush=True)
        torch.cuda.empty_cache()
    if failed:
        sys.exit(f"{len(failed)} failed")


if __name__ == "__main__":
    main()
