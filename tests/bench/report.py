"""Turns measurements (JSON lines on stdin) into the tables of docs/benchmarks.md, between its two marks."""

import json
import os
import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package, name in (("numpy", "NumPy"), ("torch", "PyTorch"), ("apache-tvm-ffi", "tvm-ffi")):
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
    return f"{ns:.0f} ns"


def tables(lines) -> str:
    grouped: dict[str, list[dict]] = {}
    for line in lines:
        if line.startswith("{"):
            one = json.loads(line)
            grouped.setdefault(one["table"], []).append(one)
    out = [f"Measured on {date.today()}, {cpu()}, {os.cpu_count()} cores, {platform.system()}.", versions() + "."]
    for title, rows in grouped.items():
        first = rows[0]["ns"]
        out += ["", f"### {title}", "", "| | time | ratio |", "|---|---:|---:|"]
        out += [f"| `{row['row']}` | {human(row['ns'])} | {row['ns'] / first:.2f} |" for row in rows]
    return "\n".join(out)


def main(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    body = tables(sys.stdin)
    print(body)
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
