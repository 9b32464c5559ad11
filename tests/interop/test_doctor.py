"""`python -m freehold doctor`: what it says is what the frameworks themselves and the environment say."""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

import freehold as fh
from freehold import _doctor


def doctor(*arguments, program=None, **environment):
    command = [sys.executable, "-m", "freehold", "doctor", *arguments] if program is None else [sys.executable, "-c", program]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("FREEHOLD_")} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)


def report(*arguments, **environment):
    done = doctor("--json", *arguments, **environment)
    data = json.loads(done.stdout)
    assert done.returncode == int(any(found["grave"] for found in data["findings"])), done.stdout
    return data


def texts(data, grave=None):
    return [found["text"] for found in data["findings"] if grave is None or found["grave"] == grave]


def test_it_imports_nothing_that_it_was_not_told_to():
    program = """
        import sys
        from freehold.__main__ import main
        main(["doctor"])
        print([name for name in ("numpy", "torch", "jax", "tensorflow", "pandas") if name in sys.modules])
    """
    done = doctor(program=textwrap.dedent(program))
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_versions_are_those_of_the_distributions():
    data = report()
    names = {"tensorflow": "tensorflow-cpu", "paddle": "paddlepaddle", "tvm_ffi": "apache-tvm-ffi"}
    for name, row in data["frameworks"].items():
        assert row["installed"] == (importlib.util.find_spec(name) is not None)
        assert not row["imported"] and row["taken_by"] is None
        if row["installed"]:
            assert row["version"] == importlib.metadata.version(names.get(name, name))
    assert set(data["frameworks"]) == set(fh.targets())
    assert texts(data) == [] and "nothing is wrong" in doctor().stdout


# What is known of each release that the tests pin: the road is read off its type or off a capsule that it made.
ROADS = {
    "numpy": ("C struct", "C API"),
    "torch": ("exchange table", "exchange table"),
    "jax": ("legacy capsule", "legacy capsule"),
    "paddle": ("exchange table", "exchange table"),
    "tensorflow": ("legacy capsule", "legacy capsule"),
    "mlx": ("legacy capsule", "filled in its own memory"),
    "pyarrow": ("Arrow C data", "versioned capsule"),
    "pandas": ("by column", None),
    "polars": ("Arrow C data", None),
}


def test_with_import_it_knows_the_road_of_every_framework_that_is_here():
    data = report("--import", TF_CPP_MIN_LOG_LEVEL="3", JAX_PLATFORMS="cpu")
    assert texts(data, grave=True) == []
    for name, row in data["frameworks"].items():
        if not row["installed"]:
            continue
        assert row["imported"] and row["taken_by"] not in (None, "none"), name
        if name in ROADS:
            assert (row["taken_by"], row["given_by"]) == ROADS[name]
        if row["target"]:
            # ml_dtypes, which not every process has loaded, adds to what a target takes.
            plain, extended = (set(fh._freehold._caps(name, extended=more)["dtypes"]) for more in (False, True))
            assert "cpu" in row["devices"] and plain <= set(row["dtypes"]) <= extended
    words = doctor("--import", TF_CPP_MIN_LOG_LEVEL="3", JAX_PLATFORMS="cpu").stdout
    for name, row in data["frameworks"].items():
        assert re.search(rf"^{name} .*{re.escape(row['taken_by'] or '')}", words, re.MULTILINE), words


def test_what_is_in_force_is_what_the_process_has():
    environment = {"FREEHOLD_SIMD": "baseline", "FREEHOLD_NUM_THREADS": "3", "FREEHOLD_HOST_CACHE": "64M"}
    data = report(FREEHOLD_POLICY="copies=warn,max_copy_bytes=100", **environment)
    system = data["system"]
    assert (system["simd"], system["threads"], system["host_cache"]) == ("baseline", 3, 64 << 20)
    assert (data["policy"]["copies"], data["policy"]["max_copy_bytes"]) == ("warn", 100)
    assert data["environment"] == {"FREEHOLD_POLICY": "copies=warn,max_copy_bytes=100", **environment}
    assert texts(data) == []
    words = doctor(FREEHOLD_POLICY="copies=warn", **environment).stdout
    assert "baseline kernels, 3 threads" in words and "copies=warn" in words and "64 MiB at most" in words
    assert data["ledger"]["level"] == 2 and system["ledger"] == [2, "records"]
    assert data["freehold"] == fh.__version__ and data["library"].endswith(".so")


@pytest.mark.parametrize(
    "variable, value, says",
    [
        ("FREEHOLD_SIMD", "sse9", "this machine has"),
        ("FREEHOLD_NUM_THREADS", "many", "a number from 1 up"),
        ("FREEHOLD_HOST_CACHE", "1 mile", "K, M or G"),
        ("FREEHOLD_POLICY", "copies=maybe", "copies=maybe must be allow, warn or error"),
        ("FREEHOLD_CUDA_LIBRARY", "/nowhere/libcuda.so", "/nowhere/libcuda.so"),
    ],
)
def test_a_variable_that_is_not_in_force_is_an_error(variable, value, says):
    data = report(**{variable: value})
    (text,) = texts(data, grave=True)
    assert variable in text and says in text
    done = doctor(**{variable: value})
    assert done.returncode == 1 and f"error: {text}" in done.stdout


def test_a_framework_that_cannot_be_imported_is_an_error(tmp_path):
    (tmp_path / "drjit").mkdir()
    (tmp_path / "drjit" / "__init__.py").write_text("raise ImportError('libdrjit.so: no such file')\n")
    (tmp_path / "cupy.py").write_text("__version__ = '13.0'\ndef zeros(n): raise RuntimeError('no device')\n")
    program = """
        import sys
        from freehold import _doctor
        _doctor._MAKE = {name: make for name, make in _doctor._MAKE.items() if name in ("numpy", "torch", "drjit", "cupy")}
        sys.exit(_doctor.main(True, False))
    """
    done = doctor(program=textwrap.dedent(program), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: drjit cannot be used: ImportError: libdrjit.so: no such file" in done.stdout
    assert "error: cupy cannot be used: RuntimeError: no device" in done.stdout


def test_old_releases_and_a_missing_ml_dtypes_are_found(tmp_path):
    program = """
        import sys
        from freehold import _doctor, _targets
        found = _targets.find()
        found["torch"] = found["torch"]._replace(version="2.5.1+cpu", imported=False)
        _targets.find = lambda: found
        here = _targets.installed
        _targets.installed = lambda name: name != "ml_dtypes" and here(name)
        sys.exit(_doctor.main(False, False))
    """
    done = doctor(program=textwrap.dedent(program))
    assert done.returncode == 1
    assert "error: torch 2.5.1+cpu is too old: freehold is meant for 2.6 and newer" in done.stdout
    assert "note: ml_dtypes is not installed" in done.stdout and "pip install ml_dtypes" in done.stdout


def test_versions_and_sizes_are_read_as_they_are_written():
    assert _doctor._numbers("2.15.0+cu132") == (2, 15, 0) and _doctor._numbers("0.1.15.post2") == (0, 1, 15)
    assert [_doctor._bytes(text) for text in ("0", "64M", "2g", " 1 K", "x", "")] == [0, 64 << 20, 2 << 30, 1 << 10, None, None]


def test_where_to_build_against_is_printed():
    for option, folder in (("--include", fh.get_include()), ("--cmakedir", fh.get_cmake_dir())):
        done = subprocess.run([sys.executable, "-m", "freehold", option], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.strip() == folder and os.path.isdir(folder)


def test_the_demo_is_found_in_a_checkout():
    command = [sys.executable, "-m", "freehold", "demo"]
    environment = {k: v for k, v in os.environ.items() if k != "FREEHOLD_DEMO_LIBRARY"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert "== 1. NumPy -> PyTorch" in done.stdout, done.stderr
    assert done.returncode == 1 and done.stderr.strip().endswith("run `make demo`"), "it ends where it needs the C library"
