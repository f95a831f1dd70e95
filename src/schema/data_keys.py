"""The keys of the data group, for src/schema/keys.py."""

from src.schema.kinds import Choice, Group, Integer, Kind, ListOf, Null, Number, Path, Text

SIDE = Integer(32, 2**14)
"""Pixels; CGNet needs at least 32 (its min_size)."""
_LEVEL = Number(0, 255)  # value of a pixel
STATISTICS = {
    "mean": ListOf(_LEVEL, 3),
    "std": ListOf(Number(1e-3, 255), 3),
}
WEIGHTS = ListOf(Number(0, 1e6), some_positive=True) | Choice(("labels",)) | Null()
SPLIT = Choice(("train", "val", "test", "trainval", "train_extra"))

DATA_KEYS: dict[str, Kind] = {
    "data.name": Text(),
    "data.root": Path("a path", empty=True) | Null(),
    "data.layout": Choice(("cityscapes", "camvid", "folder", "joined")),
    "data.images": Path("a pattern of paths") | Null(),
    "data.masks": Path("a pattern of paths") | Null(),
    "data.lists": Path("a pattern of paths") | Null(),
    "data.splits": Group(),
    "data.splits.train": Path("the name of a folder"),
    "data.splits.val": Path("the name of a folder"),
    "data.splits.test": Path("the name of a folder"),
    "data.labels": Text(),  # one of the tables in src/labels.py, or `classes`
    "data.classes": ListOf(Group()) | Null(),  # checked by src/label_tables.py
    "data.ignored": Group() | Null(),
    "data.ignored.ids": ListOf(Integer(0, 255), may_be_empty=True),
    "data.ignored.colors": ListOf(ListOf(Integer(0, 255), 3), may_be_empty=True),
    "data.parts": Group() | Null(),
    "data.num_classes": Integer(1, 255),
    "data.train_split": SPLIT,
    "data.val_split": SPLIT,
    "data.crop_size": ListOf(SIDE, 2),
    "data.mean": STATISTICS["mean"],
    "data.std": STATISTICS["std"],
    "data.class_weights": WEIGHTS,
    "data.batch_size": Integer(1, 2**16),
    "data.val_batch_size": Integer(1, 2**12),
    "data.num_workers": Integer(0, 2**10) | Choice(("auto",)),
    "data.cache": Choice(("auto", "none", "disk")),
    "data.street": Group() | Null(),
    "data.street.train": Integer(1, 10**5),
    "data.street.val": Integer(1, 10**5),
    "data.street.width": Integer(64, 2048),
    "data.street.height": Integer(32, 1024),
    "data.street.seed": Integer(0, 2**63 - 1),
    "data.split": SPLIT | Null(),  # of an evaluation
}

PART_KEYS: dict[str, Kind] = {
    **{key: DATA_KEYS[f"data.{key}"] for key in ("images", "masks", "lists", "splits", "classes", "ignored")},
    "layout": Choice(("cityscapes", "camvid", "folder")),
    "root": Path("a path") | Null(),
    "labels": Text() | Null(),
    "only": ListOf(Choice(("train", "val", "test"))) | Null(),
}
"""Keys below data.parts.<name>, of one of the datasets that are joined."""
