"""Best and worst images: photo, ground truth, prediction and errors, one above the other."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from src.report.classes import SWATCHES, Colors, class_label
from src.report.html import Html, h, is_number, join, name, percent, share

_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")
_VIEWS = (
    ("image", "Image"),
    ("truth", "Truth"),
    ("prediction", "Prediction"),
    ("errors", "Errors"),
)
_FIRST_VIEW = "prediction"
_BINS = 20


def image_sections(
    found: Mapping[str, Any] | None, classes: Sequence[str] = (), colors: Colors = ()
) -> Html | None:
    """The section for what `best_and_worst` wrote; None if that has no pictures."""
    if not found:
        return None
    groups = [
        (title, [entry for entry in found.get(key) or [] if _is_whole(entry)])
        for key, title in (("worst", "Worst"), ("best", "Best"))
    ]
    groups = [(title, entries) for title, entries in groups if entries]
    if not groups:
        return None
    start, parts = 0, []
    for title, entries in groups:
        cards = [_card(entry, start + index) for index, entry in enumerate(entries)]
        start += len(cards)
        parts.append(join(h("h3", title), h("div", *cards, class_="shots")))
    about = h(
        "p",
        "By the mean IoU over the classes of each image's ground truth. Unlabelled pixels show the image; "
        "errors are red on the darkened image.",
        class_="note",
    )
    return join(_histogram(found.get("all") or []), about, control(_VIEWS), legend(classes, colors), parts)


def legend(classes: Sequence[str], colors: Colors) -> Html | None:
    """The classes with their colours; None where there are too many."""
    if not colors or len(colors) > SWATCHES:
        return None
    entries = [h("li", class_label(index, title, colors)) for index, title in enumerate(classes)]
    return h("ul", *entries, class_="legend", aria_label="Colours of the classes")


def _is_whole(entry: Any) -> bool:
    """Whether all pictures of an entry are inline PNGs or JPEGs; any other entry is not shown."""
    keys = ("image", "truth", "prediction", "errors")
    return isinstance(entry, Mapping) and all(
        isinstance(entry.get(key), str) and _PICTURE.fullmatch(entry[key]) for key in keys
    )


def control(views_of_all: Sequence[tuple[str, str]], chosen: str = _FIRST_VIEW) -> Html:
    """The controls for all images at once; hidden until the script runs."""
    views = [
        h(
            "label",
            h("input", type="radio", name="all", value=key, checked=key == chosen),
            h("span", text),
        )
        for key, text in views_of_all
    ]
    slider = h("input", type="range", id="strength", min="0", max="100", value="65")
    return h(
        "div",
        h("fieldset", h("legend", "All images"), h("div", *views, class_="views")),
        h("label", h("span", "Opacity"), slider, class_="slider"),
        class_="control",
        id="all-images",
        hidden=True,
    )


def _card(entry: Mapping[str, Any], index: int) -> Html:
    facts = [f"{share(entry.get('wrong'))} of the pixels wrong"]
    if entry.get("confused"):
        truth, prediction = entry["confused"]
        facts += [join("mostly ", name(truth), " taken for ", name(prediction))]
    heading = join(h("b", f"{percent(entry.get('mIoU'), 1)} %"), " ", name(entry.get("name", "")))
    about = join(facts[0], facts[1:] and join(", ", facts[1]))
    return shot(entry, _VIEWS, index, heading, about, chosen=_FIRST_VIEW)


def shot(
    entry: Mapping[str, Any],
    views: Sequence[tuple[str, str]],
    index: int,
    heading: Html,
    about: Html,
    chosen: str,
) -> Html:
    """A picture with a choice of views of it: the photo, and layers over it.

    Args:
        entry: `name`, and a data URI for the key of each view.
        views: key and text of each; the first is the photo. The keys are classes of style.css.
        index: of the picture on its page.
        chosen: key of the view that is shown first.
    """
    title = entry.get("name", "")
    (photo, _), *layers = views
    pictures = [h("img", src=entry[photo], alt=f"{title}: the image", class_="photo")]
    pictures += [
        h("img", src=entry[key], alt=f"{title}: {text.lower()}", class_=f"layer {key}")
        for key, text in layers
    ]
    choices = [
        h(
            "label",
            h("input", type="radio", name=f"view-{index}", value=key, checked=key == chosen),
            h("span", text),
        )
        for key, text in views
    ]
    return h(
        "figure",
        h("div", *pictures, class_="stack"),
        h("figcaption", h("div", heading, class_="title"), h("div", about, class_="quiet")),
        h("fieldset", h("legend", f"View of {title}", class_="sr"), h("div", *choices, class_="views")),
        class_="shot",
    )


def _histogram(values: Sequence[Any]) -> Html | None:
    """A histogram of the images' mIoU."""
    known = [value for value in values if is_number(value) and 0 <= value <= 1]
    if len(known) < 2:
        return None
    counts = [0] * _BINS
    for value in known:
        counts[min(int(value * _BINS), _BINS - 1)] += 1
    tallest = max(counts)
    bars = [
        h(
            "rect",
            h("title", f"{5 * i} to {5 * i + 5} %: {count} of {len(known)} images"),
            x=10 + 17.0 * i,
            y=64 - 56 * count / tallest,
            width=16,
            height=56 * count / tallest,
            class_="fill",
        )
        for i, count in enumerate(counts)
        if count
    ]
    marks = [
        h("text", f"{mark}", x=10 + 3.4 * mark, y=80, class_="tick middle") for mark in range(0, 101, 20)
    ]
    axis = h("line", x1=10, x2=350, y1=64.5, y2=64.5, class_="grid")
    middle = sorted(known)[len(known) // 2]
    caption = f"mIoU of each of {len(known):,} images, %; the median is {percent(middle, 1)}"
    drawing = h(
        "svg",
        h("title", caption),
        axis,
        *bars,
        *marks,
        viewBox="0 0 360 86",
        role="img",
        class_="chart small",
    )
    return h("figure", h("figcaption", caption, class_="quiet"), drawing, class_="spread")
