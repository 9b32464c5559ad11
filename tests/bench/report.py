"""Turns measurements (JSON lines on stdin) into the tables of docs/benchmarks.md, between the two marks of their kind.

Usage: report.py PAGE KIND [replace]. With `replace`, only the tables that were measured; the others stay as they are."""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


PACKAGES = {"numpy": "NumPy", "torch": "PyTorch", "apache-tvm-ffi": "tvm-ffi"}
OTHERS = {"jax": "JAX", "tensorflow-cpu": "TensorFlow", "paddlepaddle": "Paddle", "mlx": "MLX", "pyarrow": "PyArrow"}


def versions(packages: dict[str, str]) -> str:
    found = [f"Python {platform.python_version()}"]
    for package, name in packages.items():
        try:
            found.append(f"{name} {version(package)}")
        except PackageNotFoundError:
            pass
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()
    return ", ".join([*found, f"rustc {rustc[1]}" if len(rustc) > 1 else "rustc"])


def human(ns: float) -> str:
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if ns >= 10 * size:
            return f"{ns / size:.1f} {unit}"
    return f"{ns:.0f} ns" if ns >= 100 else f"{ns:.1f} ns"


def machine(what: str) -> list[str]:
    packages = {**PACKAGES, **OTHERS} if what == "python" else PACKAGES
    return [f"Measured on {date.today()}, {cpu()}, {os.cpu_count()} cores, {platform.system()}.", versions(packages) + "."]


def grouped(lines) -> dict[tuple, list[dict]]:
    groups: dict[tuple, list[dict]] = {}
    for line in lines:
        if line.startswith("{"):
            one = json.loads(line)
            groups.setdefault((one["table"], one.get("threads")), []).append(one)
    return groups


def handovers(lines) -> list[str]:
    out = []
    for (title, _), rows in grouped(lines).items():
        first = rows[0]["ns"]
        out += ["", f"### {title}", "", "| | time | ratio |", "|---|---:|---:|"]
        out += [f"| `{row['row']}` | {human(row['ns'])} | {row['ns'] / first:.2f} |" for row in rows]
    return out


def in_c(lines) -> list[str]:
    """As hand-overs; the library's own figures last."""
    lines = list(lines)
    out = handovers(line for line in lines if '"ns"' in line)
    for line in lines:
        if '"size"' in line:
            one = json.loads(line)
            out += ["", f"### C: {one['table']}", "", "| | measured |", "|---|---:|"]
            size, ptx = one["size"] / 1e6, one["ptx"] / 1e6
            out += [f"| size | {size:.2f} MB |", f"| without the CUDA kernels' packed PTX | {size - ptx:.2f} MB |"]
            out += [f"| `dlopen` and the first call | {human(one['load_ns'])} |"]
    return out


def pairs(lines) -> list[str]:
    """Both times of every row; first how many rows Freehold is ahead in, so that nobody has to count."""
    out, ahead, both = [], 0, 0
    for (title, _), rows in grouped(lines).items():
        out += ["", f"### {title}", "", "| from | its own way | time | Freehold | time | ratio |", "|---|---|---:|---|---:|---:|"]
        for row in rows:
            own, ours = row["ns"]
            ratio = "" if own is None else f"{ours / own:.2f}"
            both += own is not None
            ahead += own is not None and ours < own
            cells = [row["row"], f"`{row['own']}`", "refuses" if own is None else human(own)]
            what = f"`{row['ours']}`" + (", a copy" if row["verdict"] == "copy" else "")
            cells += [what, "refuses" if row["verdict"] == "reject" else human(ours), ratio]
            out.append(f"| {' | '.join(cells)} |")
    return ["", f"Freehold is ahead in {ahead} of the {both} rows that have two times.", *out]


def copies(lines) -> list[str]:
    """GB/s read and written; then Freehold over memcpy, and over the better of the two frameworks. Or two times."""
    out = []
    for (title, threads), rows in grouped(lines).items():
        if "ns" in rows[0]:
            one, other = rows[0]["ns"]
            out += ["", f"### {title}", "", f"| ns a copy | {one} | {other} | ratio |", "|---|---:|---:|---:|"]
            for row in rows:
                a, b = row["ns"].values()
                out.append(f"| {row['row']} | {a:.0f} | {b:.0f} | {b / a:.2f} |")
            continue
        out += ["", f"### {title}, {threads} thread{'s' if threads > 1 else ''}", ""]
        if "freehold" not in rows[0]["gbs"]:
            names = list(rows[0]["gbs"])
            out += [f"| GB/s | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
            out += [f"| {row['row']} | " + " | ".join(f"{row['gbs'][n]:.1f}" for n in names) + " |" for row in rows]
            continue
        out += ["| GB/s | memcpy | NumPy | PyTorch | Freehold | / memcpy | / better |", "|---|---:|---:|---:|---:|---:|---:|"]
        for row in rows:
            speed = row["gbs"]
            theirs = [f"{speed[name]:.1f}" if name in speed else "" for name in ("memcpy", "numpy", "torch")]
            better = max(speed["numpy"], speed.get("torch", 0))
            ours = speed["freehold"]
            cells = [*theirs, f"{ours:.1f}", f"{ours / speed['memcpy']:.2f}", f"{ours / better:.1f}"]
            out.append(f"| {row['row']} | " + " | ".join(cells) + " |")
    return out


def size(bytes_: float) -> str:
    return f"{bytes_ / 1e6:.1f} MB" if bytes_ >= 1e6 else f"{bytes_:.0f} B"


def ledger(lines) -> list[str]:
    """What was measured, in its own unit, and what it should be at most or at least."""
    show = {"ns": human, "bytes": size, "ratio": lambda r: f"{r:.2f}"}
    out = []
    for (title, _), rows in grouped(lines).items():
        aims = any(row["aim"] for row in rows)
        out += ["", f"### {title}", "", "| | measured |" + (" aim |" if aims else ""), "|---|---:|" + ("---|" if aims else "")]
        for row in rows:
            (unit,) = show.keys() & row.keys()
            out.append(f"| {row['row']} | {show[unit](row[unit])} |" + (f" {row['aim']} |" if aims else ""))
    return out


def replaced(old: str, new: list[str], when: list[str]) -> str:
    """The page's part with some of its tables measured anew: each says under its title when that was."""
    parts = re.split(r"^### ", old.strip("\n"), flags=re.MULTILINE)
    tables = {part.split("\n", 1)[0]: part for part in parts[1:]}
    for part in re.split(r"^### ", "\n".join(new), flags=re.MULTILINE)[1:]:
        title, rows = part.split("\n", 1)
        tables[title] = "\n".join([title, "", *when, rows])
    return "\n\n### ".join(part.strip("\n") for part in [parts[0], *tables.values()])


def main(page: Path, what: str, some: bool) -> None:
    begin, end = f"<!-- {what} -->", f"<!-- /{what} -->"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(begin, 1)
    old, after = rest.split(end, 1)
    new = {"handovers": handovers, "c": in_c, "python": pairs, "copies": copies, "ledger": ledger}[what](sys.stdin)
    body = replaced(old, new, machine(what)[:1]) if some else "\n".join(machine(what) + new)
    print("\n".join(new) if some else body)
    page.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], "replace" in sys.argv[3:])
