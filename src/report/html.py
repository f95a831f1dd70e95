"""HTML and SVG as nested calls. All text but `Html` is escaped, so a hostile name cannot add markup."""

import html
import math
import re
from typing import Any

NOTHING = "\u2013"  # shown where a value is unknown
_VOID = {"br", "col", "hr", "img", "input", "link", "meta"}
# Characters that XML or a screen cannot show; a lone surrogate (an undecodable file name) cannot be saved.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Markup, which is not escaped again."""

    __slots__ = ()


def escape(text: Any) -> Html:
    return Html(html.escape(_UNPRINTABLE.sub("\ufffd", str(text))))


def join(*parts: Any) -> Html:
    """The parts one after the other; None and False give nothing, a list or tuple gives its entries."""
    return Html("".join(_markup(part) for part in parts))


def _markup(part: Any) -> str:
    if part is None or part is False:
        return ""
    if isinstance(part, list | tuple):
        return join(*part)
    return part if isinstance(part, Html) else escape(part)


def h(element: str, *children: Any, **attributes: Any) -> Html:
    """`h("td", name, class_="number")`. An attribute that is None or False is left out, True gives the
    name without a value; an underscore at the end of a name is dropped, any other becomes a dash."""
    head = element
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        if isinstance(value, float):
            value = f"{value:.2f}".rstrip("0").rstrip(".")  # in drawings; to a hundredth of a pixel
        head += f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
    return Html(f"<{head}>" if element in _VOID else f"<{head}>{join(*children)}</{element}>")


def name(text: Any) -> Html:
    """A name from outside. <bdi> keeps right-to-left letters in it from reordering the text around it."""
    return h("bdi", text)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(fraction: Any, digits: int = 2) -> str:
    return f"{100 * fraction:.{digits}f}" if is_number(fraction) else NOTHING


def share(fraction: Any) -> str:
    """A percentage with two digits where it is small."""
    if not is_number(fraction):
        return NOTHING
    value = 100 * fraction
    digits = 0 if value >= 99.95 or value == 0 else 1 if value >= 1 else 2
    return "< 0.01 %" if 0 < value < 0.005 else f"{value:.{digits}f} %"


def number(value: Any) -> str:
    """For people: with thousands separators; fractions have four significant digits."""
    if not is_number(value):
        return NOTHING
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def pixels(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
