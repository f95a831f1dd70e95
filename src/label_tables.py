"""The label table of a data group: one of src/labels.py by its name, or the classes that the group lists."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from src.class_checks import is_list, problems_of_classes
from src.errors import UserError, brief, shorten
from src.labels import IGNORE, LABEL_TABLES, Color, Label, LabelTable

OWN = "classes"
"""The value of data.labels for a table that is made from data.classes and data.ignored."""

JOINED = "joined"
"""The value of data.layout for several datasets, the parts, under one table of classes."""

ASK_FOR_CLASSES = (
    "python -m src.doctor data=folder data.root=/path/to/it reads the masks and writes a YAML with their "
    "classes."
)
_PART = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)
_KEYS_OF_A_PART = re.compile(
    r"(?<!data=folder )\bdata\.(root|layout|labels|images|masks|lists|splits|classes|ignored)\b"
)
_SHOWN = 20  # problems


def table_of(data: Mapping[str, Any]) -> LabelTable:
    """The table of a data group (the values of a file in conf/data). Raises UserError with all problems."""
    name, classes = data["labels"], data.get("classes")
    if data.get("layout") == JOINED:
        return _joined_table(data)
    if name == OWN:
        return own_table(classes, data.get("ignored"))
    if name not in LABEL_TABLES:
        raise UserError(f"data.labels={name}: unknown, choose one of {', '.join([*LABEL_TABLES, OWN])}.")
    if classes:
        raise UserError(f"data.classes would have no effect with data.labels={name}. Set data.labels={OWN}.")
    return LABEL_TABLES[name]


def own_table(classes: Any, ignored: Any, part: str = "") -> LabelTable:
    """The table of listed classes. With ids in the masks, a label is an id. With colours, the labels are
    numbered from 0 in the order in which the colours are listed, see `LabelTable.mask_colors`.

    Args:
        classes: a list of {name, ids or colors, color (for pictures; optional)}, by train id.
        ignored: None, or {ids, colors} of pixels that are not learned.
        part: of a joined dataset; it may have a single class.
    """
    if not classes:
        raise UserError(f"data.classes is not set: which classes do the masks have? {ASK_FOR_CLASSES}")
    entries = list(classes) if is_list(classes) else []
    if not entries:
        raise UserError(f"data.classes={brief(classes)}: expected a list of classes.")
    if problems := problems_of_classes(entries, ignored, least=1 if part else 2):
        raise UserError(shorten(problems, _SHOWN))
    by_color = any(entry.get("colors") for entry in entries)
    labels: list[Label] = []
    colors: list[Color] = []
    for name, train_id, shown, values in _rows(entries, ignored or {}, "colors" if by_color else "ids"):
        for value in values:
            label_id = len(colors) if by_color else value
            labels.append(Label(name, label_id, train_id, name, False, shown))
            colors += [_color(value)] if by_color else []
    return LabelTable(OWN, tuple(labels), tuple(colors), part)


def _joined_table(data: Mapping[str, Any]) -> LabelTable:
    """The classes of all parts. Its ids are the train ids: masks are read with the tables of the parts."""
    classes: Any = data.get("classes")
    parts: Any = data.get("parts")
    problems = [
        f"data.{key} has no effect in a joined dataset: write it into the part that it is for."
        for key in ("images", "masks", "lists", "ignored")
        if data.get(key)
    ]
    if data["labels"] != OWN:
        problems.append(f"data.labels={data['labels']}: a joined dataset lists its own: labels: {OWN}.")
    if not classes:
        problems.append("data.classes is not set: list what the network learns, such as {name: road}.")
    if not isinstance(parts, Mapping) or not parts:
        problems.append("data.parts is not set: which datasets are joined? conf/data/joined.yaml shows it.")
    entries = list(classes) if is_list(classes) else []
    problems += [
        f"data.classes[{number}].{key}: values of masks stand in the parts, such as "
        f"data.parts.mine.classes=[{{name: road, {key}: ...}}]."
        for number, entry in enumerate(entries)
        for key in ("ids", "colors", "labels")
        if isinstance(entry, Mapping) and key in entry
    ]
    if problems:
        raise UserError(shorten(problems, _SHOWN))
    numbered = [
        {**e, "ids": [n]} if isinstance(e, Mapping) and n < IGNORE else e for n, e in enumerate(entries)
    ]
    table = own_table(numbered or classes, None)
    used = {label.train_id for part in _part_tables(parts, table).values() for label in part.labels}
    if unused := [name for train_id, name in enumerate(table.class_names) if train_id not in used]:
        raise UserError(f"data.classes: no part has {', '.join(unused)}. Name it in a part, or remove it.")
    return table


def part_tables(data: Mapping[str, Any]) -> dict[str, LabelTable]:
    """The table of each part of a joined dataset, from the values in its masks to the joined train ids.

    Raises UserError with the problems of all parts.
    """
    return _part_tables(data["parts"], _joined_table(data))


def left_out(data: Mapping[str, Any]) -> list[str]:
    """For each part with a known table, a line that says which of its classes are ignored, if some are."""
    lines = []
    for part, table in part_tables(data).items() if data.get("layout") == JOINED else ():
        learned = LABEL_TABLES[table.name].train_labels if table.name != OWN else ()
        if names := [label.name for label in learned if table.to_train_id[label.id] == IGNORE]:
            lines.append(f"data.parts.{part}: ignored, since no class names them: {', '.join(names)}")
    return lines


def _part_tables(parts: Mapping[str, Any], joined: LabelTable) -> dict[str, LabelTable]:
    tables, problems = {}, []
    for part, values in parts.items():
        try:
            if not isinstance(part, str) or not _PART.fullmatch(part):
                raise UserError(f"data.parts: {brief(part)} is no name of letters, digits, - and _.")
            tables[part] = _part_table(part, values, joined.class_names)
        except UserError as error:
            problems.append(with_keys_of(part, error.text))
    if problems:
        raise UserError(shorten(problems, _SHOWN))
    return tables


def _part_table(part: str, values: Any, joined: Sequence[str]) -> LabelTable:
    missing = [key for key in ("layout", "root", "classes") if not values.get(key)]
    if missing:
        raise UserError("\n".join(f"data.{key} is missing." for key in missing))
    name = values.get("labels") or (values["layout"] if values["layout"] in LABEL_TABLES else OWN)
    if name == OWN:
        table = own_table(values["classes"], values.get("ignored"), part)
        became = {label.id: label.name for label in table.labels if label.train_id != IGNORE}
    elif name in LABEL_TABLES:
        table = LABEL_TABLES[name]
        became = _named(values["classes"], table)
        if values.get("ignored"):
            raise UserError(
                f"data.ignored has no effect with the table {name}: what no class names is ignored."
            )
    else:
        raise UserError(f"data.labels={name}: unknown, choose one of {', '.join([*LABEL_TABLES, OWN])}.")
    if unknown := [name for name in dict.fromkeys(became.values()) if name not in joined]:
        raise UserError(
            f"data.classes: {', '.join(unknown)} is not one of the joined classes, which are "
            f"{', '.join(joined)}."
        )
    train_ids = {number: joined.index(name) for number, name in became.items()}
    labels = tuple(replace(label, train_id=train_ids.get(label.id, IGNORE)) for label in table.labels)
    return replace(table, labels=labels, part=part)


def _named(classes: Any, table: LabelTable) -> dict[int, str]:
    """Label id -> class, for classes that name labels of a known table."""
    ids = {label.name: label.id for label in table.labels}
    became: dict[int, str] = {}
    for number, entry in enumerate(classes):
        where = f"data.classes[{number}]"
        name, labels = entry.get("name"), entry.get("labels")
        right = is_list(labels) and labels and all(isinstance(text, str) for text in (name, *labels))
        if not right or entry.keys() != {"name", "labels"}:
            raise UserError(f"{where}={brief(entry)}: expected such as {{name: car, labels: [car, truck]}}.")
        for label in labels:
            if label not in ids:
                close = get_close_matches(label, ids, n=1, cutoff=0.0)[0]
                raise UserError(f"{where}: {table.name} has no label {brief(label)}. Did you mean {close}?")
            if ids[label] in became:
                raise UserError(f"{where}: the label {label} is listed twice. Each label has one class.")
            became[ids[label]] = name
    return became


def with_keys_of(part: str, text: str) -> str:
    """A message about data.root, data.classes, ... with the keys of a part; unchanged for an empty `part`."""
    return _KEYS_OF_A_PART.sub(lambda key: f"data.parts.{part}.{key[1]}", text) if part else text


def default_color(number: int) -> Color:
    """The colour of class `number` in pictures, if the config gives none: Pascal VOC's, in which any two
    numbers differ (VOCdevkit, VOCcode/VOClabelcolormap.m)."""
    red, green, blue = 0, 0, 0
    for shift in range(7, -1, -1):
        red |= (number & 1) << shift
        green |= (number >> 1 & 1) << shift
        blue |= (number >> 2 & 1) << shift
        number >>= 3
    return red, green, blue


def _rows(
    entries: Sequence[Any], ignored: Mapping[str, Any], key: str
) -> Iterator[tuple[str, int, Color, Sequence[Any]]]:
    """(name, train id, colour in pictures, values in the masks) of each class, and of what is ignored."""
    for train_id, entry in enumerate(entries):
        first = entry["colors"][0] if entry.get("colors") else default_color(train_id + 1)
        yield entry["name"], train_id, _color(entry.get("color") or first), entry[key]
    yield "ignored", IGNORE, (0, 0, 0), ignored.get(key) or ()


def _color(value: Sequence[int]) -> Color:
    red, green, blue = value
    return red, green, blue
