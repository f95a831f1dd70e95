"""Evaluate a checkpoint: `python -m src.eval checkpoint=...`, with any key of conf/ as `key=value`."""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from src.front_door import front_door

log = logging.getLogger("src.eval")  # __name__ is __main__ here


def evaluate(config: DictConfig) -> float | None:
    """Returns the mIoU."""
    from src.checkpoints import load_checkpoint
    from src.data.datamodule import SegmentationDataModule
    from src.evaluation.report.baseline import find_baseline
    from src.evaluation.report.write import IMAGES
    from src.evaluation.results import report_evaluation
    from src.runs import Run
    from src.training.agreement import Agreement
    from src.training.best_and_worst import BestAndWorstImages
    from src.training.pictures import PicturePanel
    from src.training.restore import data_to_evaluate, load_module
    from src.training.trainer import build_trainer, honest_exit
    from src.training.trouble import clear_errors

    run = Run.plan(config)
    checkpoint = load_checkpoint(config.checkpoint)
    run.config["data"] = data_to_evaluate(config, checkpoint)
    find_baseline(config.report.baseline, run.config["data"])  # wrong now, or not at all
    data = SegmentationDataModule(run.config["data"], cache_dir=config.cache_dir)
    module = load_module(checkpoint, data, config.checkpoint)
    panel = PicturePanel(run.directory / "pictures", count=config.pictures, filename="panel.png")
    extremes = BestAndWorstImages(run.directory / IMAGES, config.report.images)
    wanted = config.trainer.precision or checkpoint["hyper_parameters"]["precision"]
    agreement = Agreement(run.config, Path(config.checkpoint).expanduser())
    trainer = build_trainer(run.config["trainer"] | {"precision": wanted}, [agreement, panel, extremes])
    run.config["trainer"]["precision"] = str(trainer.precision)
    if trainer.precision != wanted:
        log.warning("Evaluating in %s: this device has no %s.", trainer.precision, wanted)
    data.prepare_data()
    data.setup("validate")
    data.check_devices(trainer.world_size)
    data.cache_frames()

    run.open(trainer.world_size)
    with clear_errors(run, trainer), honest_exit(trainer):
        trainer.validate(module, datamodule=data, verbose=False)
    assert module.scores is not None
    return report_evaluation(run, module.scores, checkpoint) if trainer.is_global_zero else None


main = front_door(evaluate, "eval")

if __name__ == "__main__":
    sys.exit(main())
