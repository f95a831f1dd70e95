"""The page: its header, its sections in order, and a security policy that forbids loading anything else."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from src.report.classes import class_table, difference, swatch_rules
from src.report.confusions import confusion_lists, heat_map
from src.report.curves import Rows, curves
from src.report.facts import fact_list, more_metrics, packages, run_facts
from src.report.html import Html, escape, h, is_number, join, name, number, percent
from src.report.images import image_sections
from src.report.reference_scores import Baseline, images_of

_HERE = Path(__file__).parent
_OFFICIAL = (("category_mIoU", "Category mIoU"), ("mean_iIoU", "Mean iIoU"))  # shown if metrics.json has them


@dataclass(frozen=True)
class Report:
    """What a page is made of, as plain data."""

    name: str
    task: str  # train or eval
    metrics: Mapping[str, Any]  # metrics.json
    data: Mapping[str, Any]  # the data group
    colors: Sequence[tuple[int, int, int]] = ()  # of the classes, by train id
    rows: Rows = ()  # metrics.csv
    starts: Sequence[Mapping[str, Any]] = ()  # record.json
    ended: str | None = None
    unfinished: str = ""  # how far a training is that has not ended
    reload: int | None = None  # the page loads itself again after so many seconds
    config: str = ""  # config.yaml
    images: Mapping[str, Any] | None = None  # of src.report.best_and_worst
    baseline: Baseline | None = None
    network: Mapping[str, Any] = field(default_factory=dict)  # of src.network.cost
    warnings: Sequence[str] = ()


def render(report: Report) -> str:
    """The whole file. The same report gives the same text."""
    title = f"{report.name}: {_kind(report.task).lower()} report"
    return document(title, _header(report), _body(report), swatch_rules(report.colors), report.reload)


def document(title: str, header: Html, body: Html, rules: str = "", reload: int | None = None) -> str:
    """The HTML file around a header and a body; `rules` come after those of style.css."""
    style = (_HERE / "style.css").read_text() + rules
    script = (_HERE / "script.js").read_text()
    return Template((_HERE / "page.html").read_text()).substitute(
        policy=_policy(style, script),
        title=escape(title),
        reload=h("meta", http_equiv="refresh", content=reload) if reload else "",
        style=style,
        script=script,
        header=header,
        body=body,
    )


def _policy(style: str, script: str) -> Html:
    """Content-Security-Policy: only this style, this script and inline pictures; no requests."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return escape(
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; base-uri 'none'; form-action 'none'"
    ).replace("&#x27;", "'")  # type: ignore[return-value]


def _kind(task: str) -> str:
    return {"train": "Training", "eval": "Evaluation"}.get(task, task)


def _header(report: Report) -> Html:
    metrics, network = report.metrics, report.network
    images = metrics.get("num_images")
    about = [
        name(metrics.get("data") or report.data.get("name")),
        metrics.get("split") and f"split {metrics['split']}",
        is_number(images) and f"{images:,} images",
        metrics.get("epoch") and f"epoch {metrics['epoch']}{_among(metrics)}",
        metrics.get("precision"),
    ]
    line = [part for part in about if part]
    tiles = [
        ("Pixel accuracy", f"{percent(metrics.get('pixel_accuracy'))} %"),
        ("Mean accuracy", f"{percent(metrics.get('mean_accuracy'))} %"),
        *((title, f"{percent(metrics[key])} %") for key, title in _OFFICIAL if is_number(metrics.get(key))),
        *((title, number(value)) for title, value in network.items()),
    ]
    return join(
        h("p", _kind(report.task), class_="kind"),
        h("h1", name(report.name)),
        h("p", [join(i > 0 and " · ", part) for i, part in enumerate(line)], class_="about"),
        report.unfinished and h("p", report.unfinished, class_="unfinished"),
        h(
            "div",
            h(
                "div",
                h("span", percent(metrics.get("mIoU")), h("small", "%"), class_="big"),
                h("span", "mIoU", _beside(report), class_="of"),
                class_="headline",
            ),
            fact_list(tiles),
            class_="top",
        ),
    )


def _beside(report: Report) -> Html | None:
    if report.baseline is None or not is_number(report.metrics.get("mIoU")):
        return None
    if report.baseline.split != images_of(
        report.metrics, report.data.get("name")
    ):  # measured on other images: no difference is shown
        return join(", beside ", name(report.baseline.name), f" ({report.baseline.split})")
    change = difference(report.metrics["mIoU"], report.baseline.miou, "b")
    return join(", ", change, " against ", name(report.baseline.name), f" ({report.baseline.split})")


def _among(metrics: Mapping[str, Any]) -> str:
    """How the epoch was selected, and the last epoch's mIoU, which is comparable to a published one."""
    last, validations = metrics.get("last"), metrics.get("validations")
    miou = last.get("mIoU") if isinstance(last, Mapping) else None
    if not isinstance(validations, int) or validations < 2 or not is_number(miou):
        return ""
    return f", best of {validations:,} validations; the last: {percent(miou)} %"


def _body(report: Report) -> Html:
    metrics = report.metrics
    classes, matrix = metrics.get("classes") or [], metrics.get("confusion_matrix") or []
    known = bool(classes) and "IoU" in metrics
    confused = len(classes) > 1 and any(map(any, matrix))
    sections = [
        ("curves", "Training", curves(report.rows)),
        ("classes", "IoU per class", known and class_table(metrics, report.colors, report.baseline)),
        ("confused", "Most confused", confused and confusion_lists(matrix, classes, report.colors)),
        ("matrix", "Confusion matrix", confused and heat_map(matrix, classes)),
        ("images", "Best and worst images", image_sections(report.images, classes, report.colors)),
        ("metrics", "More metrics", more_metrics(metrics)),
        ("run", "The run", _run(report)),
    ]
    there = [(key, title, content) for key, title, content in sections if content]
    links = [h("li", h("a", title, href=f"#{key}")) for key, title, _ in there]
    warnings = [h("p", text) for text in report.warnings]
    return join(
        warnings and h("aside", h("h2", "Warnings", class_="sr"), *warnings, class_="warnings"),
        h("nav", h("ul", *links), aria_label="Sections"),
        [
            h("section", h("h2", title, id=f"{key}-title"), content, id=key, aria_labelledby=f"{key}-title")
            for key, title, content in there
        ],
    )


def _run(report: Report) -> Html:
    config = report.config and h("details", h("summary", "config.yaml"), h("pre", report.config))
    return join(run_facts(report.metrics, report.starts, report.ended), packages(report.starts), config)
