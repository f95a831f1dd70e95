"""What a training would spend its time on: `python -m src.benchmark target=data`, with any key of conf/."""

import sys

from omegaconf import DictConfig

from src.errors import UserError
from src.front_door import front_door

TARGETS = ("data",)


def benchmark(config: DictConfig) -> None:
    """Leaves benchmark.json in the run directory."""
    if config.target not in TARGETS:
        raise UserError(f"target={config.target}: unknown, choose one of {', '.join(TARGETS)}.")
    from pytorch_lightning import seed_everything

    from src.benchmarks.data import benchmark_data
    from src.runs import Run

    run = Run.plan(config)
    seed_everything(config.seed, verbose=False)
    benchmark_data(run)


main = front_door(benchmark, "benchmark")

if __name__ == "__main__":
    sys.exit(main())
