"""Hand-overs in a loop over 20 pairs leave nothing behind, in a process of their own, whose memory is nobody else's."""

import subprocess
import sys
from pathlib import Path

from frameworks import framework

for name in ("jax", "mlx.core", "paddle", "polars", "pyarrow", "tvm_ffi"):
    framework(name)  # only to skip, or to fail in CI, where the frameworks are not installed


def test_memory_stays_flat_and_the_ledger_ends_empty():
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "100000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 buffers live" in done.stdout
