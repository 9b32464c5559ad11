"""What the prompt and notebooks show of tensors, decisions, cards, targets and the ledger."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import freehold as fh
from row_tools import read_only

VOID = {"br"}


class Page(HTMLParser):
    """Well-formed, with its style inside and nothing that runs or is fetched."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.tags = [], [], []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert tag in {"div", "span", "table", "thead", "tbody", "tr", "th", "td", "b", "code", "pre", "br"}, tag
        assert [name for name, _ in attributes if name != "style"] == []
        for _, style in attributes:
            assert "url(" not in style and "expression" not in style
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def page(x):
    html = x._repr_html_()
    assert len(html) < 30_000
    return Page(html)


def test_b31_a43_the_repr_of_a_decision_has_dtypes_shapes_and_both_devices():
    a = np.zeros((2, 3))
    assert repr(fh.plan(a, "torch")) == "fh.Decision(f64[2,3] numpy cpu -> f64[2,3] torch cpu: share: HT01)"
    cast = fh.plan(a.T, "torch", dtype="float32", order="C")
    assert repr(cast).startswith("fh.Decision(f64[3,2] numpy cpu -> f32[3,2] torch cpu: copy (layout, cast) 24 B: ")


def test_a40_the_repr_of_a_refusal_says_what_was_asked():
    with pytest.raises(fh.BoundaryError) as refused:
        fh.share(read_only(np.zeros(3)), "torch")
    assert repr(refused.value.decision).startswith("fh.Decision(share(f64[3] numpy cpu ro -> torch): reject (fresh): RO01")
    with pytest.raises(fh.BoundaryError) as refused:
        fh.convert(np.array(["a"], dtype=object), "torch")
    assert "convert(object[1] numpy" in repr(refused.value.decision) and "DT01" in repr(refused.value.decision)


def test_the_repr_of_a_tensor_names_source_device_and_buffer():
    a = np.zeros((2, 3), dtype="float32")
    t = fh.share(read_only(a))
    number = fh.ledger.owner(t)["id"]
    assert repr(t) == f"fh.Tensor(f32[2,3] numpy cpu ro, buffer #{number})"
    with t:
        pass
    assert repr(t) == "fh.Tensor(given back)" and page(t).words == "fh.Tensor(given back)"


def test_html_of_a_tensor_has_its_owner_and_holders():
    a = np.arange(6.0).reshape(2, 3)
    t = fh.share(a)
    held = fh.share(t, "torch")
    words = page(t).words
    assert "(2, 3), strides (3, 1)" in words and "float64, 48 B" in words and f"{t.data_ptr:#x}, writable" in words
    assert "owned by numpy f64[2,3]" in words and "held by torch f64[2,3] share from" in words
    del held


def test_html_of_a_decision_has_verdict_cost_reasons_and_fixes():
    a = np.zeros((2, 3))
    words = page(fh.plan(a, "torch", dtype="float32")).words
    assert words.startswith("copy fh.Decision(f64[2,3]") and "24 B, allocates 24 B" in words and "CA01" in words
    refused = fh.plan(a[::-1], "torch", copy=False)
    words = page(refused).words
    assert words.startswith("reject") and "ST01" in words and 'fh.convert(x, "torch")' in words
    assert page(fh.plan(a, "torch")).words.startswith("share")


def test_html_of_cards_has_what_the_text_has():
    a = np.zeros((4, 4))
    card = fh.explain(a[::2])
    words = page(card).words
    for line in str(card).splitlines():
        assert " ".join(line.split()) in words
    both = fh.explain(a[::2], a)
    assert " ".join(str(both).split()) == page(both).words
    assert page(fh.plan(a, "torch").explain()).words.startswith("f64[4,4] numpy cpu")
    assert page(fh.ledger.report()).words.startswith("freehold ledger")


def test_html_of_targets_has_a_row_for_each():
    found = fh.targets()
    words = page(found).words
    for entry in found.values():
        assert entry.name in words and (not entry.installed or entry.version in words)
    assert page(found).tags.count("tr") == len(found) + 1


def test_html_of_the_ledger_shows_what_is_live_and_is_small_however_much_that_is():
    few = [np.zeros(10) for _ in range(3)]
    shares = [fh.share(a, "torch") for a in few]
    words = page(fh.ledger).words
    assert words.startswith("fh.ledger(level=2") and "numpy f64[10]" in words and "torch f64[10] share from numpy" in words
    # The pairs that were handed over most: in a suite that ran before, others may be.
    assert " → " in words
    shares += [fh.share(np.zeros(10), "torch") for _ in range(60)]
    html = fh.ledger._repr_html_()
    assert len(html) < 40_000 and re.search(r"and \d+ smaller", html)
    Page(html)


def test_html_is_escaped():
    class Evil(np.ndarray):
        pass

    Evil.__module__, Evil.__name__, Evil.__qualname__ = "<script>alert(1)</script>", "<b>x", "<b>x"
    a = np.zeros(3).view(Evil)
    a.flags.writeable = False
    with pytest.raises(fh.BoundaryError) as refused:
        fh.share(a, "torch")
    for shown in (fh.share(a), refused.value.decision, fh.ledger, fh.explain(a)):
        assert "<script>" not in shown._repr_html_()
        page(shown)
    assert "&lt;script&gt;" in fh.explain(a)._repr_html_() or "script" not in str(fh.explain(a))


def test_no_colour_of_text_is_set_where_the_page_decides():
    """Light or dark, the page's own colour of text is used; only white on a dark pill is not."""
    t = fh.share(torch.zeros(3))
    for shown in (t, fh.plan(t, "numpy"), fh.targets(), fh.ledger, fh.explain(t)):
        for style in re.findall(r'style="([^"]*)"', shown._repr_html_()):
            colours = re.findall(r"(?:^|;)color:([^;]*)", style)
            assert colours in ([], ["#fff"], ["inherit"]) and (colours != ["#fff"] or "background:#" in style)
