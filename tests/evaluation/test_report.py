"""report.html as text: what stands on it, what does not, and that nothing gets out of its place."""

import json
import logging
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from src.errors import UserError
from src.evaluation.confusion import scores
from src.evaluation.report.baseline import PUBLISHED, find_baseline
from src.evaluation.report.confusions import most_confused
from src.evaluation.report.html import h, join, share
from src.evaluation.report.page import Report, render
from src.evaluation.report.scale import ticks
from src.evaluation.report.write import write_report
from src.labels import CITYSCAPES
from src.network.cost import parameters_and_gflops
from src.warned import Warned

COLORS = [label.color for label in CITYSCAPES.train_labels]
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\u202e\udcff"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def figures(names=CITYSCAPES.class_names, seed=0, **more):
    number = len(names)
    matrix = np.random.default_rng(seed).integers(1, 1000, (number, number)) + 20_000 * np.eye(
        number, dtype=int
    )
    about = {"num_images": 500, "epoch": 7, "split": "val", "precision": "32-true", "data": "cityscapes"}
    return scores(torch.from_numpy(matrix), names) | about | more


def report(**values):
    given = {
        "name": "a run",
        "task": "eval",
        "figures": figures(),
        "data": {"name": "cityscapes"},
        "colors": COLORS,
    }
    return Report(**(given | values))


def rows(number=30):
    return [
        {
            "epoch": str(i // 10),
            "step": str(i),
            "train/loss_step": f"{3 - i / 20}",
            "lr-Adam": f"{1e-3 / (i + 1)}",
        }
        | ({"val/mIoU": f"{i / 100}", "val/loss": "1.5"} if i % 10 == 9 else {})
        for i in range(number)
    ]


def entry(name="berlin", **values):
    pictures = dict.fromkeys(("image", "truth", "prediction", "errors"), PIXEL)
    return {"name": name, "mIoU": 0.5, "wrong": 0.1, "confused": ["road", "car"]} | pictures | values


class Page(HTMLParser):
    """Elements with their attributes, the text outside of style and script, and headings."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.headings, self._open = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.text += data
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)

    def of(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def test_figures_classes_and_pairs():
    page = Page(render(report(baseline=PUBLISHED, network={"Parameters": 496_306})))
    own = figures()
    assert f"{100 * own['mIoU']:.2f}" in page.text
    for name, iou in own["IoU"].items():
        assert name in page.text
        assert f"{100 * iou:.2f}" in page.text
    assert "95.92" in page.text, "the published road"
    assert "Cityscapes, test" in page.text
    assert "496,306" in page.text
    assert "500 images" in page.text
    assert page.headings == ["IoU per class", "Most confused", "Confusion matrix", "The run"]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for a in page.of("a")} <= set(ids)


def test_everything_at_once_in_the_order_of_reading():
    page = Page(
        render(
            report(
                task="train",
                rows=rows(),
                images={"worst": [entry()], "best": [entry("bonn")], "all": [0.1, 0.5, 0.9]},
                figures=figures(tta="flip", category_IoU={"flat": 0.91234, "void": None}),
                warnings=["trained on what it is judged by"],
                config="data:\n  name: cityscapes",
            )
        )
    )
    assert page.headings == [
        "Warnings", "Training", "IoU per class", "Most confused", "Confusion matrix", "Best and worst images",
        "More figures", "The run",
    ]  # fmt: skip
    assert all(image["alt"] and image["src"].startswith("data:") for image in page.of("img"))
    assert len(page.of("img")) == 8
    assert "road taken for car" in page.text
    assert "trained on what it is judged by" in page.text
    assert "91.23 %" in page.text
    assert "flip" in page.text


def test_the_same_report_gives_the_same_text():
    assert render(report(rows=rows())) == render(report(rows=rows()))


def test_hostile_names_stay_text():
    names = [HOSTILE, *CITYSCAPES.class_names[1:]]
    start = {
        "time": HOSTILE, "command": HOSTILE, "overrides": [HOSTILE], "python": HOSTILE,
        "packages": {HOSTILE: HOSTILE},
        "code": {"revision": HOSTILE, "branch": HOSTILE, "patch": HOSTILE}, "seed": HOSTILE,
        "hardware": {"gpus": [{"name": HOSTILE}], "cpu": HOSTILE},
    }  # fmt: skip
    text = render(
        report(
            name=HOSTILE,
            figures=figures(names, **{HOSTILE: HOSTILE, "split": HOSTILE, "group": {HOSTILE: HOSTILE}}),
            images={"best": [entry(HOSTILE, confused=[HOSTILE, HOSTILE])]},
            starts=[start, start],
            config=HOSTILE,
            warnings=[HOSTILE],
            rows=[
                {"step": HOSTILE, "epoch": HOSTILE},
                *rows(),
                {"step": "50", "epoch": "5", HOSTILE: "1", "lr-Adam": "1"},
            ],
        )
    )
    assert text.encode()
    page = Page(text)
    assert len(page.of("script")) == 1
    assert not [
        a for _, attributes in page.elements for a in attributes if a.startswith("on") or a == "style"
    ]
    assert all(image["src"].startswith("data:image/") for image in page.of("img"))
    assert "\x00" not in text
    assert page.text.count("<script>alert(1)</script>") > 10
    assert json.loads(page.of("svg", **{"class": "matrix"})[0]["data-classes"])[0] == HOSTILE


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/x.png",
        "javascript:alert(1)",
        "data:text/html;base64,AAAA",
        "data:image/svg+xml;base64,AA",
        None,
    ],
)
def test_only_inline_pictures_are_shown(source):
    text = render(report(images={"best": [entry(image=source)], "worst": [entry("bonn")]}))
    assert len(Page(text).of("img")) == 4


def test_nothing_is_asked_from_elsewhere():
    text = render(report(rows=rows(), images={"best": [entry()]}, baseline=PUBLISHED))
    page = Page(text)
    (policy,) = [a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize(
    "part", [{}, {"confusion_matrix": [[0]]}, {"classes": [], "IoU": {}, "confusion_matrix": []}]
)
def test_figures_that_are_missing(part):
    page = Page(render(report(figures={"mIoU": None} | part)))
    assert "\u2013" in page.text
    assert "The run" in page.headings


def test_one_class():
    page = Page(render(report(figures=figures(["road"]))))
    assert page.headings == ["IoU per class", "The run"]


def test_many_classes_stay_a_page():
    text = render(report(figures=figures([f"class {i}" for i in range(255)]), colors=[(0, 0, 0)] * 255))
    assert len(text) < 8e6
    assert "Confusion matrix" in Page(text).headings


def test_unknown_and_absent_ious():
    own = figures()
    own["IoU"] |= {"road": None, "car": float("nan")}
    own["mIoU"] = float("nan")
    own["confusion_matrix"][3] = [0] * 19
    page = Page(render(report(figures=own, baseline=PUBLISHED)))
    assert "nan" not in page.text.lower().replace("finance", "")
    assert page.of("rect", **{"class": "nothing"}), "a class without pixels has a grey row"


def test_names_of_any_length_and_alphabet():
    names = ["w" * 300, "道路", "дорога", "طريق", "🚗"]
    page = Page(render(report(name="街の見本", figures=figures(names), colors=COLORS[:5])))
    for name in names:
        assert name in page.text
    assert "w" * 17 + "…" in page.text, "labels of the matrix are short"


def test_curves_leave_out_what_is_no_number_and_draw_a_single_point():
    odd = [
        {"step": "3", "epoch": "0", "val/mIoU": "0.25", "val/loss": "nan", "train/loss_step": "inf"},
        {"x": "1"},
    ]
    page = Page(render(report(rows=odd)))
    (chart,) = [a for a in page.of("svg") if "data-series" in a]
    assert json.loads(chart["data-series"]) == [{"name": "mIoU", "points": [[350.0, 98.0, 3, 25.0, "1"]]}]
    assert "best 25.00, epoch 1" in page.text
    assert Page(render(report(rows=[]))).headings[0] == "IoU per class"


def test_long_trainings_are_thinned():
    assert len(render(report(rows=rows(60_000)))) < len(render(report())) + 400 * 3 * 120


def test_most_confused_pairs_by_hand():
    by_share, by_pixels = most_confused([[90, 10, 0], [3, 5, 0], [0, 0, 0]])
    assert [(e.truth, e.prediction, e.pixels) for e in by_share] == [(1, 0, 3), (0, 1, 10)]
    assert [(e.truth, e.prediction) for e in by_pixels] == [(0, 1), (1, 0)]
    assert by_share[0].share == pytest.approx(3 / 8)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0.03, 0.59, [0, 0.2, 0.4, 0.6]),
        (5, 5, None),
        (0, 0, None),
        (1e-9, 3e-9, None),
        (-2, 7, None),
    ],
)
def test_ticks_are_round_and_cover_the_values(low, high, expected):
    found = ticks(low, high)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 8
    if expected and len(found) == len(expected):
        assert found == pytest.approx(expected)


def test_shares_in_words():
    assert [share(e) for e in (1, 0.9999, 0.341, 0.0123, 0.00321, 0.00001, 0, None)] == [
        "100 %", "100 %", "34.1 %", "1.2 %", "0.32 %", "< 0.01 %", "0 %", "\u2013",
    ]  # fmt: skip


def test_markup_is_escaped_once():
    assert join(h("b", "<&>"), "<", None, False, [h("i"), "'"]) == "<b>&lt;&amp;&gt;</b>&lt;<i></i>&#x27;"
    assert h("input", value='"', checked=True, hidden=False, data_x=1.50) == (
        '<input value="&quot;" checked data-x="1.5">'
    )


def test_baselines(tmp_path):
    cityscapes, street = {"labels": "cityscapes"}, {"labels": "cityscapes", "street": {"train": 1}}
    assert find_baseline("auto", cityscapes) is PUBLISHED
    assert find_baseline("auto", street) is find_baseline("auto", {"labels": "camvid"}) is None
    assert find_baseline("published", street) is PUBLISHED
    assert find_baseline(None, cityscapes) is None
    mean = sum(PUBLISHED.iou.values()) / 19
    assert mean == pytest.approx(PUBLISHED.miou, abs=5e-5), "the classes add up to the published mean"
    assert tuple(PUBLISHED.iou) == CITYSCAPES.class_names
    (tmp_path / "other").mkdir()
    (tmp_path / "other/metrics.json").write_text(json.dumps(figures()))
    for path in (tmp_path / "other", tmp_path / "other/metrics.json"):
        found = find_baseline(str(path), street)
        assert (found.name, found.split, found.miou) == ("other", "cityscapes, val", figures()["mIoU"])
    for text in ("", "[]", "{}", '{"IoU": 3, "mIoU": 1}', '{"IoU": {"road": "x"}, "mIoU": 1}'):
        (tmp_path / "metrics.json").write_text(text)
        with pytest.raises(UserError, match=r"report\.baseline=.*metrics\.json.*finished run"):
            find_baseline(str(tmp_path), street)
    with pytest.raises(UserError, match="No such file"):
        find_baseline("/nowhere", street)


def test_a_report_that_fails_is_a_warning(tmp_path, caplog):
    config = {"name": "x", "task": "eval", "data": {"labels": "cityscapes", "crop_size": [64, 64]}}
    (tmp_path / "metrics.json").write_text(json.dumps(figures()))
    assert write_report(tmp_path, config) == tmp_path / "report.html"
    before = (tmp_path / "report.html").read_bytes()
    for broken in ("{", '{"classes": ["road"], "IoU": 7}'):
        (tmp_path / "metrics.json").write_text(broken)
        with caplog.at_level(logging.WARNING):
            assert write_report(tmp_path, config) is None
        assert "No report.html" in caplog.text
        assert "Traceback" in caplog.text
    assert (tmp_path / "report.html").read_bytes() == before
    caplog.clear()
    (tmp_path / "metrics.json").write_text(json.dumps(figures()))
    assert write_report(tmp_path, config | {"report": {"baseline": "/nowhere"}}) is None
    assert "Traceback" not in caplog.text, "the user's own to mend"


def test_pictures_of_another_validation_are_left_out(tmp_path):
    config = {"name": "x", "task": "eval", "data": {"labels": "cityscapes", "crop_size": [64, 64]}}
    own = figures()
    (tmp_path / "metrics.json").write_text(json.dumps(own))
    (tmp_path / "pictures").mkdir()
    for miou, number in ((own["mIoU"], 4), (0.1, 0)):
        found = {"mIoU": miou, "size": [64, 64], "best": [entry()], "worst": [], "all": []}
        (tmp_path / "pictures/best_and_worst.json").write_text(json.dumps(found))
        write_report(tmp_path, config)
        assert len(Page((tmp_path / "report.html").read_text()).of("img")) == number


def test_cost_of_a_network():
    model = {
        "_target_": "src.network.cgnet.CGNet",
        "num_classes": 19,
        "preprocessing": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    }
    parameters, gflops = parameters_and_gflops(model, 1024, 2048)
    assert 490_000 < parameters < 500_000
    assert gflops == pytest.approx(54, rel=0.05), "27 G multiply-adds, as others measured"


def test_only_our_own_warnings_are_kept():
    handler = Warned()
    for name, level, text in (
        ("src.eval", "WARNING", "mind this"), ("src.eval", "WARNING", "mind this"),
        ("src.eval", "INFO", "hello"), ("torch", "WARNING", "advice"),
    ):  # fmt: skip
        record = logging.makeLogRecord({"name": name, "levelno": getattr(logging, level), "msg": text})
        if record.levelno >= handler.level:
            handler.handle(record)
    assert Warned.texts == ["mind this"]
    Warned()
    assert Warned.texts == []
