"""What a training would spend its time on: `python -m src.benchmark target=...`, with any key of conf/."""

import sys

from omegaconf import DictConfig

from src.front_door import front_door


def benchmark(config: DictConfig) -> None:
    """Writes benchmark.json into the run directory."""
    from pytorch_lightning import seed_everything

    from src.benchmarks.data import benchmark_data
    from src.benchmarks.inference import benchmark_inference
    from src.benchmarks.settings import benchmark_settings
    from src.preflight import check_weights_file
    from src.runs.directory import Run

    check_weights_file(config.checkpoint)

    run = Run.plan(config)
    seed_everything(config.seed, verbose=False)
    targets = {"data": benchmark_data, "step": benchmark_settings, "inference": benchmark_inference}
    targets[config.target](run)


main = front_door(benchmark, "benchmark")

if __name__ == "__main__":
    sys.exit(main())
