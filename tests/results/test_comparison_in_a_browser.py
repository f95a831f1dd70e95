"""comparison.html in a real browser: no complaint, no request, and images to switch between networks."""

from dataclasses import replace

import numpy as np
import pytest
from browser import CHROMIUM, Browser

from src.labels import CAMVID
from src.report.best_and_worst import encode
from src.results.differing_images import Picture
from src.results.grouping import Comparison, Setting
from src.results.runs import RunResult
from src.results.sweep_page import render_sweep

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium, chromium-browser or google-chrome on PATH")

CLASSES = list(CAMVID.class_names)
HOSTILE = "model.x='</style></script><img src=http://127.0.0.1:9/x onerror=alert(2)>\"'"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture
def page(tmp_path):
    """Ten settings, more than there are colours, with two seeds each."""
    settings = []
    for number in range(10):
        runs = []
        for seed in (1, 2):
            directory = tmp_path / f"{number}-{seed}"
            directory.mkdir()
            rows = [f"{epoch},{10 * epoch},{0.05 * epoch + number / 100}\n" for epoch in range(5)]
            (directory / "metrics.csv").write_text("epoch,step,val/mIoU\n" + "".join(rows))
            scores = {"mIoU": 0.5 + number / 100, "IoU": dict.fromkeys(CLASSES, 0.5) | {CLASSES[2]: None}}
            metrics = scores | {"classes": CLASSES, "data": "camvid", "split": "val", "num_images": 2}
            runs.append(RunResult(directory, (f"x={number}",), seed, metrics=metrics))
        settings.append(Setting(f"x={number}", (f"x={number}",), tuple(runs)))
    settings[1] = replace(settings[1], label=HOSTILE)
    comparison = Comparison(tuple(settings), ("experiment=camvid_paper",), settings[0])
    rng = np.random.default_rng(0)
    image, target = rng.integers(0, 256, (3, 36, 48), np.uint8), rng.integers(0, 11, (36, 48), np.uint8)
    entries = [encode("first", image, target, (target + n) % 11, CAMVID) for n in (1, 2)]
    views = [entry["prediction"] for entry in entries]
    picture = Picture(HOSTILE, entries[0]["image"], entries[0]["truth"], views, [0.3, 0.6])
    path = tmp_path / "comparison.html"
    colors = [label.color for label in CAMVID.train_labels]
    path.write_text(render_sweep(HOSTILE, comparison, colors, settings[:2], [picture]))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_shows_one_network_and_then_the_other(browser, page, width, dark):
    browser.requests.clear()
    browser.open(page, width=width, dark=dark)
    assert browser.problems == []
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert asked == [page.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    visible = "getComputedStyle(e).visibility == 'visible'"
    shown = f"[...document.querySelectorAll('.layer')].map((e) => {visible})"
    assert browser.value(shown) == [False, True, False]  # truth, A, B
    browser.value("document.querySelector('.shot input[value=network1]').click()")
    assert browser.value(shown) == [False, False, True]
    browser.value("document.querySelector('#all-images input[value=truth]').click()")
    assert browser.value(shown) == [True, False, False]
    assert browser.value("document.querySelectorAll('.chart .line').length") == 20
    assert browser.value("document.querySelectorAll('.keys .key').length") == 9  # eight colours, the others
    browser.move_to(".chart", 0.5)
    tip = browser.value("document.getElementById('tip').textContent")
    assert tip.startswith("step 20, epoch 3\nx=0, seed 1: 10\n")
