r"""How fast we and mmsegmentation 1.2.2 make training samples: of the same frames, on one core, in one run.

    python -m scripts.against_mmsegmentation --root /path/to/cityscapes --python /path/to/mmseg-env/bin/python

mmsegmentation needs an environment of its own, with the same version of OpenCV (see constraints.txt):

    python -m venv mmseg-env
    mmseg-env/bin/pip install mmsegmentation==1.2.2 mmcv-lite==2.1.0 mmengine torch ftfy regex \
        "numpy<2.3" opencv-python-headless==5.0.0.93

How it is measured: the sides take turns, one round each, so that a busy machine slows all of them down; all
run on the same pinned core, without threads of OpenCV or PyTorch; frames and cached frames are in the page
cache; rates are medians over the rounds. The augmentation is equal: scale 0.5-2.0, crops of 512x1024 with at
most 75 % of one class, flip, photometric distortion, up to the uint8 tensors of one sample. All sides read
the same frames in the same order; their random numbers differ. mmsegmentation reads labelTrainIds: if they
are missing, as in the download, they are written to a temporary folder beforehand.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from src.benchmarks.data import Frames
from src.benchmarks.spread import spread
from src.config import CONF_DIR, plain, register_resolvers
from src.data.augment import SeededTransform
from src.data.checks.pairs import check_pairs
from src.data.dataset import read_target
from src.data.layouts import Pair, find_pairs
from src.errors import UserError
from src.labels import CITYSCAPES, LabelTable
from src.runs.atomic_files import write_bytes, write_json
from src.runs.machine import machine, versions

MMSEG = "mmsegmentation"
TITLES = {"none": "data.cache=none", "disk": "data.cache=disk"}


class Mmsegmentation:
    """Runs mmsegmentation_worker.py in its own environment: one round for each line sent to it."""

    def __init__(self, python: str, images: Sequence[Path], labels: Sequence[Path], core: int | None):
        script = Path(__file__).with_name("mmsegmentation_worker.py")
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.versions = self._ask(
            {"images": [str(i) for i in images], "labels": [str(e) for e in labels], "core": core}
        )

    def round(self, indices: Sequence[int]) -> float:
        """The seconds that the samples took."""
        return self._ask({"indices": indices})["seconds"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit("mmsegmentation's side ended: see its message above.")
        return json.loads(answer)


@contextmanager
def one_core() -> Iterator[int | None]:
    """Pin this thread to the last core that it may use, and let OpenCV and PyTorch use no other threads.

    Yields the core's number; None if the system has no affinity (macOS): there the scheduler may move
    the thread, but it still uses one core only. All settings are restored.
    """
    threads = cv2.getNumThreads(), torch.get_num_threads()
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    core = max(allowed, default=None)  # most systems handle interrupts on the first
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        yield core
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


def keys_of_round(number: int, samples: int, frames: int) -> list[tuple[int, int]]:
    """(epoch, index) of a round's samples: it takes the next frames and has an epoch number of its own."""
    return [(number, (number * samples + i) % frames) for i in range(samples)]


def labels_with_train_ids(pairs: Sequence[Pair], table: LabelTable, folder: Path) -> list[Path]:
    """The label files that mmsegmentation reads: the dataset's own, or new ones in the folder."""
    found = []
    for pair in pairs:
        if not isinstance(pair.label, Path):
            raise UserError(f"{pair.label}: mmsegmentation cannot read archives. Extract them.")
        path = pair.label.with_name(pair.label.name.replace("_labelIds.png", "_labelTrainIds.png"))
        if not path.exists():
            path = folder / path.name
            write_bytes(path, cv2.imencode(".png", read_target(pair, table))[1].tobytes())
        found.append(path)
    return found


def cityscapes_frames(root: Path, count: int) -> Frames:
    """The first training frames, with the augmentation of plain `python -m src.train`."""
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", [f"data.root='{root}'", "name=x"])
    steps = [instantiate(step) for step in plain(config.augment).values()]
    table = CITYSCAPES
    pairs = find_pairs("cityscapes", root, "train")[:count]
    return Frames(root, pairs, check_pairs(pairs, table), table, SeededTransform(steps, config.seed))


def alternate(
    sides: dict[str, Callable[[int], float]], rounds: int, warmup: int, samples: int
) -> dict[str, list[float]]:
    """Samples per second of each round. Every side runs once per round."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-warmup, rounds):
        for name, side in sides.items():
            seconds = side(number + warmup)
            if number >= 0:
                rates[name].append(samples / seconds)
        if number >= 0:
            shown = "  ".join(f"{TITLES.get(name, name)} {rates[name][-1]:.1f}" for name in sides)
            print(f"round {number + 1} of {rounds}, samples/s: {shown}", flush=True)
    return rates


def compare(arguments: argparse.Namespace, temporary: Path) -> dict[str, Any]:
    frames = cityscapes_frames(arguments.root, arguments.frames)
    cache_dir = temporary if arguments.cache_dir is None else arguments.cache_dir
    datasets = {name: frames.dataset(name, cache_dir) for name in TITLES}
    labels = labels_with_train_ids(frames.pairs, frames.table, temporary)
    count = len(frames.pairs)

    def ours(name: str) -> Callable[[int], float]:
        def side(number: int) -> float:
            start = time.perf_counter()
            for key in keys_of_round(number, arguments.samples, count):
                datasets[name][key]
            return time.perf_counter() - start

        return side

    with one_core() as core:
        other = Mmsegmentation(arguments.python, [Path(str(p.image)) for p in frames.pairs], labels, core)
        sides: dict[str, Callable[[int], float]] = {"none": ours("none")}
        sides[MMSEG] = lambda number: other.round(
            [index for _, index in keys_of_round(number, arguments.samples, count)]
        )
        sides["disk"] = ours("disk")
        rates = alternate(sides, arguments.rounds, arguments.warmup, arguments.samples)
        other.close()
    spreads = {name: spread(values) for name, values in rates.items()}
    return {
        "samples_per_second": spreads,
        "times_mmsegmentation": {
            name: found["median"] / spreads[MMSEG]["median"] for name, found in spreads.items()
        },
        "rounds": rates,
        "settings": {"frames": count, "size": frames.sizes[0], "core": core}
        | {key: getattr(arguments, key) for key in ("samples", "rounds", "warmup")},
        "machine": machine(),
        "versions": versions(),
        "versions_of_mmsegmentation": other.versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="Cityscapes, extracted")
    parser.add_argument("--python", required=True, help="Python of mmsegmentation's environment")
    parser.add_argument("--out", type=Path, help="JSON file for all results")
    parser.add_argument("--frames", type=int, default=64, help="number of frames of the training split")
    parser.add_argument("--samples", type=int, default=24, help="samples per round and side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=1, help="rounds before the measurement")
    parser.add_argument("--cache-dir", type=Path, help="for decoded frames; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            found = compare(arguments, Path(temporary))
        except UserError as error:
            raise SystemExit(error.text) from error
    print(f"\n| one core, OpenCV {version('opencv-python-headless')} | samples/s | quartiles | x {MMSEG} |")
    print("| --- | --- | --- | --- |")
    for name, rate in found["samples_per_second"].items():
        quartiles = f"{rate['q1']:.1f} - {rate['q3']:.1f}"
        ratio = found["times_mmsegmentation"][name]
        print(f"| {TITLES.get(name, name)} | {rate['median']:.1f} | {quartiles} | {ratio:.2f} |")
    print(f"\n{found['versions_of_mmsegmentation']}")
    if arguments.out:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
