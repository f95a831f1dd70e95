"""Facts about the metrics: their data, the run that produced them, and everything else in metrics.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.report.html import NOTHING, Html, h, is_number, join, name, number, percent

Facts = Sequence[tuple[str, Any]]

# Keys of metrics.json that the page shows elsewhere.
_ELSEWHERE = {
    "mIoU", "pixel_accuracy", "mean_accuracy", "IoU", "classes", "confusion_matrix", "num_images", "epoch",
    "checkpoint", "split", "precision", "data", "last", "family", "trained_on", "iIoU", "mean_iIoU",
    "category_mIoU", "began_from", "validations", "recipe", "seed", "revision", "weights_sha256",
}  # fmt: skip


def fact_list(facts: Facts) -> Html:
    """A list of the facts whose value is known."""
    known = [(title, value) for title, value in facts if value not in (None, "", [], {})]
    return h("dl", [h("div", h("dt", title), h("dd", value)) for title, value in known], class_="facts")


def run_facts(metrics: Mapping[str, Any], starts: Sequence[Mapping[str, Any]], ended: str | None) -> Html:
    """Facts of the run's last start. If the run was interrupted, a list of all starts follows."""
    start = starts[-1] if starts else {}
    last = metrics.get("last")
    facts = [
        ("Checkpoint", _code(metrics.get("checkpoint"))),
        ("Weights by", metrics.get("family")),
        ("Trained on", _trained_on(metrics)),
        ("Began with", _began(metrics.get("began_from"))),
        ("Picked", _picked(metrics.get("validations"))),
        ("Last epoch", _last(last) if isinstance(last, Mapping) else None),
        ("Command", _code(start.get("command"))),
        ("Overrides", _overrides(start.get("overrides"))),
        ("Repeats", _code(start.get("repeats"))),
        ("Recipe", _code(metrics.get("recipe"))),
        ("Seed", metrics.get("seed") if start.get("seed") is None else start["seed"]),
        ("Weights made by code", _code(metrics.get("revision"))),
        ("Weights, SHA-256", _code(metrics.get("weights_sha256"))),
        ("Code", _revision(start.get("code"))),
        ("Hardware", _hardware(start)),
        ("Started", _time(start.get("time"))),
        ("Finished", _time(ended)),
        ("Python", start.get("python")),
    ]
    earlier = h(
        "details",
        h("summary", f"{len(starts)} starts"),
        h("ol", [h("li", _time(e.get("time")), " ", _progress(e), _code(e.get("command"))) for e in starts]),
    )
    return join(fact_list(facts), len(starts) > 1 and earlier)


def _trained_on(metrics: Mapping[str, Any]) -> str | None:
    if "trained_on" not in metrics:
        return None
    seen = metrics["trained_on"]
    if not isinstance(seen, list):
        return "nobody recorded it"
    return ", ".join(f"{e.get('data')} {e.get('split')}" for e in seen if isinstance(e, Mapping))


def _began(weights: Any) -> Html | None:
    if not isinstance(weights, Mapping):
        return None
    return join(_code(weights.get("checkpoint")), f" of {weights.get('family')}")


def _last(last: Mapping[str, Any]) -> str | None:
    epoch = last.get("epoch")
    beside = ": this one belongs beside a published number" if is_number(last.get("mIoU")) else ""
    return f"epoch {epoch}, mIoU {percent(last.get('mIoU'))} %{beside}" if epoch else None


def _picked(validations: Any) -> str | None:
    several = is_number(validations) and validations > 1
    return f"the best of {validations:,} validations, on these very images" if several else None


def _progress(start: Mapping[str, Any]) -> str:
    found = start.get("from_checkpoint")
    return f"from epoch {found['epoch']}, step {found['step']} " if found else ""


def _code(text: Any) -> Html | None:
    return h("code", text) if text else None


def _overrides(overrides: Any) -> Html | None:
    return h("ul", [h("li", h("code", text)) for text in overrides], class_="plain") if overrides else None


def _revision(code: Any) -> Html | None:
    if not isinstance(code, Mapping):
        return None
    if not code.get("revision"):
        return join(code.get("problem") or "unknown")
    changed = f", changed: {code['patch']}" if code.get("patch") else ", changed" if code.get("dirty") else ""
    branch = f" on {code['branch']}" if code.get("branch") else ""
    return join(h("code", code["revision"][:12]), branch, changed)


def _hardware(start: Mapping[str, Any]) -> str | None:
    machine = start.get("hardware")
    if not isinstance(machine, Mapping):
        return None
    gpus = [gpu["name"] for gpu in machine.get("gpus") or []]
    parts = [f"{gpus.count(gpu)} x {gpu}" for gpu in dict.fromkeys(gpus)]
    parts.append(f"{machine.get('cores')} cores of {machine.get('cpu')}")
    parts.append(f"{machine.get('memory_gb')} GB")
    size = start.get("world_size") or 1
    parts += [f"{size} processes"] if size > 1 else []
    return ", ".join(parts)


def _time(text: Any) -> str | None:
    """2026-11-22T12:30:00+0000 without the T and the UTC offset."""
    return str(text)[:19].replace("T", " ") if text else None


def packages(starts: Sequence[Mapping[str, Any]]) -> Html | None:
    """The packages of the last start that recorded them: a start records them only if they have changed."""
    found = next((e["packages"] for e in reversed(starts) if e.get("packages")), None)
    if not isinstance(found, Mapping):
        return None
    entries = [h("li", title, " ", h("span", version, class_="quiet")) for title, version in found.items()]
    return h("details", h("summary", f"{len(found)} packages"), h("ul", entries, class_="columns"))


def more_metrics(metrics: Mapping[str, Any]) -> Html | None:
    """All of metrics.json that the page does not show elsewhere: scalars in a list, groups in lists of their
    own, lists of rows as tables. Values of any other kind are not shown."""
    scalars: list[tuple[str, Any]] = []
    groups: list[Html] = []
    tables: list[Html] = []
    for key, value in metrics.items():
        if key in _ELSEWHERE:
            continue
        if _is_scalar(value):
            scalars.append((_words(key), value if value is None else _shown(key, value)))
        elif isinstance(value, Mapping) and value:
            inner = [(_words(title), _shown(key, entry)) for title, entry in _flat(value)]
            groups.append(h("div", h("h3", _words(key)), fact_list(inner), class_="group"))
        elif _is_table(value):
            tables.append(join(h("h3", _words(key)), _table(value)))
    parts = [scalars and fact_list(scalars), groups and h("div", *groups, class_="pair"), *tables]
    return join(parts) if scalars or groups or tables else None


def _flat(group: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in group.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{above}{key}, ")
        elif _is_scalar(value):
            found.append((f"{above}{key}", value))
    return found


def _is_scalar(value: Any) -> bool:
    """Whether it is a scalar, or a short list of numbers or words, such as a size."""
    if isinstance(value, list):
        return 0 < len(value) <= 8 and not any(isinstance(e, list | Mapping) for e in value)
    return value is None or isinstance(value, str | int | float)


def _is_table(value: Any) -> bool:
    rows = isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value)
    return bool(rows) and all(_is_scalar(cell) for row in value for cell in row.values())


def _table(rows: Sequence[Mapping[str, Any]]) -> Html:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    body = [
        h("tr", [h("td", _shown(c, row.get(c)), class_=is_number(row.get(c)) and "figure") for c in columns])
        for row in rows
    ]
    head = h("tr", [h("th", _words(column), scope="col") for column in columns])
    return h("div", h("table", h("thead", head), h("tbody", body), class_="rows"), class_="scroll")


def _words(key: str) -> str:
    """`category_IoU` as a title. A first word that is not lower case, such as mIoU, is kept."""
    if key == "tta":
        return "TTA"
    first, _, rest = str(key).replace("_", " ").partition(" ")
    return f"{first.capitalize() if first.islower() else first} {rest}".strip()


def _shown(key: str, value: Any) -> Any:
    """A value as text. A fraction whose key contains IoU or accuracy is in percent, as everywhere else."""
    if isinstance(value, list):
        return join([join(i > 0 and " x ", _shown(key, entry)) for i, entry in enumerate(value)])
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return NOTHING
    if is_number(value):
        is_share = ("IoU" in key or "accuracy" in key) and 0 <= value <= 1
        return f"{percent(value)} %" if is_share else number(value)
    return name(value)
