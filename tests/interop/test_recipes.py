"""Every recipe under docs/examples/recipes runs and prints what its `# >>` lines say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "recipes"
FOLDER = sorted(RECIPES.glob("*.py"))


def expected(script: Path) -> list[str]:
    lines = (line.strip() for line in script.read_text(encoding="utf-8").splitlines())
    return [line.removeprefix("# >> ") for line in lines if line.startswith("# >> ")]


@pytest.mark.parametrize("script", FOLDER, ids=lambda path: path.stem)
def test_the_recipe_prints_what_it_shows(script, tmp_path):
    environment = dict(os.environ, MPLCONFIGDIR=str(tmp_path), TMPDIR=str(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=120, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == expected(script)
    assert expected(script), "a recipe shows what it prints"


def test_recipes_are_short_and_say_what_they_are_for():
    assert len(FOLDER) >= 8
    for script in FOLDER:
        text = script.read_text(encoding="utf-8")
        assert text.startswith('"""') and len(text.splitlines()) <= 60, script.name


def test_the_book_lists_every_recipe():
    page = (RECIPES.parents[1] / "recipes.md").read_text(encoding="utf-8")
    assert [s.name for s in FOLDER if f"examples/recipes/{s.name})" not in page] == []
