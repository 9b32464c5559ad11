"""A table into PyTorch in one pass: gathered and cast together, and nulls never turned into numbers silently."""

import io

import pandas as pd

import freehold as fh

text = io.StringIO("size,price,visits\n1.5,10,3\n2.5,20,\n3.5,30,7\n")
df = pd.read_csv(text, dtype={"visits": "Int64"})

# torch.from_numpy(df.values).float() gathers all columns into one array of their common type, and passes over it again.
# Here the columns go straight into the float32 tensor, and the plan says what that costs.
table = df[["size", "price"]]
print(fh.plan(table, "torch", dtype="float32"))
# >> copy (layout, cast) 24 B: LY01, CA01
x = fh.convert(table, "torch", dtype="float32")
print(x.tolist(), x.is_contiguous())
# >> [[1.5, 10.0], [2.5, 20.0], [3.5, 30.0]] True

# A column that has the dtype already is shared, where the target takes read-only memory (pandas gives no other).
print(fh.plan(df["size"], "numpy"))
# >> f64[3] numpy cpu ro -> f64[3] numpy cpu: share, read-only: RO02

# A null has no tensor value. It is refused until you say what it becomes.
try:
    fh.convert(df["visits"], "torch")
except fh.BoundaryError as error:
    print(error.code, error.decision.reasons[0].text)
# >> NU01 null or masked elements: 1 of 3 elements are null
visits = fh.convert(df["visits"], "torch", fill=0)
print(visits.tolist())
# >> [3, 0, 7]
