"""`python -m src.benchmark target=inference`: what it says about engines is what they do. Never how fast."""

import io
import json

import pytest
from front_doors import TINY
from rich.console import Console

from src.benchmarks.inference import _table

QUICK = (
    "target=inference",
    "measure.rounds=1",
    "measure.frames=7",
    "measure.sizes=[[64,128]]",
    "trainer.accelerator=cpu",
)
EAGER = "measure.engines=['torch float32','torch bf16']"


@pytest.fixture(scope="module")
def checkpoint(trained_checkpoint):
    return f"checkpoint={trained_checkpoint}"


@pytest.fixture(scope="module")
def measured(module_doors, checkpoint):
    run = module_doors("benchmark", *QUICK, EAGER, checkpoint, name="fast")
    assert run.code == 0, run.err
    return run, json.loads((run.directory / "benchmark.json").read_text())


def test_each_engine(measured):
    _, results = measured
    rows = [(row["engine"], row["precision"], row["size"]) for row in results["inference"]]
    engines = [("baseline", "float32"), ("torch", "float32"), ("torch", "bf16")]
    assert rows == [(*engine, [64, 128]) for engine in engines]
    for row in results["inference"]:
        assert 0 < row["milliseconds"]["q1"] <= row["milliseconds"]["median"] <= row["milliseconds"]["p95"]
        assert row["images_per_second"] == pytest.approx(1e3 / row["milliseconds"]["median"])
        assert row["memory_gb"] is None or 0 <= row["memory_gb"] < 4
        assert row["parameters"] > 0
        assert row["GFLOPs"] > 0
    assert results["inference"][0]["times_baseline"] == 1


def test_the_miou_is_that_of_an_evaluation(measured, module_doors, checkpoint):
    _, results = measured
    judged = module_doors("eval", checkpoint, "trainer.accelerator=cpu", name="judged")
    baseline, eager, half = results["inference"][:3]
    assert baseline["scored_images"] == 7
    assert baseline["mIoU"] == judged.metrics["mIoU"]
    assert baseline["equal_pixels"] == 1
    assert eager["mIoU"] == pytest.approx(baseline["mIoU"], abs=1e-3)
    assert eager["equal_pixels"] > 0.999
    assert 0.9 < half["equal_pixels"] <= 1


def test_the_table_is_on_the_terminal_in_markdown_and_on_a_page(measured):
    run, results = measured
    assert max(map(len, run.out.splitlines()[-12:-1])) <= 80
    lines = (run.directory / "benchmark.md").read_text().splitlines()
    page = (run.directory / "report.html").read_text()
    assert len(lines) == 2 + len(results["inference"]) + 4
    for row in results["inference"]:
        assert any(line.startswith(f"| {row['engine']} {row['precision']} |") for line in lines)
        assert f"{row['engine']} {row['precision']}" in page
    for heading in ("ms", "p95", "x first", "mIoU"):
        assert heading in run.out


def test_notes_are_not_markup():
    console = Console(file=io.StringIO(), width=80)
    console.print(_table("title", [], ["openvino float32: pip install -e '.[deploy]'"]))
    assert "'.[deploy]'" in console.file.getvalue()


@pytest.mark.slow
def test_an_untrained_network_has_times_alone_at_each_size(module_doors):
    keys = ("measure.engines=['torch float32']", "measure.sizes=[[64,128],[71,101]]")
    run = module_doors("benchmark", *TINY, *QUICK, *keys, name="untrained")
    assert run.code == 0, run.err
    results = json.loads((run.directory / "benchmark.json").read_text())
    assert len(results["inference"]) == 4
    assert not any("mIoU" in row for row in results["inference"])


@pytest.mark.slow
def test_what_cannot_be_had_is_left_out_and_named(module_doors, checkpoint):
    engines = "measure.engines=['torch fp16','torch float32']"
    run = module_doors("benchmark", *QUICK, engines, checkpoint, name="half")
    assert run.code == 0, run.err
    results = json.loads((run.directory / "benchmark.json").read_text())
    assert list(results["left_out"]) == ["torch fp16"]
    assert "torch fp16: precision=fp16" in (run.directory / "benchmark.md").read_text()
    assert "torch fp16: precision=fp16" in " ".join(run.out.split())


def test_an_unknown_engine_is_an_error(module_doors):
    run = module_doors("benchmark", *QUICK, "measure.engines=['tensorrt float32']", name="unknown")
    assert run.code == 2
    assert "tensorrt float32" in run.err
    assert not run.directory.exists()
