"""The label table of a data group: one of src/labels.py by its name, or the classes that the group lists."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from src.errors import UserError, brief, shorten
from src.labels import IGNORE, LABEL_TABLES, Color, Label, LabelTable

OWN = "classes"
"""The value of data.labels for a table that is made from data.classes and data.ignored."""

MOST_COLORS = 255
"""Of masks with colours: each listed colour becomes an id, and one id is left for colours not listed."""

ASK_FOR_CLASSES = (
    "python -m src.doctor data=folder data.root=/path/to/it reads the masks and writes a YAML with their "
    "classes."
)
_KEYS = ("name", "color", "ids", "colors")
_SHOWN = 20  # problems


def table_of(data: Mapping[str, Any]) -> LabelTable:
    """The table of a data group (the values of a file in conf/data). Raises UserError with all problems."""
    name, classes = data["labels"], data.get("classes")
    if name == OWN:
        return own_table(classes, data.get("ignored"))
    if name not in LABEL_TABLES:
        raise UserError(f"data.labels={name}: unknown, choose one of {', '.join([*LABEL_TABLES, OWN])}.")
    if classes:
        raise UserError(f"data.classes would have no effect with data.labels={name}. Set data.labels={OWN}.")
    return LABEL_TABLES[name]


def own_table(classes: Any, ignored: Any) -> LabelTable:
    """The table of listed classes. With ids in the masks, a label is an id. With colours, the labels are
    numbered from 0 in the order in which the colours are listed, see `LabelTable.mask_colors`.

    Args:
        classes: a list of {name, ids or colors, color (for pictures; optional)}, by train id.
        ignored: None, or {ids, colors} of pixels that are not learned.
    """
    if not classes:
        raise UserError(f"data.classes is not set: which classes do the masks have? {ASK_FOR_CLASSES}")
    entries = list(classes) if _is_list(classes) else []
    problems = [] if entries else [f"data.classes={brief(classes)}: expected a list of classes."]
    if len(entries) > MOST_COLORS:
        raise UserError(f"data.classes: {len(entries)} classes, at most {MOST_COLORS} are possible.")
    for number, entry in enumerate(entries):
        problems += _problems_of_class(f"data.classes[{number}]", entry)
    problems += _problems_of_ignored(ignored)
    problems = problems or _problems_of_all(entries, ignored or {})
    if problems:
        raise UserError(shorten(problems, _SHOWN))
    by_color = any(entry.get("colors") for entry in entries)
    labels: list[Label] = []
    colors: list[Color] = []
    for name, train_id, shown, values in _rows(entries, ignored or {}, "colors" if by_color else "ids"):
        for value in values:
            label_id = len(colors) if by_color else value
            labels.append(Label(name, label_id, train_id, name, False, shown))
            colors += [_color(value)] if by_color else []
    return LabelTable(OWN, tuple(labels), tuple(colors))


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


def _problems_of_class(where: str, entry: Any) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"{where}={brief(entry)}: expected keys with values, such as {{name: road, ids: [7]}}."]
    problems = [_unknown_key(where, key, _KEYS) for key in entry if key not in _KEYS]
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        quote = f' Quote it: name: "{name}".' if isinstance(name, bool | int | float) else ""
        problems.append(f"{where}.name={brief(name)}: expected a name in printable letters.{quote}")
    if entry.get("color") is not None and not _is_color(entry["color"]):
        problems.append(
            f"{where}.color={brief(entry['color'])}: expected [red, green, blue], each from 0 to 255."
        )
    problems += _problems_of_values(where, entry)
    if not entry.get("ids") and not entry.get("colors"):
        problems.append(
            f"{where} ({name}): no value of the masks becomes this class. Give ids: [7], or colors: "
            f"[[128, 64, 128]] for RGB masks."
        )
    return problems


def _problems_of_ignored(ignored: Any) -> list[str]:
    if ignored is None:
        return []
    if not isinstance(ignored, Mapping):
        return [f"data.ignored={brief(ignored)}: expected keys with values, such as {{ids: [255]}}."]
    unknown = [_unknown_key("data.ignored", key, _KEYS[2:]) for key in ignored if key not in _KEYS[2:]]
    return unknown + _problems_of_values("data.ignored", ignored)


def _problems_of_values(where: str, entry: Mapping[str, Any]) -> list[str]:
    problems = []
    ids, colors = entry.get("ids"), entry.get("colors")
    if ids is not None and not (_is_list(ids) and all(_is_level(value) for value in ids)):
        fix = f" Write ids: [{ids}]." if _is_level(ids) else ""
        problems.append(f"{where}.ids={brief(ids)}: expected a list of whole numbers from 0 to 255.{fix}")
    if colors is not None and not (_is_list(colors) and all(_is_color(value) for value in colors)):
        fix = f" Write colors: [{list(colors)}]." if _is_color(colors) else ""
        problems.append(
            f"{where}.colors={brief(colors)}: expected a list of [red, green, blue], each from 0 to 255.{fix}"
        )
    return problems


def _problems_of_all(entries: Sequence[Mapping[str, Any]], ignored: Mapping[str, Any]) -> list[str]:
    """What is wrong with the classes together, where each for itself is right."""
    if len(entries) < 2:
        return [
            "data.classes has a single class: a network that always answers it would be perfect. List what "
            "else there is as a class, too, such as the background."
        ]
    problems = []
    places = [*((f"'{entry['name']}'", entry) for entry in entries), ("data.ignored", ignored)]
    kinds = {key: [who for who, entry in places if entry.get(key)] for key in ("ids", "colors")}
    if all(kinds.values()):
        problems.append(
            f"data.classes: ids for {kinds['ids'][0]}, but colors for {kinds['colors'][0]}. A mask has "
            f"either ids or colours: give the same kind for all, also under data.ignored."
        )
    for key in kinds:
        owners: dict[tuple[int, ...] | int, str] = {}
        for who, entry in places:
            for value in entry.get(key) or ():
                value = tuple(value) if key == "colors" else value
                if value in owners:
                    also = "twice" if owners[value] == who else f"for {owners[value]} and for {who}"
                    problems.append(
                        f"data.classes: {brief(value)} is listed {also} ({key}). Remove it from one of them."
                    )
                owners[value] = who
    names = [entry["name"] for entry in entries]
    problems += [
        f"data.classes: two classes have the name {name!r}. To merge values into one class, give it several: "
        f"ids: [7, 8]."
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    number = sum(len(entry.get("colors") or ()) for _, entry in places)
    if number > MOST_COLORS:
        problems.append(f"data.classes: {number} colors, at most {MOST_COLORS} are possible.")
    return problems


def _unknown_key(where: str, key: Any, known: Sequence[str]) -> str:
    close = get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
    return f"{where}.{key}: there is no such key. Did you mean {close}? There are: {', '.join(known)}."


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_level(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_color(value: Any) -> bool:
    return _is_list(value) and len(value) == 3 and all(_is_level(part) for part in value)


def _color(value: Sequence[int]) -> Color:
    red, green, blue = value
    return red, green, blue
