"""Submissions to Cityscapes' evaluation server: class maps of label ids, with its file names, in one zip.

The server's rules for pixel-level semantic labeling are those of the official scripts (cityscapesScripts,
README.md and evaluation/evalPixelLevelSemanticLabeling.py): one PNG of the image's size for each image, whose
pixels are label ids as in the *_labelIds.png files, and whose name is <city>_<sequence>_<frame>*.png.
https://www.cityscapes-dataset.com/submit
"""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError, shorten
from src.labels import CITYSCAPES, LabelTable
from src.runs.atomic_files import write_bytes

ENDING = "_labelIds.png"
"""Follows the image's name and tells people which kind of ids the file has. The server accepts any ending."""

NAME = re.compile(r"(?P<image>[^_/\\]+_\d{6}_\d{6})[^/\\]*\.png")
"""File name of a prediction, without folders."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # date that a zip archive can store


def check_can_submit(table: LabelTable, names: Sequence[str]) -> None:
    """Raises UserError where the server could not compare predictions for images of these names."""
    if table != CITYSCAPES:
        raise UserError(
            f"submission=true: data.labels={table.name} has no ids that Cityscapes' server knows. Only a "
            f"network for Cityscapes' 19 classes can be submitted; evaluate this one without submission=true."
        )
    strange = [name for name in names if not NAME.fullmatch(name + ENDING)]
    if strange:
        raise UserError(
            f"submission=true: {len(strange)} images have other names than <city>_123456_123456, by which "
            f"the server finds predictions, such as\n{shorten(strange)}"
        )


def write_prediction(folder: Path, name: str, train_ids: np.ndarray) -> None:
    """Write a class map, uint8 (H, W) train ids, as label ids to <folder>/<name>_labelIds.png."""
    label_ids = cv2.LUT(train_ids, CITYSCAPES.to_label_id)
    write_bytes(folder / f"{name}{ENDING}", cv2.imencode(".png", label_ids)[1].tobytes())


def write_archive(path: Path, files: Sequence[Path]) -> None:
    """Pack files, without their folders, sorted by name; equal files make a byte-identical archive.

    They are not compressed again, because PNGs are compressed. Raises CannotWriteError, and UserError where a
    file cannot be read.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(files, key=lambda file: file.name):
            entry = zipfile.ZipInfo(file.name, _EARLIEST)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix, readable by all
            try:
                archive.writestr(entry, file.read_bytes())
            except OSError as error:
                raise UserError(
                    f"{file}: cannot be read ({error.strerror}). Run the command again."
                ) from error
    write_bytes(path, buffer.getbuffer())
