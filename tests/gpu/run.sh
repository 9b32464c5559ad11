#!/bin/sh
# Tests and measures Freehold on this machine's GPU. Usage: ./run.sh OUT_DIR [--quick]
# Leaves results.json, summary.md and logs.txt in OUT_DIR. PYTHON names the Python that has PyTorch, CuPy and JAX.
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python3}" "$here/tests/run.py" "$here" "$@"
