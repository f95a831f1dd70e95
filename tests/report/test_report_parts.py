"""What report.html is made of: lists, axes, markup, baselines, and how it is written."""

import json
import logging

import pytest
from report_pages import Page, entry, metrics

from src.errors import UserError
from src.labels import CITYSCAPES
from src.network.cost import parameters_and_gflops
from src.report.confusions import most_confused
from src.report.html import h, join, share
from src.report.reference_scores import PUBLISHED, find_baseline
from src.report.scale import ticks
from src.report.write import write_report
from src.runs.log_handlers import KeptWarnings


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
    (tmp_path / "other/metrics.json").write_text(json.dumps(metrics()))
    for path in (tmp_path / "other", tmp_path / "other/metrics.json"):
        found = find_baseline(str(path), street)
        assert (found.name, found.split, found.miou) == ("other", "cityscapes, val", metrics()["mIoU"])
    for text in ("", "[]", "{}", '{"IoU": 3, "mIoU": 1}', '{"IoU": {"road": "x"}, "mIoU": 1}'):
        (tmp_path / "metrics.json").write_text(text)
        with pytest.raises(UserError, match=r"report\.baseline=.*metrics\.json.*finished run"):
            find_baseline(str(tmp_path), street)
    with pytest.raises(UserError, match="No such file"):
        find_baseline("/nowhere", street)


def test_a_report_that_fails_is_a_warning(tmp_path, caplog):
    config = {"name": "x", "task": "eval", "data": {"labels": "cityscapes", "crop_size": [64, 64]}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics()))
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
    (tmp_path / "metrics.json").write_text(json.dumps(metrics()))
    assert write_report(tmp_path, config | {"report": {"baseline": "/nowhere"}}) is None
    assert "Traceback" not in caplog.text, "the user's own to mend"


def test_pictures_of_another_validation_are_left_out(tmp_path):
    config = {"name": "x", "task": "eval", "data": {"labels": "cityscapes", "crop_size": [64, 64]}}
    own = metrics()
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
    handler = KeptWarnings()
    for name, level, text in (
        ("src.eval", "WARNING", "mind this"), ("src.eval", "WARNING", "mind this"),
        ("src.eval", "INFO", "hello"), ("torch", "WARNING", "advice"),
    ):  # fmt: skip
        record = logging.makeLogRecord({"name": name, "levelno": getattr(logging, level), "msg": text})
        if record.levelno >= handler.level:
            handler.handle(record)
    assert KeptWarnings.texts == ["mind this"]
    KeptWarnings()
    assert KeptWarnings.texts == []
