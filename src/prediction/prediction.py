"""A prediction, from its config to its files: it is prepared, then run."""

import logging
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from src.data.files import read_label
from src.errors import IncompleteError, UserError, counted, shorten
from src.inference import load
from src.inference.exports.exported_network import OtherSizeError
from src.inference.image_memory import WINDOW, check_image
from src.network.upsample import best_class
from src.prediction.image_files import open_source
from src.prediction.items import Item
from src.prediction.outputs import Outputs
from src.prediction.overlap import read_ahead
from src.prediction.progress import Rate
from src.prediction.results import Results
from src.prediction.shares import Shares
from src.prediction.video import VideoWriter
from src.report.pictures import TooLargeError
from src.runs.allocator import give_back_freed_memory
from src.runs.directory import Run
from src.weights.shipped import SHA256

log = logging.getLogger(__name__)

_AHEAD = 2**28
"""Bytes of images that are read ahead, and of those that wait to be written; but at least one image each."""
_LARGE = 2**26
"""Bytes of an image whose class map takes so long that memory can be cleared for each."""

_LARGE_RATIO = 3
"""Sides of an image to those of a training crop. Frames of Cityscapes are twice as large as most crops."""


class Prediction:
    """Prepares a prediction. Raises UserError for every error it can find, before the run directory is made.

    Args:
        config: the config of src.predict.
    """

    def __init__(self, config: DictConfig):
        planned = Run.plan(config)
        values = planned.config
        files = ("source",) if values["checkpoint"] in SHA256 else ("checkpoint", "source")
        for key in files:  # the same, whatever folder the command is repeated in
            values[key] = str(Path(values[key]).expanduser().absolute())
        own = [Path(values["runs_dir"]).expanduser(), planned.directory]
        self._source = open_source(values["source"], own, values["frame_step"])
        kinds = [values["output"]] if isinstance(values["output"], str) else values["output"]
        self._films = self._source.frame_rate is not None and "overlay" in kinds
        # An interrupted video of overlays continues from its train ids.
        self._kinds = list(dict.fromkeys([*kinds, *(["train_ids"] if self._films else [])]))
        self._results = Results(Run(planned.directory, values), self._kinds)
        trust = values["trust"] or ()
        self._predictor = load(
            values["checkpoint"],
            values["engine"],
            values["precision"],
            values["device"],
            tta=values["tta"],
            window=values["window"],
            stride=values["stride"],
            input_scale=values["input_scale"],
            trust=[trust] if isinstance(trust, str) else trust,
            images=len(self._source),
        )
        if "probabilities" in kinds:
            self._predictor.check_scores()
        self._crop = self._predictor.crop_size if values["input_scale"] == 1 else None
        self._largest = 1  # bytes of an image and its probabilities, so far
        self._skipped = list(self._source.refused)

    def run(self) -> None:
        """Raises IncompleteError at the end if something could not be predicted."""
        cv2.setNumThreads(0)  # several images at a time keep the cores busy
        self._results.open(self._predictor)
        directory, source, table = self._results.directory, self._source, self._predictor.table
        film = directory / "overlay" / f"{source.path.stem}.mp4"
        filmed = film.exists() and film.stat().st_mtime >= source.path.stat().st_mtime
        video = VideoWriter(film, source.frame_rate or 1) if self._films and not filmed else None
        outputs = Outputs(directory, self._kinds, table, filmed=self._films, video=video)

        def is_done(name: str) -> bool:
            item = source.find(name)
            return item is not None and outputs.are_there(item, source.modified(item))

        shares = Shares(directory / "shares.csv", table.class_names, is_done)
        for name, reason in self._skipped:
            log.warning("Left out %s: %s", name, reason)
        before = shares.images
        if before:
            log.info("%s complete already.", counted(before, "image"))
        rate = Rate(max(0, len(source) - before))
        try:
            self._predict_all(outputs, shares, rate, again=video is not None)
        except KeyboardInterrupt:
            log.info("Interrupted. The same command with name=%s continues.", self._results.name)
            raise
        finally:
            rate.close()
            shares.close()
        if video:
            video.close()
        self._skipped += [entry for entry in source.refused if entry not in self._skipped]
        first = next(iter(source), None)
        look = film if self._films or first is None else outputs.to_look_at(first)
        self._results.finish(
            shares, self._skipped, rate.per_second, look if look and look.is_file() else None
        )
        if self._skipped:
            lines = [f"  {name}: {reason}" for name, reason in self._skipped]
            raise IncompleteError(
                f"{counted(len(lines), 'image')} left out:\n{shorten(lines, 20)}\nThe same command with "
                f"name={self._results.name} tries them again. predictions.json lists them all."
            )

    def _predict_all(self, outputs: Outputs, shares: Shares, rate: Rate, again: bool) -> None:
        """Read, predict and write at the same time.

        Args:
            again: images that are done are shown, too, since a video needs all of them.
        """
        items = (item for item in self._source if again or item.name not in shares.done)
        writing: deque[tuple[Item, tuple[int, int], Future[np.ndarray]]] = deque()

        def note() -> None:
            item, size, future = writing.popleft()
            try:
                counts = future.result()
            except TooLargeError as error:
                self._skip(item, UserError(f"{error.text} Choose output=color."), rate)
                return
            if item.name not in shares.done:
                shares.add(item.name, size, counts)
                rate.step()

        threads = self._source.readers
        with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
            try:
                for item, image in read_ahead(readers, self._read, items, self._depth):
                    if image is None:
                        break
                    if isinstance(image, UserError):
                        self._skip(item, image, rate)
                        continue
                    size, probabilities = (image.shape[0], image.shape[1]), None
                    self._warn_of_size(item.name, size)
                    if item.name in shares.done:
                        train_ids = read_label(outputs.path("train_ids", item))
                        future = writers.submit(outputs.film, image, train_ids)
                    else:
                        try:
                            train_ids, probabilities = self._predict(image)
                        except torch.OutOfMemoryError:
                            too_large = UserError(f"the GPU's memory is too small for it. Set {WINDOW}.")
                            self._skip(item, too_large, rate)
                            continue
                        except OtherSizeError as error:
                            self._skip(item, error, rate)
                            continue
                        rate.begin()
                        future = writers.submit(outputs.write, item, image, train_ids, probabilities)
                    writing.append((item, size, future))
                    del image, probabilities  # else they stay in memory until the next ones are there
                    while len(writing) > self._depth():
                        note()
            finally:  # also of a command that is interrupted: what is written is noted
                while writing:
                    note()

    def _warn_of_size(self, name: str, size: tuple[int, int]) -> None:
        """Once, of an image in which things are probably larger than the network has seen them."""
        if self._crop is None:  # or the user has chosen the scale, or has been warned
            return
        ratio = math.sqrt(math.prod(size) / math.prod(self._crop))
        if ratio > _LARGE_RATIO:
            log.warning(
                "WARNING: %s has %dx%d pixels, and the network was trained on crops of %dx%d. If things look "
                "larger in it than in the training images, choose a smaller input_scale, such as %.1g.",
                name,
                *reversed(size),
                *reversed(self._crop),
                1.5 / ratio,
            )
            self._crop = None

    def _depth(self) -> int:
        return max(1, min(self._source.readers + 1, _AHEAD // self._largest))

    def _read(self, item: Item) -> np.ndarray | UserError | None:
        """The image, or why it cannot be predicted."""
        try:
            image = self._source.read(item)
            if image is not None:
                check_image(self._predictor, (image.shape[0], image.shape[1]))
        except UserError as error:
            return error
        return image

    def _predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if "probabilities" not in self._kinds:
            train_ids, probabilities = self._predictor(image), None
        else:
            probabilities = self._predictor.probabilities(image)
            train_ids = best_class(torch.from_numpy(probabilities)[None])[0].numpy()
        if image.nbytes > _LARGE:
            give_back_freed_memory()
        self._largest = max(
            self._largest, image.nbytes + (0 if probabilities is None else probabilities.nbytes)
        )
        return train_ids, probabilities

    def _skip(self, item: Item, error: UserError, rate: Rate) -> None:
        rate.skip()
        reason = error.text.removeprefix(f"{item.place}: ")
        self._skipped.append((item.name, reason))
        log.warning("Left out %s: %s", item.name, reason)
