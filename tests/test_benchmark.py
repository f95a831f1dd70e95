"""`python -m src.benchmark`, whole: its results are results and agree with each other. Never how large."""

import json
import math
import re

import pytest
from front_doors import TINY
from omegaconf import OmegaConf

from src.benchmarks.advice import advice
from src.data.frame_cache.modes import open_cache
from src.data.layouts import find_pairs
from src.labels import CITYSCAPES

QUICK = (
    "measure.rounds=2",
    "measure.warmup=1",
    "measure.seconds=0.2",
    "measure.frames=5",
)


@pytest.fixture(scope="module")
def measured(module_doors):
    done = module_doors("benchmark", *TINY, *QUICK, "data.num_workers=1", name="data")
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def results(measured):
    return json.loads((measured.directory / "benchmark.json").read_text())


def test_the_table_shows_what_a_run_puts_together(measured):
    for title in ("DataLoader, data.cache=none", "DataLoader, data.cache=disk", "training step"):
        assert title in measured.out
    assert "A run would wait for the" in measured.out
    assert "share the" in measured.out, "on a CPU"


def test_it_leaves_its_own_files_alone(measured, module_doors):
    files = {name for name in measured.files if not name.endswith(".diff")}  # of code that is not committed
    assert files == {"benchmark.json", "benchmark.log", "config.yaml", "record.json", ".lock"}
    assert not (module_doors.folder / "train").exists()


def test_a_training_finds_the_frames_cached(measured, module_doors, caplog):
    root = module_doors.cache / "street-128x64-16-7-1"
    pairs = find_pairs("cityscapes", root, "train")
    sizes = [(64, 128)] * len(pairs)
    with caplog.at_level("INFO"):
        open_cache("disk", module_doors.cache, root, CITYSCAPES, pairs, sizes)
    assert "Caching 11 decoded frames" in caplog.text, "of 16, those that the benchmark did not need"


def test_every_figure_is_a_finite_number(results):
    rates = [v["samples_per_second"] for v in (*results["loader"].values(), results["step"])]
    for rate in rates:
        assert all(math.isfinite(rate[key]) and rate[key] > 0 for key in ("q1", "median", "q3"))
        assert rate["q1"] <= rate["median"] <= rate["q3"]


def test_the_ratio_is_that_of_the_stated_rates(results):
    assert results["loader"].keys() == {"none", "disk"}
    run = results["settings"]["cache_of_a_run"]
    assert run == "none"
    loader, step = (f["samples_per_second"]["median"] for f in (results["loader"][run], results["step"]))
    assert results["loader_over_step"] == pytest.approx(loader / step)
    assert results["waits_for"] == ("data" if loader < step else "network")


def test_what_was_measured_is_said(results):
    assert results["settings"]["frames"] == 5
    assert results["settings"]["frame_size"] == [64, 128]
    assert (results["step"]["device"], results["step"]["precision"]) == ("cpu", "32-true")
    assert results["loader"]["none"]["workers"] == 1
    assert results["machine"]["cores"] >= 1
    assert {"python", "torch", "numpy", "kornia-rs"} <= results["versions"].keys()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("target=speed", r"target=speed: expected data, step or inference\."),
        ("measure.rounds=0", r"measure.rounds=0: expected a whole number from 1"),
        (
            "measure.step_batch=many",
            r"measure.step_batch=many: expected a whole number from 1 to 4096 or auto",
        ),
        ("measure.round=3", r"Unknown config key: measure.round. The nearest one is measure.rounds"),
        ("data.cache=disc", r"data.cache=disc: expected auto, none or disk"),
        ("trainer.accumulate_grad_batches=3", r"cannot be shared out"),
    ],
)
def test_what_it_refuses(doors, override, message):
    done = doors("benchmark", *TINY, override)
    assert done.code == 2
    assert re.search(message, done.err)
    assert not done.directory.exists()


def test_where_there_is_no_room_for_frames_the_run_that_wants_them_is_refused(doors, monkeypatch):
    monkeypatch.setattr("src.data.frame_cache.cache.SHARE", {"auto": 0.0, "disk": 0.0})
    done = doors("benchmark", *TINY, *QUICK, "data.street.seed=5")
    assert done.code == 0, done.err
    assert "Left out: " in done.out + done.err
    assert json.loads((done.directory / "benchmark.json").read_text())["loader"].keys() == {"none"}
    refused = doors("benchmark", *TINY, *QUICK, "data.street.seed=5", "data.cache=disk", name="disk")
    assert refused.code == 2
    assert "of which data.cache=disk takes 0% at most" in refused.err


def _advice(**changes):
    rates = {"rates": {"none": 60.0, "disk": 400.0}, "workers": {"none": 2, "disk": 2}, "step": 100.0}
    machine = {"cores": 8, "devices": 1, "on_cpu": False}
    return advice(**({"mode": "none"} | rates | machine | changes))


def test_a_run_that_waits_for_data_is_told_what_would_be_enough():
    found = _advice()
    assert (found["waits_for"], found["loader_over_step"]) == ("data", 0.6)
    assert (
        "enough would be data.cache=none data.num_workers=4, or data.cache=disk data.num_workers=1"
        in (found["sentence"])
    )
    assert "enough would be data.cache=disk data.num_workers=1." in _advice(cores=2)["sentence"], (
        "no more workers than cores"
    )
    assert "More than the 1 cores" in _advice(devices=8, step=1000.0)["sentence"]
    alone = _advice(workers={"none": 0, "disk": 0})["sentence"]
    assert "60 samples/s with the main process" in alone


def test_a_run_that_waits_for_the_network_needs_no_advice():
    found = _advice(step=10.0, on_cpu=True)
    assert found["waits_for"] == "network"
    assert "enough" not in found["sentence"]
    assert "share the 8 cores" in found["sentence"]


@pytest.mark.slow
def test_steps_with_several_settings(doors):
    variants = ["channels_last=false", "channels_last=true", "trainer.precision=bf16-mixed compile=true"]
    keys = (
        "target=step",
        "measure.warmup=1",
        "measure.seconds=0.1",
        f"measure.variants={json.dumps(variants)}",
    )
    done = doors("benchmark", *TINY, *keys, "seed=7", own_process=True)
    assert done.code == 0, done.err
    found = json.loads((done.directory / "benchmark.json").read_text())
    assert [f["settings"] for f in found["step"]] == [*variants[:2], variants[0]]
    assert found["batch_size"] == 4
    for results in found["step"]:
        assert results["steps"] >= 3
        assert results["milliseconds"]["q1"] <= results["milliseconds"]["median"]
        assert results["peak_memory_gb"] > 0.1
        assert results["device"] == "cpu"
    one, _, again = (f["times_baseline"] for f in found["step"])
    assert 1 / one + 1 / again == pytest.approx(2)
    assert "needs channels_last=true" in found["left_out"][variants[2]]
    assert {*variants[:2]} <= {line.split("  ")[0].strip() for line in done.out.splitlines()}
    config = OmegaConf.load(done.directory / "runs/train/run-0/config.yaml")
    assert config.seed == 7, "what is measured is the training with the same keys"
    assert config.callbacks.lr is not None


@pytest.mark.slow
def test_a_baseline_that_cannot_train_ends_it(doors):
    done = doors("benchmark", *TINY, "target=step", 'measure.variants=["optimizer.lr=-1"]', own_process=True)
    assert done.code == 2
    assert "The training with optimizer.lr=-1 ended with exit code 2:" in done.err
    assert "optimizer.lr=-1: expected" in done.err
    assert not (done.directory / "benchmark.json").exists()
