"""What is wrong with listed classes: each entry by itself, and all together."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from src.errors import brief

MOST_COLORS = 255
"""Of masks with colours: each listed colour becomes an id, and one id is left for colours not listed."""

_KEYS = ("name", "color", "ids", "colors")


def problems_of_classes(entries: Sequence[Any], ignored: Any, least: int) -> list[str]:
    """A line for each problem of data.classes, of which there must be `least`, and of data.ignored."""
    if len(entries) > MOST_COLORS:
        return [f"data.classes: {len(entries)} classes, at most {MOST_COLORS} are possible."]
    problems = _problems_of_ignored(ignored)
    for number, entry in enumerate(entries):
        problems += _problems_of_class(f"data.classes[{number}]", entry)
    return problems or _problems_of_all(entries, ignored or {}, least)


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
    wrong = _problems_of_values(where, entry)
    if not wrong and not entry.get("ids") and not entry.get("colors"):
        wrong.append(
            f"{where} ({name}): no value of the masks becomes this class. Give ids: [7], or colors: "
            f"[[128, 64, 128]] for RGB masks."
        )
    return problems + wrong


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
    if ids is not None and not (is_list(ids) and all(_is_level(value) for value in ids)):
        fix = f" Write ids: [{ids}]." if _is_level(ids) else ""
        problems.append(f"{where}.ids={brief(ids)}: expected a list of whole numbers from 0 to 255.{fix}")
    if colors is not None and not (is_list(colors) and all(_is_color(value) for value in colors)):
        fix = f" Write colors: [{list(colors)}]." if _is_color(colors) else ""
        problems.append(
            f"{where}.colors={brief(colors)}: expected a list of [red, green, blue], each from 0 to 255.{fix}"
        )
    return problems


def _problems_of_all(
    entries: Sequence[Mapping[str, Any]], ignored: Mapping[str, Any], least: int
) -> list[str]:
    """What is wrong with the classes together, where each for itself is right."""
    if len(entries) < least:
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


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_level(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_color(value: Any) -> bool:
    return is_list(value) and len(value) == 3 and all(_is_level(part) for part in value)
