"""Times hand-overs in Python, Freehold beside what each framework offers itself.

Prints one JSON object a measurement. The contestants of one table take turns, round after round, so that a machine that
slows down slows them all; the best round counts, because everything else on the machine can only add time.
"""

import json
import sys
import timeit

import numpy as np
import torch

import freehold as fh

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
BATCH_SECONDS = 0.02

TABLES = [
    # Title, object made once, contestants: name and statement over `x`. The first is what the others are compared with.
    ("numpy -> torch, share, f32[64]", "x = np.zeros(64, 'f4')", {
        "torch.from_numpy(x)": "torch.from_numpy(x)",
        "fh.share(x, 'torch')": "fh.share(x, 'torch')",
        "fh.convert(x, 'torch')": "fh.convert(x, 'torch')",
        "torch.from_dlpack(x)": "torch.from_dlpack(x)",
        "torch.as_tensor(x)": "torch.as_tensor(x)",
    }),
    ("torch -> numpy, share, f32[64]", "x = torch.zeros(64)", {
        "x.numpy()": "x.numpy()",
        "fh.share(x, 'numpy')": "fh.share(x, 'numpy')",
        "fh.convert(x, 'numpy')": "fh.convert(x, 'numpy')",
        "np.from_dlpack(x)": "np.from_dlpack(x)",
        "np.asarray(x)": "np.asarray(x)",
    }),
    ("numpy -> a carrier, f32[64]", "x = np.zeros(64, 'f4')", {
        "tvm_ffi.from_dlpack(x)": "tvm_ffi.from_dlpack(x)",
        "fh.from_dlpack(x)": "fh.from_dlpack(x)",
    }),
    ("torch -> a carrier, f32[64]", "x = torch.zeros(64)", {
        "tvm_ffi.from_dlpack(x)": "tvm_ffi.from_dlpack(x)",
        "fh.from_dlpack(x)": "fh.from_dlpack(x)",
    }),
    ("a decision in Python", "x = np.zeros(64, 'f4')", {
        "fh.plan(x, 'torch')": "fh.plan(x, 'torch')",
    }),
    ("a copy that is needed: f64[1000, 1000] transposed -> torch f32", "x = np.zeros((1000, 1000)).T", {
        "torch.from_numpy(x).float().contiguous()": "torch.from_numpy(x).float().contiguous()",
        "fh.convert(x, 'torch', dtype='float32', order='C')": "fh.convert(x, 'torch', dtype='float32', order='C')",
        "torch.from_numpy(x.astype('f4', order='C'))": "torch.from_numpy(x.astype('f4', order='C'))",
    }),
]


def namespace() -> dict:
    names = {"np": np, "torch": torch, "fh": fh}
    try:
        import tvm_ffi
        names["tvm_ffi"] = tvm_ffi
    except ImportError:
        pass
    return names


def measure(setup: str, contestants: dict[str, str], names: dict) -> dict[str, float]:
    scope = dict(names)
    exec(setup, scope)
    timers = {name: timeit.Timer(statement, globals=scope) for name, statement in contestants.items()}
    loops = {}
    for name, timer in timers.items():
        number, seconds = 1, timer.timeit(1)
        while seconds < BATCH_SECONDS:
            number = max(number + 1, int(number * min(10, 1.2 * BATCH_SECONDS / max(seconds, 1e-9))))
            seconds = timer.timeit(number)
        loops[name] = number
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(loops[name]) / loops[name])
    return best


def main() -> None:
    names = namespace()
    torch.set_num_threads(1)  # the copies are compared one thread against one
    for title, setup, contestants in TABLES:
        known = {n: s for n, s in contestants.items() if "tvm_ffi" not in s or "tvm_ffi" in names}
        for name, seconds in measure(setup, known, names).items():
            print(json.dumps({"table": title, "row": name, "ns": round(seconds * 1e9, 1)}), flush=True)


if __name__ == "__main__":
    main()
