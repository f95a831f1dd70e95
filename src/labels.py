"""Class names, colours and the tables between label ids (as stored in files) and train ids (as learned).

Sources: Cityscapes, the official table (cityscapesScripts, helpers/labels.py); CamVid, the 11 classes of the
480x360 release that SegNet and CGNet use, with SegNet's colours.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from src.errors import UserError, shorten

IGNORE = 255
"""Train id of pixels that neither the loss nor any metric counts."""

PER_LABEL = 1000
"""The id of an instance is 1000 * label id + number. Pixels of groups, and of labels without instances, have
the label id itself."""


Color = tuple[int, int, int]
"""Red, green, blue, each 0-255."""


@dataclass(frozen=True)
class Label:
    name: str
    id: int  # value in the label file
    train_id: int  # value in the target, or IGNORE
    category: str
    has_instances: bool  # distinguishable instances, so that iIoU is defined
    color: Color  # in pictures


@dataclass(frozen=True)
class LabelTable:
    """The label ids that may stand in a dataset's files and the classes they become.

    Labels with the same train id form one class. Its name joins their names, as in "car + truck", or is the
    one name that all of them share; its id, category and colour are those of the first label.

    mask_colors: where it is not empty, the files have colours: the pixels of mask_colors[i] have the id i.
    part: of a joined dataset, whose classes the table becomes; it may lack some of them.

    Raises UserError where the train ids are not 0, 1, 2, ... or an id or a class's name occurs twice.
    """

    name: str
    labels: tuple[Label, ...]
    mask_colors: tuple[Color, ...] = ()
    part: str = ""

    def __post_init__(self) -> None:
        problems = _problems(self.labels, may_lack=bool(self.part))
        if not problems:  # otherwise the classes cannot be built
            problems = [f"{name!r} is the name of two classes" for name in _twice(self.class_names)]
        if problems:
            raise UserError(f"The label table '{self.name}' is not valid:\n{shorten(problems)}")

    @cached_property
    def train_labels(self) -> tuple[Label, ...]:
        """A label for each class, in the order of the train ids."""
        classes: dict[int, list[Label]] = {}
        for label in self.labels:
            if label.train_id != IGNORE:
                classes.setdefault(label.train_id, []).append(label)
        return tuple(_merge(classes[train_id]) for train_id in sorted(classes))

    @cached_property
    def categories(self) -> dict[str, tuple[Label, ...]]:
        """For each category, its classes and its labels that are not learned, in table order. Categories
        in which nothing is learned (void) are left out."""
        classes = {label.id: label for label in self.train_labels}
        groups: dict[str, list[Label]] = {}
        for label in self.labels:
            if label.id in classes or label.train_id == IGNORE:
                groups.setdefault(label.category, []).append(classes.get(label.id, label))
        return {
            name: tuple(members)
            for name, members in groups.items()
            if any(member.train_id != IGNORE for member in members)
        }

    @property
    def has_categories(self) -> bool:
        """Whether a category has more than one member, and each class belongs to exactly one category."""
        places = {(label.train_id, label.category) for label in self.labels if label.train_id != IGNORE}
        return len(places) == self.num_classes and any(
            len(members) > 1 for members in self.categories.values()
        )

    @property
    def has_instances(self) -> bool:
        return any(label.has_instances for label in self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.train_labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(e.name for e in self.train_labels)

    @cached_property
    def colors(self) -> np.ndarray:
        """(256, 3) uint8 RGB per train id; black for IGNORE and for ids that are no class."""
        table = np.zeros((256, 3), np.uint8)
        for label in self.train_labels:
            table[label.train_id] = label.color
        return table

    @cached_property
    def to_train_id(self) -> np.ndarray:
        """(256,) uint8, label id -> train id; an id outside the table becomes IGNORE (see `is_known`)."""
        table = np.full(256, IGNORE, np.uint8)
        for label in self.labels:
            table[label.id] = label.train_id
        return table

    @cached_property
    def is_known(self) -> np.ndarray:
        """(256,) bool, whether the table has a label id."""
        table = np.zeros(256, bool)
        table[[e.id for e in self.labels]] = True
        return table

    @cached_property
    def fingerprint(self) -> bytes:
        """Changes if the same file would become other train ids."""
        colors = bytes(value for color in self.mask_colors for value in color)
        return self.to_train_id.tobytes() + self.is_known.tobytes() + colors

    @cached_property
    def to_label_id(self) -> np.ndarray:
        """(256,) uint8, train id -> label id, for predictions to the Cityscapes server. A class of several
        labels gets the id of the first one; values that are no class become 0."""
        table = np.zeros(256, np.uint8)
        for label in self.train_labels:
            table[label.train_id] = label.id
        return table


def _merge(labels: list[Label]) -> Label:
    """One class of all labels with one train id."""
    names = list(dict.fromkeys(label.name for label in labels))
    name = " + ".join(names if len(names) <= _NAMED else [names[0], f"{len(names) - 1} more"])
    return replace(labels[0], name=name, has_instances=all(label.has_instances for label in labels))


_NAMED = 4  # labels at most that a class's name lists


def _problems(labels: tuple[Label, ...], may_lack: bool) -> list[str]:
    ids = [label.id for label in labels]
    found = sorted({label.train_id for label in labels} - {IGNORE})
    problems = [f"the label id {number} occurs twice" for number in _twice(ids)]
    problems += [f"the label id {number} is not one of 0 to 255" for number in ids if not 0 <= number <= 255]
    if not found:
        problems.append(f"no label is learned: all have the train id {IGNORE} (ignored)")
    elif not may_lack and found != list(range(len(found))):
        problems.append(
            f"its train ids are {found}, but must be 0, 1, 2, ... without a gap, and {IGNORE} for "
            f"ignored labels. Labels may share a train id: they then form one class"
        )
    return problems


def _twice(values: Iterable[object]) -> list[object]:
    return [value for value, count in Counter(values).items() if count > 1]


def _cityscapes() -> LabelTable:
    rows = """
        unlabeled            0 255 void         0   0   0   0
        ego_vehicle          1 255 void         0   0   0   0
        rectification_border 2 255 void         0   0   0   0
        out_of_roi           3 255 void         0   0   0   0
        static               4 255 void         0   0   0   0
        dynamic              5 255 void         0 111  74   0
        ground               6 255 void         0  81   0  81
        road                 7   0 flat         0 128  64 128
        sidewalk             8   1 flat         0 244  35 232
        parking              9 255 flat         0 250 170 160
        rail_track          10 255 flat         0 230 150 140
        building            11   2 construction 0  70  70  70
        wall                12   3 construction 0 102 102 156
        fence               13   4 construction 0 190 153 153
        guard_rail          14 255 construction 0 180 165 180
        bridge              15 255 construction 0 150 100 100
        tunnel              16 255 construction 0 150 120  90
        pole                17   5 object       0 153 153 153
        polegroup           18 255 object       0 153 153 153
        traffic_light       19   6 object       0 250 170  30
        traffic_sign        20   7 object       0 220 220   0
        vegetation          21   8 nature       0 107 142  35
        terrain             22   9 nature       0 152 251 152
        sky                 23  10 sky          0  70 130 180
        person              24  11 human        1 220  20  60
        rider               25  12 human        1 255   0   0
        car                 26  13 vehicle      1   0   0 142
        truck               27  14 vehicle      1   0   0  70
        bus                 28  15 vehicle      1   0  60 100
        caravan             29 255 vehicle      1   0   0  90
        trailer             30 255 vehicle      1   0   0 110
        train               31  16 vehicle      1   0  80 100
        motorcycle          32  17 vehicle      1   0   0 230
        bicycle             33  18 vehicle      1 119  11  32
    """  # name, id, train id, category, has instances, red, green, blue
    labels = []
    for row in rows.strip().splitlines():
        name, number, train_id, category, instances, *color = row.split()
        red, green, blue = map(int, color)
        labels.append(
            Label(
                name.replace("_", " "), int(number), int(train_id), category,
                instances == "1", (red, green, blue),
            )
        )  # fmt: skip
    return LabelTable("cityscapes", tuple(labels))


def _camvid() -> LabelTable:
    rows = (
        ("sky", (128, 128, 128)),
        ("building", (128, 0, 0)),
        ("pole", (192, 192, 128)),
        ("road", (128, 64, 128)),
        ("pavement", (60, 40, 222)),
        ("tree", (128, 128, 0)),
        ("sign", (192, 128, 128)),
        ("fence", (64, 64, 128)),
        ("car", (64, 0, 128)),
        ("pedestrian", (64, 64, 0)),
        ("bicyclist", (0, 128, 192)),
    )
    classes = tuple(Label(name, i, i, name, False, color) for i, (name, color) in enumerate(rows))
    return LabelTable("camvid", (*classes, Label("void", 11, IGNORE, "void", False, (0, 0, 0))))


CITYSCAPES = _cityscapes()
CAMVID = _camvid()
LABEL_TABLES = {table.name: table for table in (CITYSCAPES, CAMVID)}
