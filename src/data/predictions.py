"""Prediction files in the format of Cityscapes' server: one PNG of label ids for each frame."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from src.data.files import HEADER_LENGTH, Source, decode_label, parse_header, read_bytes
from src.data.folders import files_below, is_folder
from src.data.layouts import LABEL_END
from src.errors import UserError, counted, shorten
from src.labels import LabelTable

_NAME = re.compile(r"[^_]+_\d+_\d+")
"""City, sequence and frame: the beginning of every file name."""


def find_predictions(folder: Path, labels: Sequence[Source]) -> list[Path]:
    """The prediction for each label file: `<city>_<sequence>_<frame>*.png` anywhere below the folder.

    Raises UserError that names the predictions that are missing, ambiguous, or belong to no label.
    """
    if not is_folder(folder):
        raise UserError(f"{folder}: no such folder. Give the folder that holds the predictions.")
    found: dict[str, list[Path]] = defaultdict(list)
    strange = []
    for path in files_below(folder):
        if isinstance(path, Path) and path.suffix == ".png":
            name = _NAME.match(path.name)
            if name:
                found[name.group()].append(path)
            else:
                strange.append(path)
    wanted = [label.name.removesuffix(LABEL_END) for label in labels]
    missing = [name for name in wanted if name not in found]
    twice = [paths for paths in found.values() if len(paths) > 1]
    extra = [path for name in sorted(found.keys() - set(wanted)) for path in found[name]] + strange
    problems = []
    if missing:
        problems.append(f"{counted(len(missing), 'prediction')} missing, of {len(wanted)} frames:")
        problems.append(shorten([f"{folder}/**/{name}*.png" for name in missing]))
    if twice:
        problems.append(f"{counted(len(twice), 'frame')} with more than one prediction:")
        problems.append(shorten([" and ".join(map(str, paths)) for paths in twice]))
    if extra:
        problems.append(f"{counted(len(extra), 'file')} for no frame of this split:")
        problems.append(shorten([str(path) for path in extra]))
    if problems:
        hint = "File names must begin with the frame's <city>_<sequence>_<frame>. Is it the right split?"
        raise UserError("\n".join([*problems, hint]))
    return [found[name][0] for name in wanted]


def read_prediction(path: Path, size: tuple[int, int], table: LabelTable) -> np.ndarray:
    """(H, W) uint8 label ids, including those that training ignores.

    Raises UserError for a file that is damaged, of another size or type, or has ids outside the table.

    Args:
        size: (height, width) of the ground truth.
    """
    data = read_bytes(path)
    header = parse_header(path, data[:HEADER_LENGTH], data[-12:])
    if (header.bits, header.mode) != (8, "grey"):
        raise UserError(
            f"{path}: a prediction must be an 8-bit PNG of one channel, this one is {header}. Write the "
            f"label ids as they are, not colours."
        )
    if header.size != size:
        raise UserError(
            f"{path}: {header.width}x{header.height} pixels, but the ground truth has {size[1]}x{size[0]}. "
            f"Predict at full size, or enlarge the class maps by nearest neighbour."
        )
    ids = decode_label(path, data)
    if not cv2.LUT(ids, table.is_known.astype(np.uint8)).all():
        unknown = np.unique(ids[~table.is_known[ids]]).tolist()
        raise UserError(
            f"{path}: the ids {unknown} are not in the table of '{table.name}' (0-{table.labels[-1].id}). "
            f"Predictions are label ids, not train ids."
        )
    return ids
