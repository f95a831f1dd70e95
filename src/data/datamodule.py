"""The only place where the data path uses Lightning: splits, loaders and each device's share."""

import logging
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from src.data import statistics
from src.data.augment import SeededTransform
from src.data.checks.pairs import check_pairs
from src.data.dataset import SegmentationDataset
from src.data.frame_cache.modes import open_cache
from src.data.instance_ids import find_instances
from src.data.layouts import Pair, find_pairs, share_images
from src.data.originals import Originals
from src.data.samplers import EvalBatchSampler, TrainSampler
from src.data.steps import build_steps, check_steps
from src.errors import UserError, counted
from src.label_tables import left_out, table_of
from src.labels import CITYSCAPES
from src.runs.machine import cores_of_a_device, usable_cores
from src.runs.open_files import allow_open_files, check_workers
from src.street import write_street

log = logging.getLogger(__name__)


class SegmentationDataModule(LightningDataModule):
    """Batches {"image": uint8 (B, 3, H, W) RGB, "target": uint8 (B, H, W) train ids, "name": list of str}.

    Validation batches also have "instances", int32 (B, H, W), if they are requested and the files exist.

    Args:
        data: the values of a file in conf/data.
        augment: the values of a file in conf/augment; None where there is no training.
        unlabelled_split: training has the images of this split, too, with targets that are IGNORE everywhere.
        seed: of the order of the samples and of their augmentation.
        cache_dir: where decoded frames and class frequencies are kept.
        needs_labels: True refuses a validation split without public labels. False is for prediction alone:
            targets without labels are IGNORE everywhere.
        instances: whether validation samples shall have "instances".
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        augment: Mapping[str, Any] | None = None,
        seed: int = 0,
        cache_dir: str | Path = ".cache",
        needs_labels: bool = True,
        instances: bool = False,
        unlabelled_split: str | None = None,
    ):
        super().__init__()
        self.config = data
        self.augment = augment
        self.seed = seed
        self.cache_dir = cache_dir
        self.needs_labels = needs_labels
        self.instances = instances
        self.unlabelled_split = unlabelled_split
        self.table = table_of(data)
        for line in left_out(data):
            log.info("%s", line)
        self.train_set: SegmentationDataset | None = None
        self.val_set: SegmentationDataset | None = None
        self.train_sizes: list[tuple[int, int]] = []
        self.val_sizes: list[tuple[int, int]] = []
        self.begin = (0, 0)
        self.originals: Originals | None = None

    def prepare_data(self) -> None:
        """Draws the synthetic street, once; any other dataset must exist already."""
        street = self.config["street"]
        if not street:
            return
        splits = {split: street[split] for split in ("train", "val")}
        megapixels = sum(splits.values()) * street["width"] * street["height"] / 1e6
        write_street(
            Path(self.config["root"]).expanduser(),
            splits,
            width=street["width"],
            height=street["height"],
            seed=street["seed"],
            workers=usable_cores() if megapixels > 50 else 0,  # starting processes takes seconds, too
            progress=_say_every_quarter,
        )

    def setup(self, stage: str | None = None) -> None:
        """Finds and checks the files; a second call does nothing. Raises UserError with the fix."""
        if stage in (None, "fit") and self.train_set is None:
            assert self.augment is not None, "training needs an augmentation"
            steps = build_steps(self.augment, self.config["mean"])
            train_set, self.train_sizes = self._open(self.config["train_split"], needs_labels=True)
            if self.unlabelled_split:
                self._add_unlabelled(train_set, self.unlabelled_split)
            size = check_steps(self.augment, self.config["mean"], self.train_sizes)
            train_set.transform = SeededTransform(list(steps.values()), self.seed, size)
            self.train_set = train_set
        if self.val_set is None:
            self.val_set, self.val_sizes = self._open(self.config["val_split"], self.needs_labels)
            if self.instances:
                self.val_set.instances = find_instances(self.val_set.pairs, self.val_sizes, self.table)

    def _open(self, split: str, needs_labels: bool) -> tuple[SegmentationDataset, list[tuple[int, int]]]:
        name, root = self.config["name"], self.config["root"]
        pairs = find_pairs(self.config["layout"], root, split, self.config)
        unlabelled = [pair.name for pair in pairs if pair.label is None]
        if needs_labels and unlabelled:
            server = "python -m src.eval with submission=true writes predictions for Cityscapes' server."
            maps = "python -m src.predict source=<its images> makes class maps."
            raise UserError(
                f"{unlabelled[0]}: the split '{split}' of {root} has no public labels: no ground truth. "
                f"{server if self.table == CITYSCAPES else maps}"
            )
        sizes = check_pairs(pairs, self.table)
        log.info("%s at %s: %d images in the split '%s'", name, root, len(pairs), split)
        return SegmentationDataset(pairs, self.table), sizes

    def _add_unlabelled(self, train_set: SegmentationDataset, split: str) -> None:
        if share_images(split, self.config["val_split"]):
            raise UserError(
                f"teacher.unlabelled_split={split}: it has images of the validation, whose result would say "
                f"nothing about new images. Choose another split."
            )
        more, sizes = self._open(split, needs_labels=False)
        used = {pair.image for pair in train_set.pairs}
        if shared := [pair for pair in more.pairs if pair.image in used]:
            raise UserError(
                f"teacher.unlabelled_split={split}: {shared[0].image} is a training image of the split "
                f"'{self.config['train_split']}' already. Choose another split."
            )
        train_set.pairs = [*train_set.pairs, *(replace(pair, label=None) for pair in more.pairs)]
        self.train_sizes += sizes
        log.info("The %d images of '%s' are learned from the teacher alone, without labels", len(more), split)

    def frames(self) -> tuple[list[Pair], list[tuple[int, int]]]:
        """The pairs of all splits that were set up, each once, with (height, width) of each."""
        both: dict[Pair, tuple[int, int]] = {}
        for dataset, sizes in ((self.train_set, self.train_sizes), (self.val_set, self.val_sizes)):
            if dataset is not None:
                both |= dict(zip(dataset.pairs, sizes, strict=True))
        return [*both], [*both.values()]

    def cache_frames(self) -> None:
        """Lets the datasets read decoded frames from the cache, as data.cache says; fills it if needed.

        Not a part of `setup`, because it may take minutes and many gigabytes: all checks come before it. An
        evaluation reads each frame only once: with "auto" it uses a complete cache, and adds no frames.
        """
        root = Path(self.config["root"])
        once = self.train_set is None
        cache = open_cache(
            self.config["cache"], Path(self.cache_dir), root, self.table, *self.frames(), used_once=once
        )
        self.originals = Originals(self.frames()[0], self.table)
        for dataset in (self.train_set, self.val_set):
            if dataset is not None:
                dataset.read = cache.read if cache else self.originals.read_pair

    def class_weights(self, weights: list[float] | str | None) -> list[float] | None:
        """One weight per class for the loss: as given, or computed from the training labels for "labels"."""
        if weights == "labels":
            assert self.train_set is not None, "call setup('fit') first"
            labelled = [pair for pair in self.train_set.pairs if pair.label is not None]
            return statistics.class_weights(labelled, self.table, self.cache_dir)
        assert not isinstance(weights, str)
        return weights

    # When a run resumes, Lightning continues to count batches, but restarts the loader at its first batch;
    # and the workers fetch their first indices before the sampler is told the epoch.
    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        # `processed`, because `completed` does not count the batch at whose end a checkpoint is written.
        batches = loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        epochs: Any = loop.epoch_progress.current
        is_over = epochs.completed < epochs.processed  # perhaps early, by max_time: the rest is left out
        files = {"files": self.originals.digests()} if self.originals else {}
        return files | {
            "next_epoch": epochs.processed,
            "next_batch": 0 if is_over else batches % self.trainer.num_training_batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.begin = (state_dict["next_epoch"], state_dict["next_batch"])
        if self.originals is not None and "files" in state_dict:  # older checkpoints have none
            self.originals.compare(state_dict["files"])

    def train_dataloader(self) -> DataLoader:
        assert self.train_set is not None
        assert self.trainer is not None
        sampler = TrainSampler(
            len(self.train_set),
            self.config["batch_size"],
            self.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
            self.trainer.accumulate_grad_batches,
            *self.begin,
        )
        return DataLoader(
            self.train_set, batch_size=sampler.per_device, sampler=sampler, drop_last=True, **self._loading()
        )

    def val_dataloader(self) -> DataLoader:
        assert self.val_set is not None
        assert self.trainer is not None
        batches = EvalBatchSampler(
            self.val_sizes, self.config["val_batch_size"], self.trainer.global_rank, self.trainer.world_size
        )
        return DataLoader(self.val_set, batch_sampler=batches, **self._loading())

    def check_shares(self, world_size: int, accumulate: int) -> None:
        """Raises UserError where the batch or the validation set cannot be divided among the devices."""
        total, parts = self.config["batch_size"], world_size * accumulate
        if total % parts:
            fits = [n for n in range(1, total + 1) if total % n == 0]
            raise UserError(
                f"data.batch_size={total} is the total of one optimizer step and cannot be shared out "
                f"equally over {counted(world_size, 'device')} x {accumulate} accumulated batches = "
                f"{parts} parts. "
                f"Choose a number of parts that divides it ({', '.join(map(str, fits))}), or another "
                f"data.batch_size (another recipe)."
            )
        if self.train_set is not None and len(self.train_set) < total:
            raise UserError(
                f"The split '{self.config['train_split']}' of {self.config['root']} has "
                f"{len(self.train_set)} images, fewer than one batch (data.batch_size={total}): there would "
                f"be no training step. Choose a smaller data.batch_size."
            )
        self.check_devices(world_size)

    def check_devices(self, world_size: int) -> None:
        """Raises UserError where a device would have nothing to validate, or where there are too many workers
        for the cores, the memory or the limit of open files."""
        workers = self.workers(world_size)
        check_workers(workers, 2 if self.train_set else 1)
        allow_open_files(workers)
        if self.val_set is None:
            return
        batches = len(EvalBatchSampler(self.val_sizes, self.config["val_batch_size"]))
        if batches < world_size:
            raise UserError(
                f"The split '{self.config['val_split']}' of {self.config['root']} has {len(self.val_set)} "
                f"images, {batches} batches of data.val_batch_size={self.config['val_batch_size']}, fewer "
                f"than {counted(world_size, 'device')}. Choose a smaller data.val_batch_size, or fewer "
                f"trainer.devices."
            )

    def workers(self, devices: int) -> int:
        """Number of data workers for each device, if this machine trains on `devices` devices."""
        workers = self.config["num_workers"]
        if workers == "auto":
            return min(8, cores_of_a_device(devices))
        return workers

    def _loading(self) -> dict[str, Any]:
        workers = self.workers(self.trainer.num_devices if self.trainer else 1)
        return {
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": torch.cuda.is_available() and not self._on_cpu(),
            "worker_init_fn": _calm_worker,
        }

    def _on_cpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cpu"


def _say_every_quarter(done: int, total: int) -> None:
    if done == 1 or done * 4 // total > (done - 1) * 4 // total:
        log.info("Drawing the synthetic street (once): scene %d of %d", done, total)


def _calm_worker(_: int) -> None:
    cv2.setNumThreads(0)  # each worker would otherwise start a thread per core
    # SLURM, Ctrl-C and a terminal that is closed signal every process. The workers ignore it, because the run
    # still needs their batches before it stops them.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # After SIGTERM, with which Python stops its child processes, a worker continues for 600 s at most.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(600))
