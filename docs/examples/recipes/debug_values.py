"""Debugging: what is this tensor, do two of them share memory, who wrote where nobody should have?"""

import numpy as np
import torch

import freehold as fh

base = np.arange(12.0).reshape(3, 4)
t = fh.share(base[:, ::2], "torch")

print(str(fh.explain(t)).splitlines()[0])
# >> f64[3,2] torch cpu

answer = fh.explain(base, t)
print(answer.aliases, answer.bytes)
# >> True 48
print(fh.explain(base[:, 1], t).aliases)  # the same buffer, and no byte of both
# >> False

# "Something changes my array": lend it frozen. NumPy itself then refuses every write until it is given back.
with fh.share(base, freeze=True) as lent:
    try:
        base[0, 0] = -1
    except ValueError as error:
        print(error)
# >> assignment destination is read-only
base[0, 0] = -1

print(fh.ledger.owner(base)["owner"]["framework"], [h["framework"] for h in fh.ledger.owner(base)["holders"]])
# >> numpy ['torch']
