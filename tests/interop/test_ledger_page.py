"""The ledger's page in a real browser: clicks, sliders, search, keys, a hundred thousand events, and hostile names."""

import base64
import json
import os
import pickle
import shutil

import numpy as np
import pytest

import freehold as fh
from ledger_synthetic import HOSTILE, snapshot

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here (apt: chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's sandbox does not start for root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


class Page:
    """A page that is open, and what tests ask of it."""

    def __init__(self, browser, path):
        self.browser = browser
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.get(path.as_uri())
        assert self.js("return document.documentElement.dataset.ready") == "yes"

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def keys(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()
        self.drawn()

    def drawn(self):
        """Waits until what was asked for is on the canvas."""
        self.browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def errors(self):
        return [entry for entry in self.browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


@pytest.fixture
def opened(browser, tmp_path):
    pages = []

    def open_(data=None):
        path = tmp_path / f"page{len(pages)}.html"
        if data is None:
            fh.ledger.save(path)
        else:
            fh._freehold._save_again(json.dumps(data), path)
        pages.append(Page(browser, path))
        return pages[-1]

    yield open_
    for page in pages:
        assert page.errors() == []


@pytest.fixture
def three():
    """Three buffers: one shared, one copied from it, one pinned by a small view."""
    level, fh.ledger.level = fh.ledger.level, 3
    shared = np.arange(600, dtype="float32").reshape(20, 30)
    large = np.zeros((1000, 1000))
    held = [fh.share(shared, "torch"), fh.convert(shared.T, "torch", order="C"), fh.share(large[0, :8], "torch")]
    yield shared, large
    held.clear()
    fh.ledger.level = level


def test_three_buffers_are_read_at_a_glance(opened, three):
    page = opened()
    assert "pin 7.6 MiB" in page.text("#findings") and "test_ledger_page.py:" in page.text("#findings")
    assert "buffers" in page.text("#summary")
    assert page.js("return performance.getEntriesByType('resource').length") == 0, "nothing comes from a network"
    assert page.js("return FH.lanes.filter((lane) => lane.closed_ns === null).length") == len(fh.ledger.live())
    label = page.find("#bytes").get_attribute("aria-label")
    assert "Live bytes over" in label and "MiB" in label


def test_a_click_on_a_bar_shows_its_buffer(opened, three, tmp_path):
    from selenium.webdriver import ActionChains

    fh.ledger.save(tmp_path / "three.json")
    data = json.loads((tmp_path / "three.json").read_text())
    # What other tests of this process left would have lanes and lines of its own: only what lives, and no hazards.
    data["history"] = {"closed": [], "lanes": [], "dropped": 0}
    data["hazards"] = []
    page = opened(data)
    # The pinned buffer is live to the right edge.
    top = page.js(
        "const lane = FH.lanes.find((lane) => lane.pinned && lane.closed_ns === null && lane.frameworks.includes('torch'));"
        "const box = document.getElementById('lanes'); box.scrollIntoView({ block: 'center' }); box.scrollTop = lane.top;"
        "return lane.top - box.scrollTop"
    )
    page.drawn()
    canvas = page.find("#bars")
    x, y = canvas.size["width"] // 2 - 40, int(top) + 12 - canvas.size["height"] // 2
    ActionChains(page.browser).move_to_element_with_offset(canvas, x, y).click().perform()
    assert page.text("#panel-heading").startswith(("Buffer #", "A buffer"))
    assert "torch" in page.text("#panel-body")
    nodes = page.all("#panel svg .node")
    assert len(nodes) >= 3 and all(node.get_attribute("aria-label") for node in nodes)
    assert "share" in page.text("#panel svg")
    page.js("arguments[0].dispatchEvent(new MouseEvent('click', { bubbles: true }))", nodes[0])
    assert page.all("#panel .holder.current")


def test_a_pointer_is_found_and_escape_clears(opened, three):
    from selenium.webdriver import Keys

    page = opened()
    shared, large = three
    buffer = fh.ledger.owner(shared)["id"]
    page.keys("/")
    assert page.js("return document.activeElement.id") == "search"
    page.keys(hex(shared.ctypes.data + 4), Keys.ENTER)
    assert page.text("#panel-heading") == f"Buffer #{buffer}"
    assert page.text("#search-result").startswith("1 of ")
    assert f"buffer #{buffer}" in page.text("#status")
    page.keys(Keys.ESCAPE)
    assert page.text("#panel-heading") == "Nothing is selected"
    for words, found in ((f"#{fh.ledger.owner(large)['id']}", "1 of"), ("TORCH", "1 of"), ("0x10", "nothing"), ("test_ledger_page", "1 of")):
        page.keys("/")
        page.keys(words, Keys.ENTER)
        assert page.text("#search-result").startswith(found), words
        page.keys(Keys.ESCAPE)


def test_sliders_choose_what_is_shown(opened, three):
    from selenium.webdriver import ActionChains, Keys

    page = opened()
    start = page.find("#from")
    start.send_keys(*[Keys.ARROW_RIGHT] * 300)
    assert page.js("return FH.state.from") == pytest.approx(0.3)
    assert "event" in start.get_attribute("aria-valuetext")
    end = page.find("#to")
    before = page.js("return FH.state.to")
    ActionChains(page.browser).move_to_element_with_offset(end, end.size["width"] // 2 - 6, 0).click_and_hold().move_by_offset(-200, 0).release().perform()
    page.drawn()
    assert 0.3 < page.js("return FH.state.to") < before
    end.send_keys(Keys.HOME)
    assert page.js("return FH.state.from < FH.state.to"), "the handles do not cross"
    page.find("input[value=time]").click()
    assert "from the start" in page.find("#from").get_attribute("aria-valuetext")


def test_the_keyboard_steps_events_and_buffers(opened, three):
    from selenium.webdriver import Keys

    page = opened()
    page.js("document.getElementById('lanes').focus()")
    page.keys(Keys.ARROW_RIGHT)
    assert page.text("#status").startswith("Event 1 of ")
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert page.text("#status").startswith("Event 2 of ")
    page.keys(Keys.HOME)
    first = page.text("#panel-heading")
    page.keys(Keys.ARROW_DOWN)
    assert page.js("return FH.state.lane !== null && FH.state.holder === null")
    page.keys(Keys.ARROW_UP)
    assert page.text("#panel-heading") == first
    page.keys(Keys.ENTER)
    assert page.js("return document.activeElement.id") == "panel"


def test_tabs_have_rows_that_lead_to_buffers(opened, three):
    from selenium.webdriver import Keys

    page = opened()
    tabs = page.all("[role=tab]")
    names = [tab.text for tab in tabs]
    for title in ("Copies you could avoid", "Still lent", "Pinned by small views", "Never consumed", "Hazards", "All holders"):
        assert any(name.startswith(title) for name in names), title
    for tab in tabs:
        tab.click()
        assert [t.get_attribute("aria-selected") for t in tabs].count("true") == 1 and tab.get_attribute("aria-selected") == "true"
        assert page.text("#tabpanel").strip()
    next(tab for tab in tabs if tab.text.startswith("Pinned")).click()
    assert "fh.copy(view" in page.text("#tabpanel")
    page.find("#tabpanel .go").click()
    assert page.text("#panel-heading").startswith("Buffer #") and page.all("#tabpanel tr.current")
    page.find("[role=tab][aria-selected=true]").send_keys(Keys.ARROW_RIGHT)
    assert page.js("return document.activeElement.textContent").startswith("Never consumed")
    tabs[-1].click()
    size = page.js("return [...document.querySelectorAll('#tabpanel th button')].find((b) => b.textContent === 'Size')")
    size.click()
    assert page.find("th[aria-sort=descending]").text.startswith("Size")


def test_the_buttons_hand_on_the_other_formats(opened, three):
    page = opened()
    page.js("""
        window.blobs = []; window.copied = null; window.sent = [];
        URL.createObjectURL = (blob) => { blobs.push(blob); return "#"; };
        Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { window.copied = text; } } });
        window.perfetto = { postMessage: (data, origin) => sent.push([data, origin]) };
        window.open = (url) => (url === "https://ui.perfetto.dev" ? perfetto : null);
    """)
    page.find("#to-pickle").click()
    bytes_ = page.browser.execute_async_script("""
        const done = arguments[0], reader = new FileReader();
        reader.onload = () => done(reader.result.split(",")[1]);
        reader.readAsDataURL(blobs[0]);
    """)
    assert pickle.loads(base64.b64decode(bytes_))["segments"]
    page.find("#to-mermaid").click()
    page.drawn()
    assert page.js("return copied").startswith("flowchart LR\n") and "<br/>" in page.js("return copied")
    page.find("#to-perfetto").click()
    trace = page.browser.execute_async_script("""
        const done = arguments[0];
        setTimeout(() => {
            dispatchEvent(new MessageEvent("message", { data: "PONG", source: null }));  // not from the window that was opened
            const real = new MessageEvent("message", { data: "PONG" });
            Object.defineProperty(real, "source", { value: perfetto });
            dispatchEvent(real);
            const last = sent[sent.length - 1];
            done([sent[0][0], last[1], new TextDecoder().decode(last[0].perfetto.buffer)]);
        }, 250);
    """)
    assert trace[:2] == ["PING", "https://ui.perfetto.dev"]
    assert json.loads(trace[2])["traceEvents"]


def test_a_hundred_thousand_events_load_and_respond(opened):
    from selenium.webdriver import Keys

    page = opened(snapshot(102_000))
    assert page.js("return FH.events.length") >= 100_000
    assert "of 25,500 buffers" in page.text("#detail-count")
    assert page.find("#to-perfetto").get_attribute("disabled") and "ledger.trace.json" in page.find("#to-perfetto").get_attribute("title")
    page.find("#from").send_keys(*[Keys.ARROW_RIGHT] * 20)
    page.find("#detail").send_keys(Keys.END)
    page.drawn()
    assert page.js("return FH.state.from") == pytest.approx(0.02)
    page.js("document.getElementById('lanes').scrollTop = 1e6")
    page.drawn()
    page.js("document.getElementById('lanes').focus()")
    page.keys(Keys.END)
    assert page.text("#panel-heading") != "Nothing is selected"
    page.keys("/")
    page.keys("0x7f0000000000", Keys.ENTER)
    assert page.text("#search-result").startswith("1 of ")
    page.all("[role=tab]")[-1].click()
    assert len(page.all("#tabpanel tbody tr")) == 200
    next(button for button in page.all("#tabpanel button") if button.text.startswith("Show")).click()
    assert len(page.all("#tabpanel tbody tr")) == 1200


def test_hostile_names_are_text(opened):
    page = opened(snapshot(40, hostile=True))
    for tab in page.all("[role=tab]"):
        tab.click()
    page.js("for (const lane of FH.lanes) for (const holder of lane.holders) FH.select(lane, holder)")
    page.drawn()
    assert page.js("return window.hacked") is None
    assert page.js("return document.querySelectorAll('img').length") == 0
    shown = page.text("#tabpanel")
    assert all(name in shown for name in HOSTILE)
    assert page.find("bdo, body").tag_name == "body"


def test_an_empty_ledger_is_a_page_too(opened):
    empty = snapshot(4)
    empty["buffers"], empty["history"] = [], {"closed": [], "lanes": [], "dropped": 0}
    empty["stats"]["live"] = {"holders": 0, "buffers": 0, "bytes": 0, "by_device": []}
    page = opened(empty)
    assert "Nothing stands out" in page.text("#findings") and "0 buffers" in page.text("#summary")
    assert page.find("#bytes").get_attribute("aria-label") == "No buffer is on record."


def test_both_colour_schemes(opened, three):
    page = opened()
    colours = []
    for scheme in ("light", "dark"):
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        page.drawn()
        colours.append(page.js("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"))
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    (light, ink), (dark, chalk) = ([sum(map(int, c[4:-1].split(","))) for c in pair] for pair in colours)
    assert light > 700 > 100 > ink and dark < 100 < 700 > 600 < chalk


def test_what_a_screen_reader_is_told(opened, three):
    page = opened()
    page.js("FH.select(FH.lanes[0], FH.lanes[0].holders[0])")
    page.browser.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    page.browser.execute_cdp_cmd("Accessibility.disable", {})
    roles = {}
    for node in nodes:
        if not node.get("ignored"):
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("button", "slider", "tab", "searchbox", "radio", "columnheader", "region", "tabpanel"):
        assert roles.get(role) and all(name.strip() for name in roles[role]), (role, roles.get(role))
    assert set(roles) >= {"banner", "main", "search", "complementary", "tablist", "table", "status", "heading"}
