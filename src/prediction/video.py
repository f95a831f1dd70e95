"""The frames of a video, and a video of overlays."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError
from src.prediction.items import Item

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # else FFmpeg prints messages of its own about damage
VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
_FRAME_RATE = 25.0  # of a file that does not say it


class Video:
    """See `Source`. Frames are counted from 0, and read in order.

    Args:
        step: each n-th frame is taken.
    """

    readers = 1

    def __init__(self, path: Path, step: int):
        self.path = path
        self.refused: list[tuple[str, str]] = []
        self._step = step
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened() or not self._capture.grab():
            raise UserError(f"source={path}: no video that OpenCV can read. Is it damaged?")
        self._grabbed = 1  # frames so far
        self._frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))  # 0 = the file does not say
        self.frame_rate = (self._capture.get(cv2.CAP_PROP_FPS) or _FRAME_RATE) / step

    def __iter__(self) -> Iterator[Item]:
        for number in count(0, self._step):
            yield self._item(number)

    def __len__(self) -> int:
        return -(-self._frames // self._step)

    def find(self, name: str) -> Item | None:
        number = name.removeprefix(f"{self.path.name}/")
        return self._item(int(number)) if number.isdecimal() else None

    def modified(self, item: Item) -> float:
        return self.path.stat().st_mtime

    def _item(self, number: int) -> Item:
        return Item(f"{self.path.name}/{number:06d}", f"{self.path.stem}/{number:06d}", number)

    def read(self, item: Item) -> np.ndarray | None:
        """Items may be left out, but not be read again."""
        while self._grabbed <= item.place:
            if not self._capture.grab():
                self._check_end()
                return None
            self._grabbed += 1
        _, frame = self._capture.retrieve()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _check_end(self) -> None:
        """Notes an end that comes too early. Some formats only estimate the number of frames."""
        if self._frames - self._grabbed > max(1, self._frames // 100):
            reason = f"the video ends after {self._grabbed} of {self._frames} frames; is the file complete?"
            self.refused.append((self.path.name, reason))


class VideoWriter:
    """A video of RGB frames, which has its name only when it is complete.

    Args:
        path: ends with .mp4; its folder has to exist.
        frame_rate: frames per second.
    """

    def __init__(self, path: Path, frame_rate: float):
        self._path = path
        self._frame_rate = frame_rate
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
        self._writer: cv2.VideoWriter | None = None

    def write(self, rgb: np.ndarray) -> None:
        """Raises UserError if OpenCV cannot write videos here."""
        if self._writer is None:
            size = (rgb.shape[1], rgb.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")  # OpenCV's wheels have no H.264
            self._writer = cv2.VideoWriter(str(self._temporary), code, self._frame_rate, size)
            if not self._writer.isOpened():
                raise UserError(
                    f"{self._path}: OpenCV cannot write this video. Leave overlay out of output=."
                )
        self._writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Give the finished video its name."""
        if self._writer is not None:
            self._writer.release()
            self._temporary.replace(self._path)
