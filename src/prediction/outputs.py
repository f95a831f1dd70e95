"""Class maps, pictures and probabilities in files, one folder for each kind."""

import io
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from src.labels import LabelTable
from src.prediction.items import Item
from src.prediction.video import VideoWriter
from src.report.pictures import colorize, overlay, panel, write_image
from src.runs.atomic_files import write_bytes

SUFFIXES = {
    "train_ids": ".png",
    "label_ids": ".png",
    "color": ".png",
    "overlay": ".jpg",
    "panel": ".jpg",
    "probabilities": ".npy",
}
_PANEL_WIDTH = 1024  # pixels of each of its pictures, at most


class Outputs:
    """Writes the results of one image after the other, from several threads.

    Args:
        directory: gets one folder for each kind.
        kinds: of SUFFIXES.
        filmed: the overlays are a video, not a file for each image.
        video: writes it; None if it is complete.
    """

    def __init__(
        self,
        directory: Path,
        kinds: Sequence[str],
        table: LabelTable,
        filmed: bool = False,
        video: VideoWriter | None = None,
    ):
        self._directory = directory
        self._table = table
        self._video = video
        self._kinds = [kind for kind in kinds if not (filmed and kind == "overlay")]
        self._lettering = Lock()  # matplotlib's fonts are for one thread

    def path(self, kind: str, item: Item) -> Path:
        return self._directory / kind / f"{item.target}{SUFFIXES[kind]}"

    def to_look_at(self, item: Item) -> Path | None:
        """The picture of an image; None if there is none."""
        kinds = [kind for kind in ("panel", "overlay", "color") if kind in self._kinds]
        return self.path(kinds[0], item) if kinds else None

    def are_there(self, item: Item, modified: float) -> bool:
        """Whether all files of an image exist and are newer than it; they are written whole or not at all."""
        try:
            return all(self.path(kind, item).stat().st_mtime >= modified for kind in self._kinds)
        except OSError:
            return False

    def write(
        self, item: Item, image: np.ndarray, train_ids: np.ndarray, probabilities: np.ndarray | None
    ) -> np.ndarray:
        """Returns the number of pixels of each class (C,). Raises CannotWriteError.

        Args:
            image: uint8 (H, W, 3) RGB.
            train_ids: uint8 (H, W).
            probabilities: float32 (C, H, W), if they are among the kinds.
        """
        for kind in self._kinds:
            path = self.path(kind, item)
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "probabilities":
                assert probabilities is not None
                data = io.BytesIO()
                np.save(data, probabilities.astype(np.float16))
                write_bytes(path, data.getbuffer())
            else:
                write_image(path, self._picture(kind, item, image, train_ids))
        return self.film(image, train_ids)

    def film(self, image: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
        """Add a frame to the video, if there is one. Returns the same as `write`."""
        if self._video:
            self._video.write(overlay(image, train_ids, self._table))
        return np.bincount(train_ids.reshape(-1), minlength=self._table.num_classes)

    def _picture(self, kind: str, item: Item, image: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
        if kind == "train_ids":
            return train_ids
        if kind == "label_ids":
            return cv2.LUT(train_ids, self._table.to_label_id)
        if kind == "color":
            return colorize(train_ids, self._table)
        if kind == "overlay":
            return overlay(image, train_ids, self._table)
        with self._lettering:
            return panel([(item.name, image, None, train_ids)], self._table, _PANEL_WIDTH)
