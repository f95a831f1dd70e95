"""target=step: the training step with several settings, each in a training of its own."""

import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
from typing import Any

import rich
from rich import box
from rich.table import Table

from src.benchmarks.advice import rounded
from src.config import config_dirs, overrides, quoted
from src.errors import UserError
from src.runs.atomic_files import write_json
from src.runs.directory import Run
from src.runs.machine import machine, versions

log = logging.getLogger(__name__)

# Overrides of the benchmark command that are not passed to the training.
_OURS = ("target=", "measure.", "name=", "runs_dir=", "run_dir=", "hydra.")
# The training only makes steps, with batches from the loader and with the callbacks of a training.
_STEPS = (
    *("trainer.max_epochs=-1", "trainer.max_steps=1000000", "trainer.limit_val_batches=0"),
    *("trainer.enable_progress_bar=false", "callbacks.best=null", "report.images=0", "hydra.mode=RUN"),
)


def benchmark_settings(run: Run) -> None:
    """Measure, print the results and write benchmark.json."""
    settings = run.config["measure"]
    variants = settings["variants"]
    run.open()
    # The first variant again at the end: the difference of its two results is the machine's noise.
    measured: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for number, variant in enumerate([*variants, variants[0]]):
        log.info("Measuring %s", variant)
        try:
            results = _measure(run, variant, f"run-{number}", settings)
        except UserError as error:
            if number == 0:
                raise
            left_out[variant] = str(error)
            continue
        measured.append({"settings": variant, **results})
    baseline = statistics.mean(m["milliseconds"]["median"] for m in measured if m["settings"] == variants[0])
    for results in measured:
        results["times_baseline"] = baseline / results["milliseconds"]["median"]
    rich.print(_table(measured, left_out, run.config))
    path = run.directory / "benchmark.json"
    write_json(
        path,
        {
            "target": "step",
            "machine": machine(),
            "versions": versions(),
            "settings": settings,
            "data": run.config["data"]["name"],
            "crop_size": run.config["data"]["crop_size"],
            "batch_size": run.config["data"]["batch_size"],
            "step": measured,
            "left_out": left_out,
        },
    )
    log.info("All results: %s", path)


def _measure(run: Run, variant: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Raises UserError with the training's last lines if it ended before its steps were measured."""
    path = run.directory / f"steps-{name}.json"
    clock = {
        "_target_": "src.benchmarks.clock.Clock",
        "path": quoted(str(path.resolve())),
        "warmup": settings["warmup"],
        "budget": settings["seconds"],
    }
    own = [o for o in overrides() if not o.lstrip("+~").startswith(_OURS)]
    command = [sys.executable, "-m", "src.train", *config_dirs(), *own, *variant.split(), *_STEPS]
    command += [f"+callbacks.clock.{key}={value}" for key, value in clock.items()]
    command += [f"name={name}", f"runs_dir={quoted(f'{run.directory}/runs')}"]
    earlier = run.directory / "runs/train" / name  # which would be resumed
    if earlier.exists():
        shutil.rmtree(earlier)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not path.exists():
        raise UserError(
            f"The training with {variant} ended with exit code {done.returncode}:\n"
            + "\n".join(done.stderr.strip().splitlines()[-20:])
        )
    results = json.loads(path.read_text())
    path.unlink()
    return results


def _table(measured: list[dict[str, Any]], left_out: dict[str, str], config: dict[str, Any]) -> Table:
    height, width = config["data"]["crop_size"]
    table = Table(
        title=f"A training step of {config['data']['batch_size']} crops of {width}x{height} on "
        f"{measured[0]['device']}, {os.cpu_count()} cores",
        caption="\n".join(reason.strip() for reason in left_out.values()),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for heading in ("settings", "ms", "quartiles", "x first", "memory, GB", "steps"):
        table.add_column(heading, justify="left" if heading == "settings" else "right", overflow="fold")
    for results in measured:
        spread = results["milliseconds"]
        table.add_row(
            results["settings"],
            rounded(spread["median"]),
            f"{rounded(spread['q1'])} - {rounded(spread['q3'])}",
            f"{results['times_baseline']:.2f}",
            f"{results['peak_memory_gb']:.2f}",
            str(results["steps"]),
        )
    return table
