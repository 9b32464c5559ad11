"""Runs the examples of a Markdown page, so that what the documentation shows is what happens.

All ```python blocks of a page run in order in one namespace. A ```text block that directly follows one holds what it
prints; `...` in it stands for anything, as in doctest. A block marked ```python ignore is only compiled: it needs
something this machine may not have, and the page says what. Text between <!-- flowchart --> marks is what
`python -m freehold flowchart` prints.

    python tests/interop/doc_examples.py PAGE...            # runs and compares
    python tests/interop/doc_examples.py --update PAGE...   # writes what was printed into the text blocks
"""

import contextlib
import doctest
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\S*)[ ]?(.*)$")


@dataclass
class Block:
    info: str  # the language, and what follows it: "python ignore"
    first: int  # 0-based line of its first line of text
    last: int  # 0-based line of its closing fence
    text: str


@dataclass
class Mismatch(Exception):
    where: str
    expected: str
    got: str

    def __str__(self):
        return f"{self.where}: the page shows\n{self.expected}\nbut the example prints\n{self.got}"


def blocks(lines: list[str]) -> list[Block]:
    found, opened = [], None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened = (" ".join(part for part in fence.groups() if part), number + 1)
        elif opened is not None and line == "```":
            info, first = opened
            found.append(Block(info, first, number, "\n".join(lines[first:number])))
            opened = None
    if opened is not None:
        raise SyntaxError(f"the block opened on line {opened[1]} is never closed")
    return found


def expected_output(example: Block, candidate: Block | None, lines: list[str]) -> Block | None:
    """The text block that belongs to the example: only blank lines lie between them."""
    if candidate is None or candidate.info != "text":
        return None
    between = lines[example.last + 1 : candidate.first - 1]
    return None if any(line.strip() for line in between) else candidate


def run(page: Path, update: bool = False) -> int:
    """Runs the page's examples and returns how many there were."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = blocks(lines)
    namespace: dict = {"__name__": f"example in {page.name}"}
    replacements, count = [], 0
    for block, following in zip(found, [*found[1:], None]):
        if block.info not in ("python", "python ignore"):
            continue
        # Blank lines in front, so that a traceback shows the page's own line numbers.
        code = compile("\n" * block.first + block.text, str(page), "exec")
        if block.info == "python ignore":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        count += 1
        output = expected_output(block, following, lines)
        got = "\n".join(line.rstrip() for line in printed.getvalue().rstrip().splitlines())
        if output is None:
            if got:
                raise Mismatch(f"{page}:{block.first}", "(no text block)", got)
        elif not matches(output.text, got):
            if not update:
                raise Mismatch(f"{page}:{output.first}", output.text, got)
            replacements.append((output, got))
    if replacements:
        for output, got in reversed(replacements):
            lines[output.first : output.last] = got.splitlines()
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return count


def matches(expected: str, got: str) -> bool:
    return doctest.OutputChecker().check_output(expected + "\n", got + "\n", doctest.ELLIPSIS)


FLOWCHART = re.compile(r"(?<=<!-- flowchart -->\n```text\n).*?(?=```\n<!-- /flowchart -->)", re.DOTALL)


def flowchart(page: Path, update: bool = False) -> None:
    """Compares the flowchart of a page with the one that the decision code prints."""
    command = [sys.executable, "-m", "freehold", "flowchart"]
    got = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() + "\n"
    text = page.read_text(encoding="utf-8")
    shown = FLOWCHART.search(text)
    if shown is None:
        raise ValueError(f"{page}: no ```text block between the flowchart marks")
    if shown.group() != got:
        if not update:
            raise Mismatch(f"{page}: flowchart", shown.group(), got)
        page.write_text(text[: shown.start()] + got + text[shown.end() :], encoding="utf-8")


def main(arguments: list[str]) -> None:
    update = "--update" in arguments
    for name in [a for a in arguments if a != "--update"]:
        page = Path(name)
        if "<!-- flowchart -->" in page.read_text(encoding="utf-8"):
            flowchart(page, update)
        print(f"{name}: {run(page, update)} examples")


if __name__ == "__main__":
    main(sys.argv[1:])
