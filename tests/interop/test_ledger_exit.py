"""FREEHOLD_LEDGER=path: the ledger is written when the process ends, whatever the interpreter's shutdown does."""

import json
import os
import subprocess
import sys

import pytest

KEEP = "import numpy as np, freehold as fh\na = np.arange(6.0)\nkept = fh.share(a)\n"


def run(code, path, **more):
    environment = {**os.environ, "FREEHOLD_LEDGER": str(path), **more}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)


def live(path):
    return json.loads(path.read_text())["stats"]["live"]["holders"]


def test_what_lives_at_the_end_is_written(tmp_path):
    path = tmp_path / "ledger.json"
    done = run(KEEP, path)
    assert done.returncode == 0, done.stderr
    assert live(path) == 1, "written before the interpreter drops its objects, and not again after"


def test_a_relative_path_is_of_the_folder_where_the_program_began(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KEEP + "import os\nos.chdir('/')"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "FREEHOLD_LEDGER": "end.html"},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "end.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("end", ["os.abort()", "os.kill(os.getpid(), 11)"])
def test_a_crash_of_the_shutdown_loses_nothing(tmp_path, end):
    path = tmp_path / "ledger.json"
    crash = f"import os, sys\nclass Crash:\n    def __del__(self): {end}\nsys.modules['crash'] = Crash()\n"
    done = run(KEEP + crash, path)
    assert done.returncode < 0, "it did crash"
    assert live(path) == 1


def test_an_exception_is_an_end_too(tmp_path):
    path = tmp_path / "ledger.json"
    assert run(KEEP + "raise SystemExit(3)", path).returncode == 3
    assert live(path) == 1


def test_a_forked_child_writes_under_its_own_name(tmp_path):
    path = tmp_path / "ledger.trace.json"
    code = KEEP + (
        "import os, sys\nchild = os.fork()\nif child == 0:\n    b = np.arange(3.0)\n    mine = fh.share(b)\n    sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\nprint(child)"
    )
    done = run(code, path)
    assert done.returncode == 0, done.stderr
    child = tmp_path / f"ledger.{done.stdout.strip()}.trace.json"
    names = [{e["name"] for e in json.loads(file.read_text())["traceEvents"] if e["ph"] == "b"} for file in (path, child)]
    assert any("f64[6]" in name for name in names[0]) and not any("f64[3]" in name for name in names[0])
    assert any("f64[3]" in name for name in names[1]) and not any("f64[6]" in name for name in names[1])


def test_percent_p_is_the_process(tmp_path):
    done = run(KEEP + "import os; print(os.getpid())", tmp_path / "ledger-%p.jsonl")
    assert (tmp_path / f"ledger-{done.stdout.strip()}.jsonl").exists()


@pytest.mark.parametrize(("name", "part"), [("ledger.txt", "must end in one of .json"), ("no/folder/ledger.json", "could not be written")])
def test_what_cannot_be_written_is_said_and_changes_no_exit_status(tmp_path, name, part):
    done = run(KEEP, tmp_path / name)
    assert done.returncode == 0 and "FREEHOLD_LEDGER" in done.stderr and part in done.stderr
    assert not (tmp_path / name).exists()


def test_without_the_variable_nothing_is_written(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "FREEHOLD_LEDGER"}
    subprocess.run([sys.executable, "-c", KEEP], check=True, cwd=tmp_path, env=environment, timeout=120)
    assert list(tmp_path.iterdir()) == []
