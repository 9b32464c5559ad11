"""What `import freehold` brings in. Times are docs/benchmarks.md's business; what costs time is named here."""

import sys

before = set(sys.modules)
import freehold  # noqa: E402, F401

HEAVY = {"importlib.metadata", "json", "inspect", "typing", "re", "email", "argparse", "numpy", "torch", "warnings", "os"}
new = {name for name in sys.modules if name not in before}
print(sorted(name for name in new if name in HEAVY))
