"""Holds the documentation to what it says: links, anchors, the table of contents, and every program in C and C++.

    python tests/docs/check.py links                     # of the Markdown pages, and that SUMMARY.md lists each of them
    python tests/docs/check.py programs PREFIX [--update]  # ```c and ```cpp blocks, against the library installed there
    python tests/docs/check.py samples PREFIX            # the \\code blocks of the headers, each in its frame of tests/docs/frames
    python tests/docs/check.py site DIR                  # links and anchors of the HTML in a folder

A ```c or ```cpp block is a whole program: it is compiled with warnings as errors and run, and the ```text block that directly
follows holds what it prints, `...` standing for anything. Nothing is asked of a network.
"""

import concurrent.futures
import html.parser
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from doc_examples import blocks, expected_output, matches  # noqa: E402

DOCS = ROOT / "docs"
FRAMES = ROOT / "tests" / "docs" / "frames"
# Beside the book: pages that are read where the code is.
BESIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)


def pages() -> list[Path]:
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in BESIDE)]


def anchors(page: Path) -> set[str]:
    """The ids that mdBook and GitHub give to headings."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = "".join("-" if c.isspace() else c for c in text if c.isalnum() or c in "-_" or c.isspace())
        found[name] = found.get(name, 0) + 1
    return {name if i == 0 else f"{name}-{i}" for name, n in found.items() for i in range(n)}


def check_links() -> list[str]:
    """Also that no page of the book leads to a file outside of it, which its HTML would not find."""
    wrong = []
    summary = (DOCS / "SUMMARY.md").read_text(encoding="utf-8")
    listed = LINK.findall(summary)
    wrong += [f"SUMMARY.md lists {name} twice" for name in set(listed) if listed.count(name) > 1]
    for page in pages():
        name = page.relative_to(ROOT)
        if DOCS in page.parents and page.name != "SUMMARY.md" and str(page.relative_to(DOCS)) not in listed:
            wrong.append(f"SUMMARY.md does not list {name}")
        for link in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text(encoding="utf-8")))):
            address, _, anchor = link.partition("#")
            if "://" in address or address.startswith("mailto:"):
                continue
            target = (page.parent / urllib.parse.unquote(address)).resolve() if address else page
            if not target.exists():
                wrong.append(f"{name}: {link} leads nowhere")
            elif DOCS in page.parents and DOCS not in target.parents:
                wrong.append(f"{name}: {link} leads out of the book")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                wrong.append(f"{name}: {link}: the page has no such heading")
    print(f"{len(pages())} pages")
    return wrong


def run_program(prefix: str, page: Path, block) -> str:
    """Compiles and runs one program, and gives back what it printed."""
    # So that the compiler's messages show the page's own lines.
    return compile_and_run(prefix, block.info, f'#line {block.first + 1} "{page}"\n{block.text}\n')


def compile_and_run(prefix: str, language: str, program: str) -> str:
    tool, standard = ("cc", "c11") if language == "c" else ("c++", "c++17")
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "freehold"],
        env={**os.environ, "PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    flags = found.stdout.split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "a.c" if language == "c" else "a.cc")
        source.write_text(program, encoding="utf-8")
        warnings = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
        built = subprocess.run(
            [tool, f"-std={standard}", *warnings, str(source), *flags, "-o", f"{folder}/a"], capture_output=True, text=True
        )
        if built.returncode != 0:
            raise RuntimeError(built.stderr)
        environment = {**os.environ, "LD_LIBRARY_PATH": f"{prefix}/lib"}
        ran = subprocess.run(["./a"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        if ran.returncode != 0:
            raise RuntimeError(f"exit {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return "\n".join(line.rstrip() for line in ran.stdout.rstrip().splitlines())


def check_programs(prefix: str, update: bool) -> list[str]:
    wrong, jobs = [], []
    for page in pages():
        lines = page.read_text(encoding="utf-8").splitlines()
        found = blocks(lines)
        for block, following in zip(found, [*found[1:], None]):
            if block.info in ("c", "cpp"):
                jobs.append((page, block, expected_output(block, following, lines)))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(run_program, prefix, page, block) for page, block, _ in jobs]
    for (page, block, output), future in reversed([*zip(jobs, futures)]):
        where = f"{page.relative_to(ROOT)}:{block.first}"
        try:
            got = future.result()
        except (RuntimeError, subprocess.SubprocessError) as error:
            wrong.append(f"{where}: {error}")
            continue
        if output is None:
            if got:
                wrong.append(f"{where}: prints what the page does not show:\n{got}")
        elif update and got != output.text:
            lines = page.read_text(encoding="utf-8").splitlines()
            lines[output.first : output.last] = got.splitlines()
            page.write_text("\n".join(lines) + "\n", encoding="utf-8")
        elif not matches(output.text, got):
            wrong.append(f"{where}: the page shows\n{output.text}\nbut the program prints\n{got}")
    print(f"{len(jobs)} programs")
    if not jobs:
        wrong.append("no program was found")
    return wrong


def samples() -> list[tuple[Path, int, str]]:
    """The \\code blocks of the headers: the page, the first line, the text without the comment's stars."""
    found = []
    for page in sorted((ROOT / "include" / "freehold").glob("*.h*")):
        first, lines = None, []
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            text = re.sub(r"^ *\* ?", "", line)
            if text.strip() in ("\\code", "@code"):
                first, lines = number + 1, []
            elif text.strip() in ("\\endcode", "@endcode"):
                found.append((page, first, "\n".join(lines)))
                first = None
            elif first is not None:
                lines.append(text)
    return found


def check_samples(prefix: str) -> list[str]:
    """A header's sample stands in the frame of the header's name: declarations before it, what must hold after it."""
    wrong, seen = [], set()
    found = samples()
    for page, first, text in found:
        language = "c" if page.suffix == ".h" else "cpp"
        frame = FRAMES / f"{page.name}.{'c' if language == 'c' else 'cc'}"
        where = f"{page.relative_to(ROOT)}:{first}"
        if page.name in seen or not frame.exists():
            wrong.append(f"{where}: no frame for this sample: {frame.relative_to(ROOT)} has one")
            continue
        seen.add(page.name)
        before, after = frame.read_text(encoding="utf-8").split("/* sample */\n")
        back = before.count("\n") + 2
        program = f'{before}#line {first} "{page}"\n{text}\n#line {back} "{frame}"\n{after}'
        try:
            compile_and_run(prefix, language, program)
        except (RuntimeError, subprocess.SubprocessError) as error:
            wrong.append(f"{where}: {error}")
    wrong += [f"{frame}: no sample for this frame" for frame in FRAMES.iterdir() if frame.stem not in seen]
    print(f"{len(found)} samples of headers")
    if not found:
        wrong.append("no sample was found")
    return wrong


class Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.update(v for v in (values.get("id"), values.get("name") if tag == "a" else None) if v)
        for key in ("href", "src"):
            if values.get(key):
                self.links.append(values[key])


def check_site(folder: Path) -> list[str]:
    folder = folder.resolve()
    read: dict[Path, Page] = {}

    def page(path: Path) -> Page:
        if path not in read:
            read[path] = Page(path.read_text(encoding="utf-8", errors="replace"))
        return read[path]

    wrong, links = [], 0
    for path in sorted(folder.rglob("*.html")):
        # rustdoc checks its own links (rustdoc::broken_intra_doc_links), and its pages lead to each other by script. The 404
        # page is for a server, whose root it names.
        if "rust" in path.relative_to(folder).parts[:1] or path.name == "404.html":
            continue
        for link in set(page(path).links):
            address, _, anchor = link.partition("#")
            if re.match(r"[a-z+]+:|//", address):
                continue
            links += 1
            target = (path.parent / urllib.parse.unquote(address.split("?")[0])).resolve() if address else path
            name = path.relative_to(folder)
            if target.is_dir():
                target /= "index.html"
            if folder not in target.parents and target != folder:
                wrong.append(f"{name}: {link} leads out of the site")
            elif not target.exists():
                wrong.append(f"{name}: {link} leads nowhere")
            elif target == path and "c" in name.parts[:1]:
                continue  # Doxygen's own summary line, which names sections that it leaves out
            elif anchor and target.suffix == ".html" and urllib.parse.unquote(anchor) not in page(target).ids:
                wrong.append(f"{name}: {link}: the page has no such anchor")
    print(f"{len(read)} HTML pages, {links} links")
    return wrong


def main(arguments: list[str]) -> int:
    match [a for a in arguments if a != "--update"]:
        case ["links"]:
            wrong = check_links()
        case ["programs", prefix]:
            wrong = check_programs(prefix, "--update" in arguments)
        case ["samples", prefix]:
            wrong = check_samples(prefix)
        case ["site", folder]:
            wrong = check_site(Path(folder))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
