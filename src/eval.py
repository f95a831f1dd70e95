"""Evaluate a checkpoint: `python -m src.eval checkpoint=...`, with any key of conf/ as `key=value`."""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from src.front_door import front_door

log = logging.getLogger("src.eval")  # __name__ is __main__ here


def evaluate(config: DictConfig) -> float | None:
    """Returns the mIoU."""
    from src.data.datamodule import SegmentationDataModule
    from src.evaluation.results import report_evaluation
    from src.runs import Run
    from src.training.agreement import Agreement
    from src.training.evaluated import data_to_evaluate, module_to_evaluate
    from src.training.pictures import PicturePanel
    from src.training.restore import restore
    from src.training.trainer import build_trainer, honest_exit
    from src.training.trouble import clear_errors

    run = Run.plan(config)
    trained = restore(config.checkpoint)
    run.config["data"] = data_to_evaluate(config, trained)
    data = SegmentationDataModule(run.config["data"], cache_dir=config.cache_dir)
    module = module_to_evaluate(trained, data)
    panel = PicturePanel(run.directory / "pictures", count=config.pictures, filename="panel.png")
    wanted = config.trainer.precision or trained.precision
    agreement = Agreement(run.config, Path(config.checkpoint).expanduser())
    trainer = build_trainer(run.config["trainer"] | {"precision": wanted}, [agreement, panel])
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
    return report_evaluation(run, module.scores, trained.provenance) if trainer.is_global_zero else None


main = front_door(evaluate, "eval")

if __name__ == "__main__":
    sys.exit(main())
