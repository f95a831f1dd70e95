"""comparison.html: the settings of a sweep side by side."""

from collections.abc import Sequence

from src.report.classes import Colors, bar, class_label, difference, swatch_rules
from src.report.curves import Series, panel, points_of
from src.report.html import NOTHING, Html, h, join, name, percent
from src.report.images import control, legend, shot
from src.report.page import document
from src.results.differing_images import NETWORKS, Picture
from src.results.grouping import Comparison, Setting
from src.results.plot import COLORS
from src.results.result_tables import caption, setting_cells
from src.runs.directory_checks import csv_rows

_CLASSES = 6  # settings in the table of classes


def render_sweep(
    title: str,
    comparison: Comparison,
    colors: Colors = (),
    networks: Sequence[Setting] = (),
    pictures: Sequence[Picture] = (),
) -> str:
    """The whole file.

    Args:
        colors: RGB of the classes, by train id.
        networks: the settings that the pictures have predictions of, in their order.
    """
    runs = sum(len(setting.runs) for setting in comparison.settings)
    header = join(
        h("p", "Comparison", class_="kind"),
        h("h1", name(title)),
        h("p", f"{len(comparison.settings)} settings, {runs} runs. {caption(comparison)}", class_="about"),
    )
    sections = [
        ("settings", "Settings", _settings(comparison)),
        ("curves", "Validation mIoU while they trained", _curves(comparison)),
        ("classes", "IoU per class, last epoch", _classes(comparison, colors)),
        ("images", "Images on which they differ most", _images(comparison, colors, networks, pictures)),
    ]
    body = [
        h("section", h("h2", text, id=f"{key}-title"), content, id=key, aria_labelledby=f"{key}-title")
        for key, text, content in sections
        if content
    ]
    return document(f"{title}: comparison", header, join(body), _rules(colors))


def _rules(colors: Colors) -> str:
    rules = [swatch_rules(colors)]
    for i, color in enumerate(COLORS):
        rules.append(
            f".line.g{i}{{stroke:{color}}}.dot.g{i}{{fill:{color}}}.key.g{i}::before{{background:{color}}}"
        )
    for i in range(NETWORKS):
        shown = "visibility:visible;opacity:var(--strength,.65)"
        rules.append(f".shot:has([value=network{i}]:checked) .network{i}{{{shown}}}")
    return "\n".join(rules)


def _settings(comparison: Comparison) -> Html:
    head, *rows = setting_cells(comparison)
    best = max((s.last.mean for s in comparison.settings if s.last), default=None)
    body = []
    for setting, (label, *cells) in zip(comparison.settings, rows, strict=True):
        mean = setting.last.mean if setting.last else None
        parts = [h("td", name(label)), h("td", cells[0], class_="figure")]
        text = h("b", cells[1]) if mean is not None and mean == best else cells[1]
        parts.append(h("td", text or NOTHING, mean is not None and bar(mean), class_="measured"))
        parts += [h("td", cell or NOTHING, class_="figure") for cell in cells[2:]]
        body.append(h("tr", parts))
    heads = [h("th", text, scope="col", class_=_column(i)) for i, text in enumerate(head)]
    table = h("table", h("thead", h("tr", heads)), h("tbody", body), class_="rows settings")
    note = (
        "mIoU in percent: mean and standard deviation over seeds. Differences are in points, between runs "
        "with the same seed. Their 95 % intervals: over seeds by Student's t distribution, over images by a "
        "bootstrap. A star: both exclude 0. Published numbers are of the last epoch; the best epoch was "
        "picked on these same images."
    )
    return join(h("div", table, class_="scroll", tabindex="0"), h("p", note, class_="note"))


def _column(index: int) -> str | None:
    return None if index == 0 else "measured" if index == 2 else "figure"


def _curves(comparison: Comparison) -> Html | None:
    series = []
    for i, setting in enumerate(comparison.settings):
        for run in setting.runs:
            points = points_of(csv_rows(run.directory / "metrics.csv"), "val/mIoU", factor=100)
            label = setting.label if run.seed is None else f"{setting.label}, seed {run.seed}"
            style = f"g{i}" if i < len(COLORS) else "faint"
            key = setting.label if i < len(COLORS) else "others"
            series.append(Series(label, style, points, key))
    drawn = panel("Validation mIoU, %", series)
    return h("div", drawn, class_="curves single") if drawn else None


def _classes(comparison: Comparison, colors: Colors) -> Html | None:
    """A row for each class: the baseline's IoU, and how much the other settings differ from it."""
    base = comparison.baseline
    others = [s for s in comparison.settings if s is not base and s.finished and s.images == base.images]
    if not comparison.classes or not base.finished or not others:
        return None
    shown = others[: _CLASSES - 1]
    rows = []
    for index, title in enumerate(comparison.classes):
        mine = base.iou(title)
        cells = [
            h("th", class_label(index, title, colors), scope="row"),
            h("td", percent(mine.mean if mine else None), class_="figure"),
        ]
        for setting in shown:
            theirs = setting.iou(title)
            cells.append(difference(theirs.mean if theirs else None, mine.mean if mine else None))
        rows.append(h("tr", cells))
    heads = [h("th", "Class", scope="col"), h("th", f"{base.label}, %", scope="col", class_="figure")]
    heads += [h("th", name(setting.label), scope="col", class_="figure") for setting in shown]
    table = h("table", h("thead", h("tr", heads)), h("tbody", rows), class_="rows classes differences")
    left = len(others) - len(shown)
    more = f" {left} more settings are not shown." if left else ""
    note = f"Differences to the first column, in points.{more}"
    return join(h("div", table, class_="scroll", tabindex="0"), h("p", note, class_="note"))


def _images(
    comparison: Comparison, colors: Colors, networks: Sequence[Setting], pictures: Sequence[Picture]
) -> Html | None:
    if not pictures:
        return None
    views = [("image", "Image"), ("truth", "Truth")]
    views += [(f"network{i}", chr(ord("A") + i)) for i in range(len(networks))]
    shots = []
    for index, picture in enumerate(pictures):
        predictions = {f"network{i}": uri for i, uri in enumerate(picture.predictions)}
        entry = {"name": picture.name, "image": picture.image, "truth": picture.truth, **predictions}
        scores = [f"{chr(ord('A') + i)} {percent(value, 1)} %" for i, value in enumerate(picture.mious)]
        shots.append(
            shot(entry, views, index, h("b", name(picture.name)), join(", ".join(scores)), chosen="network0")
        )
    named = [
        h("li", h("b", chr(ord("A") + i)), " ", name(setting.label)) for i, setting in enumerate(networks)
    ]
    about = "By the difference of the image's mIoU, which is the mean over the classes in it."
    return join(
        h("ul", *named, class_="plain"),
        h("p", about, class_="note"),
        control(views, chosen="network0"),
        legend(comparison.classes, colors),
        h("div", *shots, class_="shots"),
    )
