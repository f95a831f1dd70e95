"""target=inference: the time of a class map with each engine and precision, and whether the map is right."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rich
import torch
from omegaconf import OmegaConf
from rich import box
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from src.benchmarks.advice import rounded
from src.benchmarks.engine_process import BASELINE, EngineProcess
from src.benchmarks.spread import spread
from src.data.datamodule import SegmentationDataModule
from src.data.dataset import SegmentationDataset
from src.errors import UserError
from src.evaluation.setup import check_classes, data_to_evaluate
from src.inference.views import resize_image
from src.metrics.confusion import ConfusionMatrix, scores
from src.network.cost import parameters_and_gflops
from src.network.segmenter import Segmenter
from src.report.comparison_page import render_comparison
from src.report.table import markdown
from src.runs.atomic_files import write_json, write_text
from src.runs.directory import Run
from src.runs.machine import machine, versions
from src.street.scene import draw_scene
from src.weights.trained_network import TrainedNetwork, restore

log = logging.getLogger(__name__)

_EXPLAINED = (
    "baseline: PyTorch eager, NCHW, argmax over the full-size logits",
    "x first: how many times as fast as the first line, by the median of the ratios of each turn",
)
_TURN = 0.5  # seconds of one engine before the next one's turn: short, so that all see the same machine


@dataclass
class Contender:
    """An engine in one precision, and what was measured. Milliseconds are those of single images."""

    engine: str
    precision: str
    process: EngineProcess
    turns: list[list[float]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)


def benchmark_inference(run: Run) -> None:
    """Measure, print the results and write benchmark.json, benchmark.md and report.html."""
    config = run.config
    settings = config["measure"]
    trained = _trained(config)
    dataset = _dataset(config, trained)
    run.open()
    measured: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for size in settings["sizes"]:
        image = _image(dataset, size)
        contenders = list(_contenders(trained, settings["engines"], image, left_out))
        _race(contenders, settings["rounds"])
        if dataset is not None and size == settings["sizes"][0]:
            _score(contenders, dataset, settings["frames"])
        parameters, gflops = parameters_and_gflops(trained.model, *size)
        for contender in contenders:
            facts = {"engine": contender.engine, "precision": contender.precision, "size": list(size)}
            measured.append(facts | contender.results | {"parameters": parameters, "GFLOPs": gflops})
            contender.process.close()
    here = machine()
    title = f"{trained.provenance['network']}, image to class map on {here['gpu'] or here['cpu']}"
    rows = [_cells(results) for results in measured]
    notes = [*_EXPLAINED, *_left_out(left_out)]
    rich.print(_table(title, rows, notes))
    write_text(run.directory / "benchmark.md", _markdown(rows, notes))
    write_text(run.directory / "report.html", _page(title, measured, notes))
    path = run.directory / "benchmark.json"
    write_json(
        path,
        {
            "target": "inference",
            "machine": here,
            "threads": torch.get_num_threads(),
            "versions": versions("onnxruntime", "openvino"),
            "settings": settings,
            "network": trained.provenance,
            "inference": measured,
            "left_out": left_out,
        },
    )
    log.info("All results: %s; the table also as benchmark.md and report.html beside it", path)


def _trained(config: dict[str, Any]) -> TrainedNetwork:
    """The network of checkpoint=, or an untrained one of model=."""
    if config["checkpoint"]:
        return restore(config["checkpoint"])
    torch.manual_seed(config["seed"])
    segmenter = Segmenter.from_config(config["model"]).eval()
    return TrainedNetwork(
        path="model", family="untrained", model=config["model"], weights=segmenter.state_dict(), classes=None
    )


def _dataset(config: dict[str, Any], trained: TrainedNetwork) -> SegmentationDataset | None:
    """The validation split whose mIoU is measured; None without a dataset, or for an untrained network."""
    if trained.family == "untrained":
        return None
    data = data_to_evaluate(OmegaConf.create(config), trained)
    if data["root"] is None:
        log.info("No data.root: the maps are compared on an image of the synthetic street, without mIoU.")
        return None
    module = SegmentationDataModule(data, cache_dir=config["cache_dir"])
    module.prepare_data()
    module.setup("validate")
    check_classes(trained, module)
    return module.val_set


def _image(dataset: SegmentationDataset | None, size: Sequence[int]) -> Tensor:
    height, width = size
    if dataset is None:
        scene = draw_scene(0, 0, width, height).image
        return torch.from_numpy(scene).permute(2, 0, 1)[None].contiguous()
    return resize_image(dataset[0]["image"][None], (height, width)).contiguous()


def _contenders(
    trained: TrainedNetwork, engines: Sequence[str], image: Tensor, left_out: dict[str, str]
) -> Iterator[Contender]:
    """The baseline and each engine that can be had, after its first map, whose time and memory are kept."""
    expected: Tensor | None = None
    for entry in (f"{BASELINE} float32", *engines):
        engine, precision = entry.split()
        log.info("Preparing %s", entry)
        try:
            process = EngineProcess(trained, engine, precision, image)
        except UserError as error:
            left_out[entry] = error.text
            continue
        first = process.first
        expected = first.class_map if expected is None else expected
        facts = {
            "seconds_to_first_map": first.seconds,
            "memory_gb": None if first.memory is None else first.memory / 1e9,
            "equal_pixels": (first.class_map == expected).double().mean().item(),
        }
        yield Contender(engine, precision, process, results=facts)


def _race(contenders: list[Contender], rounds: int) -> None:
    """Each engine in turn, again and again, so that a slow moment of the machine meets all of them."""
    for number in range(rounds + 1):
        for contender in contenders:
            times = contender.process.turn(_TURN)
            if number:  # the first round is a warm-up
                contender.turns.append(times)
    medians = {id(c): [float(np.median(times)) for times in c.turns] for c in contenders}
    for contender in contenders:
        own, baseline = medians[id(contender)], medians[id(contenders[0])]
        every = [value for times in contender.turns for value in times]
        whole = spread(every)
        contender.results |= {
            "milliseconds": whole | {"p95": float(np.percentile(every, 95)), "images": len(every)},
            "images_per_second": 1e3 / whole["median"],
            "times_baseline": float(np.median([b / o for b, o in zip(baseline, own, strict=True)])),
        }


def _score(contenders: list[Contender], dataset: SegmentationDataset, count: int) -> None:
    """mIoU of each engine on the same images of the split, at their own size."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    log.info("Measuring the mIoU on %d images", len(chosen))
    matrices = [ConfusionMatrix(dataset.table.num_classes) for _ in contenders]
    for index in chosen:
        sample = dataset[0, int(index)]
        for contender, matrix in zip(contenders, matrices, strict=True):
            matrix.update(contender.process.class_map(sample["image"][None]), sample["target"][None])
    for contender, matrix in zip(contenders, matrices, strict=True):
        result = scores(matrix.compute(), list(dataset.table.class_names))
        contender.results |= {"mIoU": result["mIoU"], "scored_images": len(chosen)}


# In the Markdown table; that on the terminal has 80 columns, and those with a * are not in it.
_HEADINGS = ("engine", "image", "ms", "p95", "images/s*", "x first", "GB", "equal, %", "mIoU", "ready, s*")
_KEYS = ("engine", "image", "ms", "p95", "rate", "times", "memory", "equal", "mIoU", "ready")


def _cells(results: dict[str, Any]) -> list[str]:
    """As text, in the order of _HEADINGS."""
    time_spent, memory = results["milliseconds"], results["memory_gb"]
    return [
        f"{results['engine']} {results['precision']}",
        "{1}x{0}".format(*results["size"]),
        rounded(time_spent["median"]),
        rounded(time_spent["p95"]),
        rounded(results["images_per_second"]),
        f"{results['times_baseline']:.2f}",
        "" if memory is None else f"{memory:.2f}",
        f"{100 * results['equal_pixels']:.3f}",
        f"{results['mIoU']:.4f}" if results.get("mIoU") is not None else "",
        f"{results['seconds_to_first_map']:.1f}",
    ]


def _markdown(rows: list[list[str]], notes: list[str]) -> str:
    table = markdown([[heading.rstrip("*") for heading in _HEADINGS], *rows])
    return table + "".join(f"\n{note}\n" for note in notes)


def _page(title: str, measured: list[dict[str, Any]], notes: list[str]) -> str:
    columns = dict(zip(_KEYS, (heading.rstrip("*") for heading in _HEADINGS), strict=True))
    del columns["rate"]  # it follows from ms, and the page has no room for it
    rows: list[dict[str, Any]] = []
    for results in measured:
        name, image, *figures = _cells(results)
        shown = [float(figure) if figure else None for figure in figures]
        rows.append(dict(zip(_KEYS, (name, image, *shown), strict=True)))
    return render_comparison(title, rows, columns | {"mIoU": "mIoU, %"}, ". ".join(notes))


def _left_out(left_out: dict[str, str]) -> list[str]:
    """A line for each reason, with all that it keeps away."""
    return [
        f"{', '.join(name for name in left_out if left_out[name] == reason)}: {reason}"
        for reason in dict.fromkeys(left_out.values())
    ]


def _table(title: str, rows: list[list[str]], notes: list[str]) -> Table:
    table = Table(
        title=title,
        caption=escape("\n".join(notes)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    shown = [number for number, heading in enumerate(_HEADINGS) if not heading.endswith("*")]
    for number in shown:
        table.add_column(_HEADINGS[number], justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(row[number] for number in shown))
    return table
