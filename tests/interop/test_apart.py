"""Runs the files that cannot be in one process with all the others: they import TensorFlow, or bring a CUDA driver."""

import subprocess
import sys
from pathlib import Path

import pytest

import fake_cuda
from conftest import APART
from frameworks import NO_SKIP, framework

framework("jax")  # only to skip, or to fail in CI, where the frameworks are not installed


@pytest.mark.parametrize("name", APART)
def test_apart(name):
    if name.startswith("test_cuda") and fake_cuda.path() is None and not NO_SKIP:
        pytest.skip("tests/fake-cuda is not built: cargo build -p freehold-fake-cuda")
    file = Path(__file__).with_name(name)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
