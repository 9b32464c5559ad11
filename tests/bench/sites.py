"""What the call site of a hand-over costs in Python: the same calls with the ledger at level 2 and at level 3.

Prints one JSON object a measurement, as `report.py` reads them.
"""

import json

import numpy as np
import torch
from handover import measure

import freehold as fh

TABLE = "A call in Python, and its call site"
CALLS = [
    ("numpy -> fh.Tensor", "x = np.zeros(64, 'f4')", "fh.from_dlpack(x)"),
    ("torch -> numpy", "x = torch.zeros(64)", "fh.share(x, 'numpy')"),
]


def main() -> None:
    names = {"np": np, "torch": torch, "fh": fh}
    for title, setup, statement in CALLS:
        # The level is set once in a thousand calls, on both sides alike.
        levels = {f"level {level}": f"fh.ledger.level = {level}\nfor _ in range(1000): {statement}" for level in (2, 3)}
        seconds = measure(setup, levels, names)
        ns = {name: each * 1e9 / 1000 for name, each in seconds.items()}
        for name, each in ns.items():
            print(json.dumps({"table": TABLE, "row": f"{title}, {name}", "ns": round(each, 1), "aim": ""}), flush=True)
        above = ns["level 3"] - ns["level 2"]
        print(json.dumps({"table": TABLE, "row": f"{title}, level 3 above level 2", "ns": round(above, 1), "aim": "at most 500 ns"}))
    fh.ledger.level = 2


if __name__ == "__main__":
    main()
