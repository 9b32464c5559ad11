"""Every recipe under docs/examples/recipes runs and prints what its `# >>` lines say, and docs/recipes.md shows it.

    python tests/interop/test_recipes.py --update   # writes the programs into the page
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "recipes"
FOLDER = sorted(RECIPES.glob("*.py"))
PAGE = RECIPES.parents[1] / "recipes.md"
# A program in the page, under the link to its file.
SHOWN = re.compile(r"(?<=\]\(examples/recipes/)(\w+\.py)\)\n\n```python,recipe\n(.*?)\n```\n", re.DOTALL)


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
    assert len(FOLDER) >= 12
    for script in FOLDER:
        text = script.read_text(encoding="utf-8")
        assert text.startswith('"""') and len(text.splitlines()) <= 60, script.name


def program(name: str) -> str:
    return (RECIPES / name).read_text(encoding="utf-8").rstrip()


def test_the_page_shows_every_recipe_as_it_is():
    shown = dict(SHOWN.findall(PAGE.read_text(encoding="utf-8")))
    assert sorted(shown) == [script.name for script in FOLDER]
    for name, text in shown.items():
        assert text == program(name), f"{name} has changed: python tests/interop/test_recipes.py --update"


def test_each_of_the_jobs_that_the_page_promises_has_one():
    jobs = ("load_batches", "plot_image", "table_from_csv", "predictions_out", "mixed_operations", "live_view", "accept_any_tensor")
    assert set(jobs) <= {script.stem for script in FOLDER}


if __name__ == "__main__" and "--update" in sys.argv:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(SHOWN.sub(lambda m: f"{m[1]})\n\n```python,recipe\n{program(m[1])}\n```\n", page), encoding="utf-8")
