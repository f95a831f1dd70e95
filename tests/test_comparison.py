"""`python -m src.eval -m checkpoint=a,b`: several networks, one table."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
import torch
from front_doors import TINY
from rich.console import Console

from src.evaluation.comparison import compare, report_comparison, table
from src.inference.views import Inference
from src.network.cost import latency, parameters_and_gflops
from src.runs.jobs import place

MODEL = {"_target_": "src.network.cgnet.CGNet", "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1]}}


def test_the_paper_s_counts():
    """0.5 M parameters; "6.0" GFLOPs at 640x360: 2.97 G multiply-adds."""
    parameters, gflops = parameters_and_gflops(MODEL, 360, 640)
    assert parameters == 496_306
    assert gflops == pytest.approx(2 * 2.97, rel=0.005)


def test_operations_are_those_of_the_layers():
    """A 1x1 convolution from 3 to 2 channels, then from 2 to 5: 2 (3 2 + 2 5) operations a pixel."""
    model = MODEL | {
        "_target_": "src.network.pixelwise.PixelwiseClassifier",
        "num_classes": 5,
        "channels": [2],
    }
    assert parameters_and_gflops(model, 32, 64)[1] == pytest.approx(2 * (3 * 2 + 2 * 5) * 32 * 64 / 1e9)


def test_latency_times_what_answers():
    calls = []

    def answer(image):
        calls.append(image)
        assert image.dtype == torch.uint8
        return torch.zeros(1, 2, *image.shape[-2:])

    times = latency(answer, (32, 48), torch.device("cpu"), passes=5)
    assert len(calls) == 5 + 3
    assert calls[0].shape == (1, 3, 32, 48)
    assert 0 < times["q1"] <= times["median"] <= times["q3"]


@pytest.fixture
def evaluation(tmp_path):
    def write(name, **changes):
        metrics = {
            "mIoU": 0.5, "checkpoint": f"{name}.ckpt", "data": "street", "split": "val", "num_images": 7,
            "precision": "32-true", "network": "CGNet", "tta": {"scales": [1.0], "flip": False},
            "cost": {"parameters": 496306, "GFLOPs": 1.234, "latency_ms": {"median": 2.0}},
        }  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(metrics | changes))

    return write


def test_augmentation_is_a_column_and_other_images_a_row(evaluation, tmp_path):
    evaluation("a", mIoU=0.4)
    evaluation("a-tta", checkpoint="a.ckpt", mIoU=0.45, tta={"scales": [1], "flip": True})
    evaluation("a-train", checkpoint="a.ckpt", mIoU=0.6, split="train")
    evaluation("a-bf16", checkpoint="a.ckpt", mIoU=0.39, precision="bf16-mixed")
    evaluation("b", family="mmsegmentation", checkpoint="x|y.pth")
    rows = compare([tmp_path])
    assert [(row["checkpoint"], row["mIoU"], row["mIoU_tta"]) for row in rows] == [
        ("a.ckpt", 0.6, None), ("x|y.pth", 0.5, None), ("a.ckpt", 0.4, 0.45), ("a.ckpt", 0.39, None),
    ]  # fmt: skip
    assert rows[1]["network"] == "CGNet (mmsegmentation)"
    report_comparison(tmp_path)
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert len(lines) == 2 + 4
    assert lines[3].startswith(
        "| CGNet (mmsegmentation) | 496,306 | 1.23 | 50.00 | - | 2.0 | x\\|y.pth | street"
    )
    with (tmp_path / "comparison.csv").open() as file:
        assert [row["checkpoint"] for row in csv.DictReader(file)] == [row["checkpoint"] for row in rows]


def test_each_way_of_augmentation_has_a_row_beside_the_plain_figure(evaluation, tmp_path):
    evaluation("plain", checkpoint="a.ckpt", mIoU=0.4)
    evaluation("flip", checkpoint="a.ckpt", mIoU=0.42, tta={"scales": [1.0], "flip": True})
    evaluation("scales", checkpoint="a.ckpt", mIoU=0.45, tta={"scales": [0.5, 1.0], "flip": True})
    evaluation("windows", checkpoint="a.ckpt", mIoU=0.3, window=[64, 64], stride=[32, 32])
    evaluation("wider", checkpoint="a.ckpt", mIoU=0.2, window=[64, 64], stride=[64, 64], tta=None)
    rows = [(row["data"], row["mIoU"], row["mIoU_tta"], row["latency_ms"]) for row in compare([tmp_path])]
    images = "street val, 7 images"
    assert rows == [
        (f"{images}, TTA: scales 1, mirrored", 0.4, 0.42, 2.0),
        (f"{images}, TTA: scales 0.5 1, mirrored", 0.4, 0.45, 2.0),
        (f"{images}, window [64, 64], stride [32, 32]", 0.3, None, 2.0),
        (f"{images}, window [64, 64], stride [64, 64]", 0.2, None, 2.0),
    ]


def test_no_evaluation_is_lost_that_differs_in_something_else(evaluation, tmp_path):
    """Such as the folder of the images."""
    for name, miou in (("0", 0.5), ("1", 0.3), ("2", 0.5)):
        evaluation(name, checkpoint="a.ckpt", mIoU=miou, root="/clear")
    for name, miou, flip in (("3", 0.2, False), ("4", 0.25, True)):
        evaluation(name, checkpoint="a.ckpt", mIoU=miou, root="/fog", tta={"scales": [1.0], "flip": flip})
    rows = [(row["data"], row["mIoU"], row["mIoU_tta"]) for row in compare([tmp_path])]
    clear, fog = (f"street val, 7 images in /{root}" for root in ("clear", "fog"))
    assert rows == [(clear, 0.5, None), (f"{clear} (1)", 0.3, None), (fog, 0.2, 0.25)]


def test_a_network_that_was_trained_on_the_images_is_named(evaluation, tmp_path):
    seen = [{"data": "street", "split": "trainval"}]
    evaluation("a", mIoU=0.6, trained_on=seen)
    evaluation("b", mIoU=0.5, trained_on=[{"data": "street", "split": "train"}])
    evaluation("c", mIoU=0.4, trained_on=seen, data="other")
    assert [row["data"] for row in compare([tmp_path])] == [
        "street val, 7 images, trained on some of these", "street val, 7 images", "other val, 7 images",
    ]  # fmt: skip


def test_a_sweep_judges_weights_that_have_changed_again(tmp_path):
    weights = tmp_path / "best.ckpt"
    weights.touch()
    job = place(tmp_path, [f"checkpoint={weights}", "data.root=a"], set(), "eval")
    (job.directory / "metrics.json").write_text(json.dumps({"checkpoint": str(weights)}))
    os.utime(weights, (1, 1))
    job.start()
    job.end("finished", 0)

    def status(*overrides):
        found = place(tmp_path, list(overrides), set(), "eval")
        return found.directory.name, found.status

    assert status(f"checkpoint={weights}", "data.root=a") == ("0", "finished")
    assert status(f"checkpoint={weights}", "data.root=b") == ("1", "not started"), "other images"
    os.utime(weights, (2e9, 2e9))
    assert status(f"checkpoint={weights}", "data.root=a") == ("0", "not started")
    (job.directory / "metrics.json").write_text(json.dumps({"checkpoint": "named"}))
    assert not job.is_outdated(Path), "no such file"
    assert job.is_outdated({"named": weights}.__getitem__), "a shipped network is known by its name"


def test_operations_follow_what_the_network_sees():
    """Of half the sides: a quarter; in four windows of a quarter: as much as in one."""
    sizes = {"whole": (1.0, None, None), "parts": (1.0, (64, 128), (64, 128)), "scaled": (0.5, None, None)}
    model = MODEL | {
        "_target_": "src.network.pixelwise.PixelwiseClassifier",
        "num_classes": 5,
        "channels": [2],
    }
    gflops = {}
    for name, (scale, window, stride) in sizes.items():

        def around(network, scale=scale, window=window, stride=stride):
            return Inference(network, (scale,), False, window, stride)

        gflops[name] = parameters_and_gflops(model, 128, 256, around=around)[1]
    assert gflops["whole"] == gflops["parts"] == 4 * gflops["scaled"] > 0


def test_nothing_to_compare_is_no_table(tmp_path, capsys):
    report_comparison(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not capsys.readouterr().out


def test_several_checkpoints_are_a_sweep(doors):
    refused = doors("eval", "checkpoint=[one.ckpt,other.ckpt]")
    assert refused.code == 2
    assert "python -m src.eval -m checkpoint=one.ckpt,other.ckpt" in refused.err
    assert "Traceback" not in refused.err


def test_the_terminal_shows_what_differs(evaluation, tmp_path):
    for run, family in (("runs/a", "this project"), ("runs/b", "SSSegmentation")):
        evaluation(run.replace("/", "-"), checkpoint=f"/data/{run}/checkpoints/best.ckpt", family=family)
    console = Console(file=io.StringIO(), width=120)
    console.print(table(compare([tmp_path])))
    out = console.file.getvalue()
    assert " a/checkpoints/best.ckpt " in out
    assert "/data/" not in out
    assert "on street val, 7 images" in out
    assert "this project" not in out


@pytest.mark.slow
def test_through_the_door(module_doors):
    tiny = [key for key in TINY if not key.startswith("model.")]
    models = {"cgnet": "model.num_blocks=[2,2]", "pixelwise": "model.channels=[4]"}
    runs = [
        module_doors("train", *tiny, f"model={model}", key, "trainer.max_epochs=1", name=model)
        for model, key in models.items()
    ]
    assert not any(run.code for run in runs)
    paths = ",".join(str(run.directory / "checkpoints/best.ckpt") for run in runs)
    found = module_doors(
        "eval", "-m", f"checkpoint={paths}", "trainer.accelerator=cpu", "latency=1", own_process=True
    )
    assert found.code == 0, found.err
    rows = compare([found.directory])
    assert {row["checkpoint"]: row["mIoU"] for row in rows} == {
        f"{run.directory}/checkpoints/best.ckpt": run.metrics["mIoU"] for run in runs
    }
    assert "GFLOPs" in found.out
    assert (found.directory / "comparison.csv").exists()
