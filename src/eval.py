"""Evaluate a checkpoint: `python -m src.eval checkpoint=...`, with any key of conf/ as `key=value`."""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from src.front_door import front_door

log = logging.getLogger("src.eval")  # __name__ is __main__ here


def evaluate(config: DictConfig) -> float | None:
    """Returns the mIoU."""
    from src.preflight import check_weights_file

    check_weights_file(config)
    from src.data.datamodule import SegmentationDataModule
    from src.evaluation.cityscapes_callback import OfficialScores
    from src.evaluation.cost_callback import Cost
    from src.evaluation.results import report_evaluation
    from src.evaluation.setup import data_to_evaluate, module_to_evaluate
    from src.evaluation.submission_callback import SubmissionWriter
    from src.inference.views import Inference, finite
    from src.report.reference_scores import find_baseline
    from src.report.write import IMAGES
    from src.runs.directory import Run
    from src.training.callbacks.image_ranking import BestAndWorstImages
    from src.training.callbacks.picture_panel import PicturePanel
    from src.training.memory import check_memory
    from src.training.reliability.error_messages import clear_errors
    from src.training.reliability.rank_consistency import RankConsistency
    from src.training.trainer import build_trainer, honest_exit
    from src.weights.trained_network import restore

    run = Run.plan(config)
    trained = restore(config.checkpoint)
    run.config["data"] = data_to_evaluate(config, trained)
    find_baseline(config.report.baseline, run.config["data"])  # an error comes before the evaluation
    data = SegmentationDataModule(
        run.config["data"], cache_dir=config.cache_dir, needs_labels=not config.submission, instances=True
    )
    module = module_to_evaluate(trained, data)
    module.inference = inference = Inference.from_config(finite(module, trained.path), run.config)
    wanted = config.trainer.precision or trained.precision
    submission = [SubmissionWriter(run, data)] if config.submission else []
    cost = Cost(config.latency, config.input_scale)
    callbacks = [
        RankConsistency(run.config, Path(config.checkpoint).expanduser()),
        PicturePanel(run.directory / "pictures", count=config.pictures, filename="panel.png"),
        BestAndWorstImages(run.directory / IMAGES, config.report.images),
        OfficialScores(),
        cost,
        *submission,
    ]
    fp32 = config.trainer.fp32_precision or trained.fp32_precision
    run.config["trainer"] |= {"precision": wanted, "fp32_precision": fp32}
    trainer = build_trainer(run.config["trainer"], callbacks)
    run.config["trainer"]["precision"] = str(trainer.precision)
    if trainer.precision != wanted:
        log.warning("Evaluating in %s: this device has no %s.", trainer.precision, wanted)
    data.prepare_data()
    data.setup("validate")
    inference.check_sizes(data.val_sizes)
    check_memory(module, data, trainer)
    data.check_devices(trainer.world_size)
    for writer in submission:
        writer.check()
    data.cache_frames()

    run.open(trainer.world_size)
    with clear_errors(run, trainer), honest_exit(trainer):
        trainer.validate(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return None
    for writer in submission:
        writer.finish()
    assert module.scores is not None
    assert data.val_set is not None
    if not data.val_set.has_labels:
        return None
    metrics = module.scores | {"cost": cost.metrics}
    return report_evaluation(run, metrics, trained.provenance, len(data.val_set))


main = front_door(evaluate, "eval")

if __name__ == "__main__":
    sys.exit(main())
