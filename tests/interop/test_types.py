"""The stubs say what is: two type checkers agree on every verb and target, and stubtest finds no difference from the package."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import freehold as fh

TYPES = Path(__file__).resolve().parents[1] / "types"
USES = TYPES / "uses.py"
NO_SKIP = os.environ.get("CI") == "true" or bool(os.environ.get("FREEHOLD_NO_SKIP"))
REFUSED = [number for number, line in enumerate(USES.read_text(encoding="utf-8").splitlines(), 1) if line.endswith("# refused")]
TARGETS = [name for name, entry in fh.targets().items() if entry.target]


def run(*command, cwd=TYPES):
    environment = dict(os.environ, MYPYPATH=str(TYPES / "stand_ins"))
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment)


def test_the_uses_name_every_verb_and_target():
    text = USES.read_text(encoding="utf-8")
    for verb in ("share", "convert", "copy"):
        for target in TARGETS:
            assert f'assert_type(fh.{verb}(x, "{target}")' in text
    for name in fh.__all__:
        assert f"fh.{name}" in text or name == "BoundaryWarning", name
    assert len(REFUSED) >= 13


def test_mypy_infers_what_is_given_and_refuses_what_would_fail(tmp_path):
    command = (sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-pretty", "--cache-dir", str(tmp_path), "uses.py")
    done = run(*command)
    errors = re.findall(r"^uses\.py:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert sorted({int(line) for line, _ in errors}) == REFUSED, done.stdout + done.stderr


def test_pyright_infers_what_is_given_and_refuses_what_would_fail():
    pyright = Path(sys.executable).with_name("basedpyright")
    if not pyright.exists() and not NO_SKIP:
        pytest.skip("basedpyright is not installed")
    done = run(str(pyright), "-p", str(TYPES), "--pythonpath", sys.executable, "--outputjson")
    told = json.loads(done.stdout)["generalDiagnostics"]
    errors = [(entry["range"]["start"]["line"] + 1, entry["message"]) for entry in told if entry["severity"] == "error"]
    assert sorted({line for line, _ in errors}) == REFUSED, errors


def test_stubtest_finds_no_difference(tmp_path):
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\ncache_dir = {tmp_path / 'cache'}\n", encoding="utf-8")
    command = ("-m", "mypy.stubtest", "freehold", "--concise", "--ignore-unused-allowlist", "--mypy-config-file", str(config))
    # Not from a folder where a package of tests could be taken for one of ours.
    done = run(sys.executable, *command, "--allowlist", str(TYPES / "stubtest-allowlist.txt"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def wishes(name):
    """The keys of a TypedDict of the stub."""
    stub = Path(fh.__file__).with_name("_freehold.pyi")
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    (node,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return [entry.target.id for entry in node.body if isinstance(entry, ast.AnnAssign)]


def test_the_keywords_of_the_stub_are_those_of_the_verbs():
    for verb, name in ((fh.share, "_ShareWishes"), (fh.convert, "_ConvertWishes"), (fh.copy, "_CopyWishes")):
        parameters = inspect.signature(verb).parameters
        assert list(parameters)[:2] == ["x", "to"]
        keywords = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
        assert [key for key in keywords if key != "out"] == wishes(name)
    assert set(wishes("_IntoWishes")) == set(wishes("_CopyWishes")) - {"dtype", "device", "order"}


def test_the_package_is_typed_and_needs_nothing_for_it_at_run_time():
    package = Path(fh.__file__).parent
    assert (package / "py.typed").exists()
    for file in package.glob("*.py*"):
        if file.suffix in (".py", ".pyi"):
            assert "typing_extensions" not in file.read_text(encoding="utf-8"), file.name
