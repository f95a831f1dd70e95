"""report.html in a real browser: no complaint, no request, readable on a phone, and its script works."""

import base64
import json
import time

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser
from report_pages import report, rows

from src.labels import CITYSCAPES
from src.report.best_and_worst import indexed_png
from src.report.comparison_page import render_comparison
from src.report.page import Report, render
from src.report.reference_scores import PUBLISHED

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium, chromium-browser or google-chrome on PATH")

HOSTILE = "</script><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(2)>\"'"
COLORS = [label.color for label in CITYSCAPES.train_labels]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """All sections, with names that would like to be more than names."""
    number = len(COLORS)
    matrix = np.random.default_rng(0).integers(0, 900, (number, number)) + 20_000 * np.eye(number, dtype=int)
    matrix[2, 5] = 12_345
    names = list(CITYSCAPES.class_names)
    names[3], names[4] = HOSTILE, "w" * 200
    metrics = {
        "mIoU": 0.5,
        "IoU": {name: 1 - index / 40 for index, name in enumerate(names)} | {names[7]: None},
        "classes": names,
        "confusion_matrix": matrix.tolist(),
        "split": "val",
        HOSTILE: HOSTILE,
        "comparison": [
            {"model": HOSTILE, "mIoU": 0.5, "a long column of its own": 1, "another one": "x" * 60}
        ]
        * 2,
    }
    rows = [
        {"step": str(s), "epoch": str(s // 10), "train/loss_step": f"{1 / (1 + s)}", "val/mIoU": f"{s / 99}"}
        for s in range(60)
    ]
    report = Report(
        name=HOSTILE * 3,
        task="train",
        metrics=metrics,
        data={"name": "cityscapes"},
        colors=COLORS,
        rows=rows,
        starts=[{"command": HOSTILE * 5, "packages": {"torch": "2"}}] * 2,
        config="x" * 3000,
        images={"worst": [_entry(HOSTILE)], "best": [_entry("bonn"), _entry("n" * 300)], "all": [0.2, 0.5]},
        baseline=PUBLISHED,
        network={"Parameters": 496_306},
        warnings=[HOSTILE],
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report))
    return path


def _entry(name):
    def uri(kind, data):
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    palette = np.full((256, 4), 255, np.uint8)
    palette[:, :3] = CITYSCAPES.colors
    maps = {
        key: uri("png", indexed_png(np.full((60, 120), index, np.uint8), palette))
        for index, key in enumerate(("truth", "prediction", "errors"))
    }
    jpeg = cv2.imencode(".jpg", np.full((60, 120, 3), 90, np.uint8))[1].tobytes()
    return {
        "name": name,
        "mIoU": 0.5,
        "wrong": 0.1,
        "confused": ["road", HOSTILE],
        "image": uri("jpeg", jpeg),
    } | maps


def test_a_comparison_fits_on_a_phone(browser, tmp_path):
    row = {"network": "CGNet", "checkpoint": "runs/train/" + "x" * 60, "mIoU": 0.68, "latency_ms": 12.3}
    path = tmp_path / "report.html"
    path.write_text(render_comparison("several", [row] * 3, {key: key for key in row}))
    browser.requests.clear()
    browser.open(path, width=390)
    assert browser.problems == []
    assert browser.requests == [path.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= 390


def test_a_page_that_loads_itself_again_stays_where_it_was(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render(report(task="train", rows=rows(), unfinished="epoch 1 of 2", reload=1)))
    browser.requests.clear()
    browser.open(path)
    before = browser.value("performance.timeOrigin")
    browser.value("scrollTo({top: 700, behavior: 'instant'})")
    until = time.monotonic() + 20
    while browser.value("performance.timeOrigin") == before:
        assert time.monotonic() < until, "it does not load itself again"
        time.sleep(0.1)
    while browser.value("document.readyState") != "complete":
        time.sleep(0.02)
    assert browser.value("scrollY") == 700
    assert browser.problems == []
    assert set(browser.requests) == {path.resolve().as_uri()}
    browser("Page.navigate", url="about:blank")


def tip(browser):
    return browser.value(
        "document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_complaint_no_request_and_no_overflow(browser, page, width, dark):
    browser.requests.clear()
    browser.open(page, width=width, dark=dark)
    assert browser.problems == []
    asked = [address for address in browser.requests if not address.startswith("data:")]
    assert asked == [page.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.images].every((image) => image.naturalWidth === 120)")
    assert browser.value("document.scripts.length") == 1


def test_the_policy_lets_nothing_in(browser, page):
    """That no request was seen is worth something only if one would have been stopped, and seen."""
    browser.open(page)
    browser.value("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )
    browser.value("fetch('http://127.0.0.1:9/').catch(() => 0)")
    assert len([text for text in browser.problems if "Content Security Policy" in text]) >= 3
    assert browser.value("window.ran === undefined")
    browser.problems.clear()


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(browser, page, dark):
    """Contrast of at least 4.5 to 1 by the rule of WCAG 2.1, wherever text stands on a plain background."""
    browser.open(page, dark=dark)
    low = browser.value(
        """(() => {
          const parse = (color) => color.match(/[\\d.]+/g).map(Number);
          const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (e) => {
            for (; e; e = e.parentElement) {
              const c = parse(getComputedStyle(e).backgroundColor);
              if (c.length < 4 || c[3] === 1) return c;
            }
            return [255, 255, 255];
          };
          const found = [];
          const check = (e, ink, paper) => {
            const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            if (ratio < 4.5) found.push([e.textContent.slice(0, 30), ratio]);
          };
          for (const e of document.querySelectorAll("body *:not(svg *):not(script)")) {
            const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
            if (own && e.offsetParent) check(e, parse(getComputedStyle(e).color), behind(e));
          }
          const paper = parse(getComputedStyle(document.body).backgroundColor);
          for (const e of document.querySelectorAll("svg text")) {
            let under = paper;
            if (e.matches(".in, .out")) {
              const cell = e.previousElementSibling, o = Number(cell.getAttribute("fill-opacity"));
              const heat = parse(getComputedStyle(cell).fill);
              under = heat.map((v, i) => o * v + (1 - o) * paper[i]);
            }
            check(e, parse(getComputedStyle(e).fill), under);
          }
          return found;
        })()"""
    )
    assert low == []


def test_curves_are_read_with_the_mouse_and_with_keys(browser, page):
    browser.open(page)
    browser.move_to(".chart[data-series]", across=0.99, down=0.5)
    assert tip(browser).splitlines()[:2] == ["step 59, epoch 6", "training, single steps: 0.016667"]
    browser.value("document.querySelector('.chart').focus()")
    browser.press("ArrowLeft")
    assert tip(browser).startswith("step 58, epoch 6")
    browser.press("Escape")
    assert tip(browser) is None


def test_the_matrix_says_what_a_cell_is(browser, page):
    browser.open(page)
    matrix = json.loads(browser.value("document.querySelector('.matrix').dataset.matrix"))
    browser.value(
        "[...document.querySelectorAll('.matrix rect.heat:not(.hit)')]"
        ".find((cell) => cell.getAttribute('fill-opacity') > 0.4).id = 'large'"
    )
    browser.move_to("#large")
    share = f"{100 * 12345 / sum(matrix[2]):.5g}"
    assert tip(browser) == f"building taken for pole\n{share} % of the truth\n12,345 pixels"
    browser.value("document.querySelector('.matrix').focus()")
    browser.press("ArrowDown")
    assert tip(browser).startswith(f"{HOSTILE} taken for pole")
    assert browser.value("document.querySelectorAll('#tip *').length") == 0
    browser.move_to("h1")
    assert tip(browser) is None


def test_views_of_an_image_switch_alone_and_together(browser, page):
    browser.open(page)
    shown = (
        "[...document.querySelectorAll('.shot')].map((shot) => [...shot.querySelectorAll('.layer')]"
        ".filter((e) => getComputedStyle(e).visibility === 'visible').map((e) => e.classList[1]).join())"
    )
    assert browser.value(shown) == ["prediction"] * 3
    browser.value("document.querySelector('.shot input[value=errors]').click()")
    assert browser.value(shown) == ["errors", "prediction", "prediction"]
    browser.value("document.querySelector('#all-images input[value=truth]').click()")
    assert browser.value(shown) == ["truth"] * 3
    browser.value("document.querySelector('#all-images input[value=image]').click()")
    assert browser.value(shown) == [""] * 3
    browser.value(
        "(() => { const s = document.getElementById('strength'); s.value = 20; "
        "s.dispatchEvent(new Event('input')); })()"
    )
    browser.value("document.querySelector('#all-images input[value=prediction]').click()")
    assert browser.value("getComputedStyle(document.querySelector('.prediction')).opacity") == "0.2"


def test_classes_are_sorted_by_iou_and_back(browser, page):
    browser.open(page)
    names = "[...document.querySelectorAll('.classes tbody th')].map((e) => e.textContent)"
    before = browser.value(names)
    browser.value("document.querySelector('input[name=order][value=value]').click()")
    assert browser.value(names) == [*before[:7], *before[8:], before[7]]
    browser.value("document.querySelector('input[name=order][value=order]').click()")
    assert browser.value(names) == before


def test_everything_that_can_be_used_is_reached_by_tab(browser, page):
    browser.open(page)
    reached = set()
    for _ in range(40):
        browser.press("Tab")
        reached.add(
            browser.value("document.activeElement.className.baseVal ?? document.activeElement.name ?? ''")
        )
    assert {"chart", "matrix", "order", "all", "view-0", "view-2"} <= reached


def test_it_can_be_printed(browser, page):
    browser.open(page)
    browser("Emulation.setEmulatedMedia", media="print")
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.value("getComputedStyle(document.querySelector('.shot .views')).display") == "none"
    assert len(browser("Page.printToPDF")["data"]) > 10_000
    browser("Emulation.setEmulatedMedia", media="")
