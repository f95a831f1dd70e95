"""Export a checkpoint to one file to deploy: `python -m src.export checkpoint=... format=onnx`."""

import sys

from omegaconf import DictConfig

from src.front_door import front_door


def export(config: DictConfig) -> None:
    """Leaves the files and parity.json in the run directory."""
    from src.preflight import check_weights_file

    check_weights_file(config.checkpoint)
    from src.inference.exports.exporter import Exporter
    from src.inference.exports.handover import hand_over
    from src.runs.directory import Run

    run = Run.plan(config)
    exporter = Exporter(run.config)  # everything that can be wrong is found here
    run.open()
    hand_over(exporter.export(run.directory), exporter.trained.data)


main = front_door(export, "export")

if __name__ == "__main__":
    sys.exit(main())
