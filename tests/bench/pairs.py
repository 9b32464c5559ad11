"""Times every pair of frameworks: `fh.convert` beside the target's own way in, and the special functions that are quicker.

Usage: pairs.py pairs | tensorflow | functions. Prints one JSON object a row, with both times. Both sides take turns, round after
round, and the best round of each counts: see handover.py. TensorFlow's pairs are a process of their own, so that what it
does to a process is in nobody else's figures.
"""

import json
import os
import sys
import timeit
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import torch

import freehold as fh

ROUNDS = 15
BATCH_SECONDS = 0.008
LENGTH = 64
ALIGNMENT = 64  # what JAX and XLA share

names = {"np": np, "torch": torch, "fh": fh}


def aligned() -> np.ndarray:
    memory = np.zeros(4 * LENGTH + ALIGNMENT, "u1")
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + 4 * LENGTH].view("f4")


def shareable(make, address):
    """A tensor that a framework made in memory of its own, at an address that every target can share."""
    kept = []
    for _ in range(500):
        x = make()
        if address(x) % ALIGNMENT == 0:
            return x
        kept.append(x)  # or the next one would be at the same address
    return x


def frameworks(with_tensorflow: bool) -> tuple[dict, dict]:
    """What each framework makes, and its own way in for a tensor `x` of another."""
    address = lambda x: fh.share(x, writable=False).data_ptr
    makers = {
        "numpy": aligned,
        "torch": lambda: torch.zeros(LENGTH),
        "fh.Tensor": lambda: fh.share(aligned()),
    }
    own = {
        "numpy": "np.from_dlpack(x)",
        "torch": "torch.from_dlpack(x)",
        # Nobody else makes one; this is the nearest thing that others make.
        "fh.Tensor": "tvm_ffi.from_dlpack(x)",
    }
    if with_tensorflow:
        # Paddle 3.3.1 crashes when it is imported after TensorFlow 2.21.
        load("paddle", "paddle")
        if load("tensorflow", "tf"):
            makers["tensorflow"] = lambda: names["tf"].zeros(LENGTH)
            own["tensorflow"] = "tf.experimental.dlpack.from_dlpack(x.__dlpack__())"
    if load("jax.numpy", "jnp"):
        makers["jax"] = lambda: names["jnp"].zeros(LENGTH, "float32")
        own["jax"] = "jnp.from_dlpack(x)"
    if load("paddle", "paddle"):
        makers["paddle"] = lambda: names["paddle"].zeros([LENGTH], dtype="float32")
        own["paddle"] = "paddle.utils.dlpack.from_dlpack(x)"
    if load("mlx.core", "mx"):
        names["mx"].set_default_device(names["mx"].cpu)
        makers["mlx"] = lambda: evaluated(names["mx"].zeros(LENGTH))
        own["mlx"] = "mx.array(x)"
    if load("pyarrow", "pa"):
        makers["pyarrow"] = lambda: names["pa"].array([0.0] * LENGTH, "float32")
        own["pyarrow"] = "pa.Array.from_dlpack(x)"
    if load("tvm_ffi", "tvm_ffi"):
        makers["tvm_ffi"] = lambda: names["tvm_ffi"].from_dlpack(aligned())
        own["tvm_ffi"] = "tvm_ffi.from_dlpack(x)"
    return {name: (lambda make=make: shareable(make, address)) for name, make in makers.items()}, own


def load(module: str, name: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    names[name] = sys.modules[module]
    return True


def evaluated(x):
    names["mx"].eval(x)
    return x


def works(statement: str, scope: dict) -> bool:
    try:
        exec(statement, scope)
    except Exception:  # each framework has its own
        return False
    return True


def best(statements: list[str], scope: dict) -> list[float]:
    """Nanoseconds a call of each."""
    timers = [timeit.Timer(statement, globals=scope) for statement in statements]
    loops = []
    for timer in timers:
        number, seconds = 1, timer.timeit(1)
        while seconds < BATCH_SECONDS:
            number = max(number + 1, int(number * min(10, 1.2 * BATCH_SECONDS / max(seconds, 1e-9))))
            seconds = timer.timeit(number)
        loops.append(number)
    found = [float("inf")] * len(timers)
    for _ in range(ROUNDS):
        for i, timer in enumerate(timers):
            found[i] = min(found[i], timer.timeit(loops[i]) / loops[i])
    return [round(seconds * 1e9, 1) for seconds in found]


def row(table: str, title: str, own: str, ours: str, scope: dict, verdict: str) -> None:
    ns = best([own, ours], scope) if works(own, scope) else [None, *best([ours], scope)]
    line = {"table": table, "row": title, "own": own, "ours": ours, "ns": ns, "verdict": verdict}
    print(json.dumps(line), flush=True)


def pairs(with_tensorflow: bool) -> None:
    makers, own = frameworks(with_tensorflow)
    for target, statement in own.items():
        to = "" if target == "fh.Tensor" else f", '{target}'"
        for source, make in makers.items():
            if with_tensorflow and "tensorflow" not in (source, target):
                continue
            x = make()
            verdict = fh.plan(x) if target == "fh.Tensor" else fh.plan(x, target)
            row(f"into {target}", source, statement, f"fh.convert(x{to})", {**names, "x": x}, verdict.verdict)
            if verdict.verdict == "copy":
                # What others hand out as a tensor that is never written to, though its memory is, is only shared on a promise.
                frozen = fh.plan(x, target, freeze=True)
                if frozen.verdict == "share":
                    ours = f"fh.share(x{to}, freeze=True)"
                    row(f"into {target}", f"{source}, frozen", statement, ours, {**names, "x": x}, "share")


FUNCTIONS = [
    # Source, somebody's own function, ours.
    ("numpy", "torch.from_numpy(x)", "fh.share(x, 'torch')"),
    ("numpy", "torch.from_dlpack(x)", "fh.share(x, 'torch')"),
    ("torch", "x.numpy()", "fh.share(x, 'numpy')"),
    ("torch", "np.asarray(x)", "fh.share(x, 'numpy')"),
    ("torch", "np.from_dlpack(x)", "fh.share(x, 'numpy')"),
    ("numpy", "tvm_ffi.from_dlpack(x)", "fh.from_dlpack(x)"),
    ("torch", "tvm_ffi.from_dlpack(x)", "fh.from_dlpack(x)"),
    ("numpy", "jnp.from_dlpack(x)", "fh.convert(x, 'jax')"),
    # nanobind makes no object of what it takes; ours makes an fh.Tensor.
    ("numpy", "taker.take(x)", "fh.from_dlpack(x)"),
    ("numpy", "taker.take_ro(x)", "fh.from_dlpack(x)"),
    ("torch", "taker.take(x)", "fh.from_dlpack(x)"),
    ("tvm_ffi", "taker.take(x)", "fh.from_dlpack(x)"),
    ("jax", "taker.take_ro(x)", "fh.from_dlpack(x)"),
]


def functions() -> None:
    makers, _ = frameworks(with_tensorflow=False)
    load("taker", "taker")
    for source, own, ours in FUNCTIONS:
        if source in makers and own.split(".")[0] in {*names, "x"}:
            row("special functions", source, own, ours, {**names, "x": makers[source]()}, "")


def main() -> None:
    warnings.simplefilter("ignore")
    fh.ledger.level = 2
    torch.set_num_threads(1)
    {"pairs": lambda: pairs(False), "tensorflow": lambda: pairs(True), "functions": functions}[sys.argv[1]]()


if __name__ == "__main__":
    main()
