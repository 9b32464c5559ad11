"""Columns of a table into PyTorch: each with its own dtype, one pass, and nulls never turned into numbers silently."""

import io

import pandas as pd
import torch

import freehold as fh

text = io.StringIO("size,price,visits\n1.5,10,3\n2.5,20,\n3.5,30,7\n")
df = pd.read_csv(text, dtype={"visits": "Int64"})

# df.values would first gather all columns into one array of their common type, and .float() would pass over it again.
# A column at a time needs neither: the plan says what each will cost.
for name in ("size", "price"):
    print(name, fh.plan(df[name], "torch", dtype="float32"))
# >> size f64[3] numpy cpu ro -> f32[3] torch cpu: copy (cast) 12 B: CA01
# >> price i64[3] numpy cpu ro -> f32[3] torch cpu: copy (cast) 12 B: CA01

# A null has no tensor value. It is refused until you say what it becomes.
try:
    fh.convert(df["visits"], "torch")
except fh.BoundaryError as error:
    print(error.code, error.decision.reasons[0].text)
# >> NU01 null or masked elements: 1 of 3 elements are null
visits = fh.convert(df["visits"], "torch", fill=0)
print(visits.tolist())
# >> [3, 0, 7]

columns = [fh.convert(df[name], "torch", dtype="float32") for name in ("size", "price")]
print(torch.stack(columns, dim=1).tolist())
# >> [[1.5, 10.0], [2.5, 20.0], [3.5, 30.0]]
