"""What a run on a GPU found, as a page: report.py RESULTS [FOLDER] prints it, or writes FOLDER/DATE-CARD.md.

Measurements are lines of JSON that steps print. A row has a table, a name and a value for each contestant:

    {"table": "host to device", "row": "256 MiB", "unit": "GB/s", "values": {"PyTorch": 12.1, "Freehold": 41.0}}

A claim is a figure that the project asks of itself; `ASKED` has what it should be:

    {"claim": "pinned-h2d", "value": 0.99, "of": "54.9 of 55.2 GB/s"}

Rows of any other shape are shown as they are.
"""

import json
import re
import sys
from pathlib import Path

LEAST, MOST = "at least", "at most"
# What is asked by name: in words, which way, and how much.
ASKED = {
    "pinned-h2d": ("page-locked host to device, over the driver's own rate", LEAST, 0.95),
    "pinned-d2h": ("device to page-locked host, over the driver's own rate", LEAST, 0.95),
    "pageable-h2d": ("pageable host to device, over page-locked", LEAST, 0.7),
    "pageable-h2d-torch": ("pageable host to device, over PyTorch's", LEAST, 2.0),
    "cast": ("cast on the device, over a copy on the device (bytes read and written)", LEAST, 0.85),
    "cast-torch": ("cast on the device, over PyTorch's", LEAST, 1.0),
    "transpose": ("transpose on the device, over a copy on the device", LEAST, 0.85),
    "transpose-torch": ("transpose on the device, over PyTorch's", LEAST, 1.0),
    "strided-cast-h2d": ("time of a strided cast from host to device, over that of the narrow contiguous copy", MOST, 1.2),
    "pool-1000": ("the pool: a hit and a free with 1 000 live blocks, in ns", MOST, 100),
    "pool-100000": ("the pool: a hit and a free with 100 000 live blocks, in ns", MOST, 100),
    "pool-async": ("the pool: time over that of cudaMallocAsync and cudaFreeAsync", MOST, 1.0),
}
# What steps show by passing.
SHOWN = {
    "rust": "conformance, transfers and kernels on the real driver",
    "check": "every cast and many layouts on the device, bit for bit as on the host",
    "frameworks": "PyTorch, CuPy and JAX through the Python package",
    "races": "the tests of races, with late streams, fail where the event is left out",
    "memcheck": "compute-sanitizer memcheck is clean",
    "racecheck": "compute-sanitizer racecheck is clean",
}


def number(value):
    if value is None or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def asked(results):
    claims = {}
    for row in results["rows"]:
        if "claim" in row:
            claims.setdefault(row["claim"], []).append(row)
    steps = {step["step"]: step for step in results["steps"]}
    out = ["| asked | aim | found | met |", "|---|---|---|---|"]
    for name, (words, way, aim) in ASKED.items():
        found = claims.pop(name, [])
        if not found:
            out.append(f"| {words} | {way} {aim:g} | not measured | |")
            continue
        # Of several, the worst is shown.
        good = [row for row in found if (row["value"] >= aim if way == LEAST else row["value"] <= aim)]
        worst = (min if way == LEAST else max)(found, key=lambda row: row["value"])
        of = f" ({worst['of']})" if worst.get("of") else ""
        met = "yes" if len(good) == len(found) else "**no**" if not good else f"**{len(good)} of {len(found)}**"
        out.append(f"| {words} | {way} {aim:g} | {number(worst['value'])}{of} | {met} |")
    for name, words in SHOWN.items():
        step = steps.get(name, {"verdict": "skip", "note": "not run"})
        met = {"pass": "yes", "fail": "**no**", "skip": ""}[step["verdict"]]
        out.append(f"| {words} | | {step['note']} | {met} |")
    for name, found in claims.items():
        out += [f"| {name} | | {number(row['value'])} | |" for row in found]
    return out


def tables(results):
    groups = {}
    for row in results["rows"]:
        if "table" in row:
            groups.setdefault((row["table"], row.get("unit", "")), []).append(row)
    out = []
    for (title, unit), rows in groups.items():
        names = list(dict.fromkeys(name for row in rows for name in row["values"]))
        notes = any(row.get("note") for row in rows)
        out += ["", f"### {title}", "", f"| {unit} | {' | '.join(names)} |" + (" |" if notes else "")]
        out.append("|---|" + "---:|" * len(names) + ("---|" if notes else ""))
        for row in rows:
            cells = [number(row["values"].get(name)) for name in names] + ([row.get("note", "")] if notes else [])
            out.append(f"| {row['row']} | {' | '.join(cells)} |")
    return out + others(results)


def others(results):
    """Rows that are neither: a table for each program and each set of figures, as they are."""
    groups = {}
    for row in results["rows"]:
        if "table" not in row and "claim" not in row:
            groups.setdefault((row["step"], *(key for key in row if key != "step")), []).append(row)
    out, last = [], None
    for (step, *keys), rows in groups.items():
        if step != last:
            out += ["", f"### {step}"]
        last = step
        out += ["", f"| {' | '.join(keys)} |", "|---|" + "---:|" * (len(keys) - 1)]
        out += [f"| {' | '.join(number(row[key]) for key in keys)} |" for row in rows]
    return out


def page(results):
    versions = ", ".join(f"{name} {found}" for name, found in results["versions"].items())
    bundle = results["bundle"]
    where = [results.get(key) for key in ("link", "card_memory")]
    driver = f"driver {results['driver']}" if results.get("driver") else "no nvidia-smi"
    out = [f"# {results['card']}, {results['date'][:10]}", ""]
    if not results["is_gpu"]:
        out += ["**Not a GPU**: the driver was one that FREEHOLD_CUDA_LIBRARY named. No figure here is of a device.", ""]
    out += [
        f"Run {results['date']} with Freehold {bundle['version']}, commit {bundle['commit']}, rustc {bundle['rustc']}"
        + (", the quick run." if results["quick"] else "."),
        f"{driver}, {', '.join(filter(None, where))}; {results['cpu']}; {results['system']}.",
        f"{versions}.",
        "",
        "## What is asked",
        "",
        *asked(results),
        "",
        "## Steps",
        "",
        "| step | verdict | time | |",
        "|---|---|---:|---|",
        *[f"| {s['step']} | {s['verdict']} | {s['seconds']} s | {s['note']} |" for s in results["steps"]],
    ]
    measured = tables(results)
    if measured:
        out += ["", "## Measurements", *measured]
    return "\n".join(out) + "\n"


def main(source, folder):
    path = Path(source)
    results = json.loads((path / "results.json" if path.is_dir() else path).read_text(encoding="utf-8"))
    text = page(results)
    if folder is None:
        print(text, end="")
        return
    if not results["is_gpu"]:
        sys.exit("these results are not of a GPU: no file is written")
    card = re.sub(r"[^a-z0-9]+", "-", results["card"].lower()).strip("-")
    file = Path(folder) / f"{results['date'][:10]}-{card}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(file)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None)
