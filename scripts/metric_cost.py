"""The time that official metrics take: in an evaluation, and from files compared with cityscapesScripts.

    python -m scripts.metric_cost [--width 2048 --height 1024] [--rounds 3] [--device cpu] [--out cost.json]

Measured on frames of the synthetic street. Evaluation: CGNet with random weights, upsampling and argmax, then
each count, frame by frame; the results are medians, and the counts' share of the sum. From files: the sides
take turns, one round of all frames each, so that a busy machine slows all of them down; the ratio is the
median of the rounds' ratios.
"""

import argparse
import copy
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from scripts.score_files import score
from src.config import CONF_DIR, plain, register_resolvers
from src.data.dataset import read_pair
from src.data.files import read_label
from src.data.instance_ids import instance_files, read_instances
from src.data.layouts import Pair, find_pairs
from src.labels import CITYSCAPES
from src.metrics.cityscapes import by_label_id, official_scores
from src.metrics.confusion import ConfusionMatrix
from src.metrics.instances import InstanceCounter
from src.network.segmenter import Segmenter
from src.report.pictures import write_image
from src.runs.atomic_files import write_json
from src.runs.machine import machine, usable_cores, versions
from src.street import write_street

NETWORK, CONFUSION, COUNTING_INSTANCES = "network and argmax", "confusion matrix", "instances"
FRAME, INSTANCES = "(read image and label)", "(read instances)"  # data workers do this in parallel


class Clock:
    """Seconds of each part, one value per frame."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        self._wait()
        start = time.perf_counter()
        result = function(*arguments)
        self._wait()
        self.seconds[part].append(time.perf_counter() - start)
        return result

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


@torch.inference_mode()
def evaluation(pairs: list[Pair], rounds: int, device: str) -> dict[str, Any]:
    """Milliseconds per frame of each part, and the counts' share of an evaluation that waits for no data."""
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = plain(compose("train", ["data=cityscapes", "name=cost"]).model)
    segmenter = Segmenter.from_config(config).eval().to(device)
    confusion = ConfusionMatrix(CITYSCAPES.num_classes).to(device)
    counter = InstanceCounter(CITYSCAPES, [label.id for label in CITYSCAPES.train_labels])
    paths = instance_files([pair.label for pair in pairs if pair.label is not None])
    assert paths is not None
    clock, counted = Clock(device), []
    for turn in range(rounds + 1):
        if turn == 1:
            clock.seconds.clear()  # the first round was the warm-up
        for number, (pair, path) in enumerate(zip(pairs, paths, strict=True)):
            image, target = clock.time(FRAME, read_pair, pair, CITYSCAPES)
            instances = clock.time(INSTANCES, read_instances, path, target, CITYSCAPES)
            batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous().to(device)
            truth = torch.from_numpy(target)[None].to(device)
            whose = torch.from_numpy(instances).to(device)
            predicted = clock.time(NETWORK, lambda: segmenter(batch).argmax(1).to(torch.uint8))  # noqa: B023
            clock.time(CONFUSION, confusion.update, predicted, truth)
            counted += clock.time(
                COUNTING_INSTANCES, counter, predicted[0], whose, turn * len(pairs) + number
            )
    matrix = by_label_id(confusion.compute().cpu().numpy(), CITYSCAPES)
    start = time.perf_counter()
    official_scores(matrix, counted, CITYSCAPES)
    at_the_end = (time.perf_counter() - start) / (rounds + 1) / len(pairs)
    parts = {part: 1e3 * median(seconds) for part, seconds in clock.seconds.items()}
    parts["metrics at the end"] = 1e3 * at_the_end
    counting = parts[CONFUSION] + parts["metrics at the end"]
    without, whole = counting, counting + parts[COUNTING_INSTANCES]
    return {
        "milliseconds": parts,
        "share without instances": without / (without + parts[NETWORK]),
        "share": whole / (whole + parts[NETWORK]),
    }


def from_files(root: Path, pairs: list[Pair], rounds: int) -> dict[str, Any]:
    """Milliseconds per frame to score files, and the speed-up. All sides compute the same metrics."""
    official = import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    rng = np.random.default_rng(0)
    folder = root / "predictions"
    folder.mkdir()
    labels, predictions = [], []
    for pair in pairs:
        assert pair.label is not None
        ids = np.roll(read_label(pair.label), tuple(rng.integers(-9, 9, 2)), (0, 1))
        labels.append(str(pair.label))
        predictions.append(str(folder / f"{pair.name}.png"))
        write_image(predictions[-1], ids)
    np.in1d = np.isin  # type: ignore[attr-defined] # removed in numpy 2.4, but they call it
    args = copy.copy(official.args)
    args.evalInstLevelScore, args.quiet, args.JSONOutput = True, True, False
    cores = usable_cores()
    sides: dict[str, Callable[[], Any]] = {
        "cityscapesScripts": lambda: official.evaluateImgLists(predictions, labels, args),
        "ours, one thread": lambda: score(folder, root, ["val"], 1),
        f"ours, {cores} threads": lambda: score(folder, root, ["val"], cores),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    results = {}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            results[name] = side()
            if turn:
                seconds[name].append((time.perf_counter() - start) / len(pairs))
    theirs = seconds["cityscapesScripts"]
    assert all(
        result["mean_iIoU"] == results["cityscapesScripts"]["averageScoreInstClasses"]
        for name, result in results.items()
        if name != "cityscapesScripts"
    )
    return {
        name: {
            "milliseconds": 1e3 * median(values),
            "times": median(b / a for a, b in zip(values, theirs, strict=True)),
        }
        for name, values in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of the evaluation: cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON with all metrics")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "street"
        write_street(root, {"val": arguments.frames}, arguments.width, arguments.height, seed=1)
        pairs = find_pairs("cityscapes", root, "val")
        cost = evaluation(pairs, arguments.rounds, arguments.device)
        files = from_files(root, pairs, arguments.rounds)
    print(
        f"| evaluation on {arguments.device}, {torch.get_num_threads()} threads | ms a frame |\n| --- | --- |"
    )
    for part, value in cost["milliseconds"].items():
        print(f"| {part} | {value:.3g} |")
    for key, part in (
        ("share without instances", "the counts, without instances"),
        ("share", "all counts"),
    ):
        print(f"| {part} | {100 * cost[key]:.2f} % of an evaluation |")
    print("\n| from files | ms a frame | times as fast |\n| --- | --- | --- |")
    for name, side in files.items():
        print(f"| {name} | {side['milliseconds']:.1f} | {side['times']:.2f} |")
    if arguments.out:
        facts = {"machine": machine(), "versions": versions(), "settings": vars(arguments) | {"out": None}}
        write_json(arguments.out, {"evaluation": cost, "from files": files} | facts)


if __name__ == "__main__":
    main()
