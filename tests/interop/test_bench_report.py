"""The page of benchmarks, when only some of its tables are measured anew."""

import json
import subprocess
import sys
from pathlib import Path

REPORT = Path(__file__).parents[1] / "bench" / "report.py"
PAGE = """# Page
<!-- copies -->
Measured long ago.

### transposes, 1 thread

| old |

### transposes, 2 threads

| kept |
<!-- /copies -->
the end
"""


def report(page, rows, *how):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    done = subprocess.run(
        [sys.executable, REPORT, page, "copies", *how], input=lines, capture_output=True, text=True, check=True
    )
    return done.stdout, page.read_text(encoding="utf-8")


def row(table, threads=1):
    return {"table": table, "row": "x", "threads": threads, "gbs": {"memcpy": 2, "numpy": 1, "torch": 2, "freehold": 3}}


def test_only_the_tables_that_were_measured_are_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert report(page, [], "replace")[1] == PAGE
    printed, text = report(page, [row("transposes"), row("strides")], "replace")
    assert "| old |" not in text and "| kept |" in text and text.endswith("<!-- /copies -->\nthe end\n")
    one, two, three = text.index("### transposes, 1"), text.index("### transposes, 2"), text.index("### strides, 1 thread")
    assert one < two < three
    assert "| x | 2.0 | 1.0 | 2.0 | 3.0 | 1.50 | 1.5 |" in text[one:two]
    assert "Measured on" in text[one:two] and "Measured on" not in text[two:three] and "Measured long ago." in text
    assert "| x |" in printed and "kept" not in printed
    # A whole run leaves nothing behind.
    assert "kept" not in report(page, [row("strides", 2)])[1]
