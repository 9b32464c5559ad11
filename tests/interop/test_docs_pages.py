"""Every reason code has its page, and every example in the documentation runs and prints what the page shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import doc_examples

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CODE_TABLE = ROOT / "crates" / "freehold-tensor" / "src" / "code.rs"
CODES = re.findall(r"^    ([A-Z]{2}\d\d) = \d+,", CODE_TABLE.read_text(encoding="utf-8"), re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def title(page: Path) -> str:
    return page.read_text(encoding="utf-8").splitlines()[0]


def test_the_table_of_codes_was_found():
    assert len(CODES) >= 36 and "RO01" in CODES and "IN01" in CODES


@pytest.mark.parametrize("code", CODES)
def test_each_code_has_a_page_that_explains_it(code):
    page = DOCS / "e" / f"{code}.md"
    assert page.is_file(), f"write docs/e/{code}.md"
    text = page.read_text(encoding="utf-8")
    assert re.match(rf"# {code}: \S", text), "the heading is '# CODE: what it says'"
    assert [s for s in ("## Why", "## What to do", "## Bytes and owners") if f"\n{s}\n" not in text] == []
    assert "```python" in text or "```c\n" in text, "a page shows how the code comes about"
    assert 15 <= len(text.splitlines()) <= 80


def test_no_page_is_left_over():
    assert sorted(p.stem for p in (DOCS / "e").glob("*.md") if p.stem != "README") == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_the_index_has_each_code_with_its_title(code):
    what = title(DOCS / "e" / f"{code}.md").removeprefix(f"# {code}: ")
    assert f"| [{code}]({code}.md) | {what} |" in (DOCS / "e" / "README.md").read_text(encoding="utf-8")


def test_the_book_lists_every_page():
    summary = (DOCS / "SUMMARY.md").read_text(encoding="utf-8")
    missing = [p for p in DOCS.rglob("*.md") if p.name != "SUMMARY.md" and f"({p.relative_to(DOCS)})" not in summary]
    assert missing == []


LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", dict.fromkeys([*PAGES, *ROOT.glob("*.md")]), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page):
    targets = [t for t in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in t]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def with_examples(pages):
    return [p for p in pages if "```python\n" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", with_examples((DOCS / "e").glob("*.md")), ids=lambda p: p.stem)
def test_the_examples_of_a_code_run_and_print_what_the_page_shows(page):
    assert doc_examples.run(page) > 0


# These show what the ledger holds, so each has a process, and with it a ledger, of its own.
@pytest.mark.parametrize("page", with_examples(p for p in PAGES if p.parent != DOCS / "e"), ids=lambda p: p.name)
def test_the_examples_of_a_page_run_and_print_what_it_shows(page):
    command = [sys.executable, doc_examples.__file__, str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) > 0


def test_a37_a38_the_flowchart_of_the_readme_is_what_the_decision_code_prints():
    doc_examples.flowchart(ROOT / "README.md")


def test_a51_the_concepts_have_the_three_chapters_each_with_examples():
    chapters = (DOCS / "concepts.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert [c.splitlines()[0] for c in chapters] == [
        "1. A tensor is a view of a buffer",
        "2. Layout: shape and strides",
        "3. Creation and dtypes",
    ]
    assert all(c.count("```python") >= 3 for c in chapters)


def test_a02_the_three_verbs_are_told_with_their_purpose():
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    table = text.split("### Share, convert, copy")[1].split("\n\n")[1]
    assert [row.split("|")[2].strip() for row in table.splitlines()[2:]] == ["`fh.share`", "`fh.convert`", "`fh.copy`"]


def test_b07_a_page_that_lies_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(doc_examples.Mismatch):
        doc_examples.run(page)
    doc_examples.run(page, update=True)
    assert "\n2\n" in page.read_text() and doc_examples.run(page) == 1
    page.write_text("```python\nprint(1 + 1)\n```\nprose\n\n```text\n2\n```\n")
    with pytest.raises(doc_examples.Mismatch):
        doc_examples.run(page)
