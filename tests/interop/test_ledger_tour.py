"""docs/examples/ledger_tour.py makes four mistakes, and the report and the page name each with the line to change."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "docs" / "examples" / "ledger_tour.py"
LINES = TOUR.read_text(encoding="utf-8").splitlines()


def place(part):
    """The place of the line of the tour that has this in it."""
    (number,) = (i for i, line in enumerate(LINES, 1) if part in line)
    return f"ledger_tour.py:{number}"


COPY = place('fh.convert(features, "torch"')
LEAK = place('tensor = fh.share(batch, "torch")')
WRITE = place("lent = fh.share(window, freeze=True)")
PIN = place('preview = fh.share(recording[0, :10], "torch")')


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    page = tmp_path_factory.mktemp("tour") / "tour.html"
    done = subprocess.run([sys.executable, str(TOUR), str(page)], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout, page.read_text(encoding="utf-8")


def paragraph(report, heading):
    """The lines below a heading, as far as the next empty one."""
    return re.search(rf"^{heading}.*\n((?:.+\n)+)", report, re.MULTILINE)[1]


def test_the_report_names_all_four(tour):
    report, _ = tour
    copies = paragraph(report, "copies").splitlines()
    assert "64.0 MiB  numpy -> torch" in copies[0] and "CA01" in copies[0] and COPY in copies[0]
    assert "->" in copies[1] and "dtype" in copies[1], "what would have shared"
    lent = paragraph(report, "still lent")
    assert "4.0 MiB in 4 buffers" in lent and LEAK in lent and "4 since the last mark" in lent
    hazards = paragraph(report, "hazards")
    assert "AL01" in hazards and "changed while lent" in hazards and WRITE in hazards
    pinned = paragraph(report, "small views of large buffers")
    assert "views of 40 B keep 95.4 MiB" in pinned and PIN in pinned and "fh.copy(view" in pinned


def test_the_page_names_all_four(tour):
    _, page = tour
    ledger = json.loads(re.search(r'<script type="application/json" id="ledger">(.*?)</script>', page)[1])
    findings = ledger["findings"]
    (copy,) = (group for group in findings["copies"] if group["bytes"] == 64 << 20)
    assert copy["site"].endswith(COPY) and copy["reasons"] == ["CA01"] and "dtype" in copy["fix"]
    (leak,) = (lent for lent in findings["lent"] if lent["site"].endswith(LEAK))
    assert (leak["count"], leak["since_mark"], leak["bytes"]) == (4, 4, 4 << 20)
    (hazard,) = ledger["hazards"]
    assert hazard["code"] == "AL01" and hazard["holders"][0]["site"].endswith(WRITE)
    (pin,) = findings["pinned"]
    assert pin["used_bytes"] == 40 and pin["len"] == 100_000_000 and pin["holders"][0]["site"].endswith(PIN)
    peak = findings["peak"]
    assert peak["exact"] and peak["bytes"] >= (128 + 64) << 20
