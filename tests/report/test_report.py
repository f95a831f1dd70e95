"""report.html as text: what stands on it, what does not, and that nothing gets out of its place."""

import json
import re

import pytest
from report_pages import COLORS, HOSTILE, Page, entry, metrics, report, rows

from src.labels import CITYSCAPES
from src.report.comparison_page import render_comparison
from src.report.page import render
from src.report.reference_scores import PUBLISHED


def test_figures_classes_and_pairs():
    page = Page(render(report(baseline=PUBLISHED, network={"Parameters": 496_306})))
    own = metrics()
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
                metrics=metrics(tta="flip", category_IoU={"flat": 0.91234, "void": None}),
                warnings=["trained on what it is judged by"],
                config="data:\n  name: cityscapes",
            )
        )
    )
    assert page.headings == [
        "Warnings", "Training", "IoU per class", "Most confused", "Confusion matrix", "Best and worst images",
        "More metrics", "The run",
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
            metrics=metrics(names, **{HOSTILE: HOSTILE, "split": HOSTILE, "group": {HOSTILE: HOSTILE}}),
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
    page = Page(render(report(metrics={"mIoU": None} | part)))
    assert "\u2013" in page.text
    assert "The run" in page.headings


def test_one_class():
    page = Page(render(report(metrics=metrics(["road"]))))
    assert page.headings == ["IoU per class", "The run"]


def test_many_classes_stay_a_page():
    text = render(report(metrics=metrics([f"class {i}" for i in range(255)]), colors=[(0, 0, 0)] * 255))
    assert len(text) < 8e6
    assert "Confusion matrix" in Page(text).headings


def test_unknown_and_absent_ious():
    own = metrics()
    own["IoU"] |= {"road": None, "car": float("nan")}
    own["mIoU"] = float("nan")
    own["confusion_matrix"][3] = [0] * 19
    page = Page(render(report(metrics=own, baseline=PUBLISHED)))
    assert "nan" not in page.text.lower().replace("finance", "")
    assert page.of("rect", **{"class": "nothing"}), "a class without pixels has a grey row"


def test_names_of_any_length_and_alphabet():
    names = ["w" * 300, "道路", "дорога", "طريق", "🚗"]
    page = Page(render(report(name="街の見本", metrics=metrics(names), colors=COLORS[:5])))
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


def test_official_figures_and_provenance():
    own = metrics(
        iIoU={"car": 0.51515, "road": None},
        mean_iIoU=0.41414,
        category_mIoU=0.81818,
        category_IoU={"flat": 0.91919},
        cost={"parameters": 7, "GFLOPs": 54.1, "image": [1024, 2048], "latency_ms": {"median": 12.25}},
        tta={"scales": [0.5, 1, 2], "flip": True},
        window=[512, 1024],
        family="mmsegmentation",
        trained_on=[{"data": "cityscapes", "split": "train"}],
    )
    page = Page(render(report(metrics=own)))
    for text in (
        "51.52", "41.41 %", "81.82 %", "91.92 %", "12.25", "Latency ms, median", "0.5 x 1 x 2", "512 x 1,024",
        "mmsegmentation", "cityscapes train",
    ):  # fmt: skip
        assert text in page.text, text
    assert "iIoU, %" in page.text
    assert "nobody recorded it" in Page(render(report(metrics=own | {"trained_on": None}))).text
    assert "Trained on" not in Page(render(report())).text


def test_evaluations_side_by_side():
    rows = [
        {"network": HOSTILE, "parameters": 496_306, "mIoU": 0.68531, "mIoU_tta": None, "latency_ms": 12.345},
        {"network": "other", "parameters": 1_000, "mIoU": 0.5, "mIoU_tta": 0.71, "latency_ms": None},
    ]
    text = render_comparison("all of them", rows, {key: f"the {key}" for key in rows[0]})
    page = Page(text)
    for shown in (
        HOSTILE.replace("\x00", "\ufffd").replace("\udcff", "\ufffd"),
        "496,306",
        "12.35",
        "the mIoU_tta",
    ):
        assert shown in page.text
    assert "<b>68.53</b>" in text
    assert "<b>71.00</b>" in text
    assert "<b>50.00</b>" not in text
    assert len(page.of("script")) == 1
    assert Page(render_comparison("none", [], {"mIoU": "mIoU"})).headings
