"""What a message says where a label does not fit its image or the label table."""

from collections.abc import Sequence

from src.data.layouts.listing import Pair
from src.errors import UserError
from src.label_tables import OWN, with_keys_of
from src.labels import IGNORE, LabelTable


def unknown_ids(pair: Pair, found: Sequence[int], table: LabelTable) -> UserError:
    """The error for a label with ids outside the table.

    Args:
        found: all ids in the label, in ascending order.
    """
    unknown = [number for number in found if not table.is_known[number]]
    if table.name == OWN:
        fix = with_keys_of(table.part, _fix(unknown, found, table))
        return UserError(f"{pair.label}: the ids {unknown} are not listed. {fix}")
    hint = ""
    if IGNORE in unknown and table.name == "cityscapes":
        hint = " 255 occurs in labelTrainIds files: this looks like one of them, not like a labelIds file."
    return UserError(
        f"{pair.label}: the ids {unknown} are not in the table of '{table.name}' "
        f"({min(e.id for e in table.labels)}-{max(e.id for e in table.labels)}).{hint} "
        f"Use the label files as downloaded, or set {with_keys_of(table.part, 'data.labels')} to the right "
        f"table."
    )


def _fix(unknown: Sequence[int], found: Sequence[int], table: LabelTable) -> str:
    """The usual mistakes with one's own masks, the most certain first."""
    listed = sorted(label.id for label in table.labels)
    classes = table.num_classes
    if unknown == [255] and classes == 2 and set(found) <= {0, 255}:
        name = table.class_names[1]
        return (
            f"The masks of two classes may be scaled to 0 and 255: then 255 is the class '{name}', ids: "
            f"[255]. If 255 marks pixels to ignore, set data.ignored.ids=[255]."
        )
    if unknown == [255]:
        return "255 usually marks pixels that are not labelled: then add 255 to data.ignored.ids."
    highest = max(number for number in listed if number != 255)
    if unknown[0] == highest + 1 and 0 not in found and min(listed) == 0:
        return (
            f"The masks seem to count from 1 to {unknown[0]}, data.classes from 0: add 1 to each id of "
            f"data.classes."
        )
    if unknown[0] == 0 and min(listed) == 1:
        return (
            "data.classes counts from 1, but the masks have a 0. If it is the background, list it as a class "
            "or under data.ignored.ids; if the masks count from 0, subtract 1 from each id of data.classes."
        )
    return f"data.classes and data.ignored list {listed}. Add the ids to a class, or to data.ignored.ids."


def size_mismatch(pair: Pair, image: Sequence[int], label: Sequence[int], table: LabelTable) -> UserError:
    fix = "Both must come from the same release; download or extract the pair again."
    if table.name == OWN:
        fix = "Resize the mask to its image, by nearest neighbour, or correct the pair."
    if image[0] != image[1] and tuple(image) == (label[1], label[0]):
        fix = f"One is turned: a camera's orientation tag (EXIF) is ignored here, so turn the pixels. {fix}"
    return UserError(
        f"{pair.label}: {label[1]}x{label[0]} pixels, but its image {pair.image.name} has "
        f"{image[1]}x{image[0]}. {fix}"
    )
