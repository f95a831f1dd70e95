"""Train a network: `python -m src.train`, with any key of conf/ as `key=value`."""

import sys

from omegaconf import DictConfig

from src.front_door import front_door


def train(config: DictConfig) -> float | None:
    """Returns the best val mIoU, for sweepers."""
    # Everything that can be wrong is found before the run directory is made.
    from src.preflight import check_training

    check_training(config)
    from pytorch_lightning import seed_everything

    from src.config import plain
    from src.data.datamodule import SegmentationDataModule
    from src.evaluation.results import report_training
    from src.report.reference_scores import find_baseline
    from src.runs.directory import Run
    from src.training.assemble import build_callbacks, build_module, fit
    from src.training.early_checks import check_monitors, check_validations
    from src.training.fine_tuning import initial_weights
    from src.training.loggers.build import build_loggers
    from src.training.reliability.rank_consistency import RankConsistency
    from src.training.resume import read_last_checkpoint
    from src.training.trainer import build_trainer

    config, initial = initial_weights(config)
    run = Run.plan(config)
    if run.finished:
        return report_training(run)
    last = read_last_checkpoint(run)
    seed_everything(config.seed, workers=True, verbose=False)
    find_baseline(config.report.baseline, config.data)
    data = SegmentationDataModule(plain(config.data), plain(config.augment), config.seed, config.cache_dir)
    loggers = build_loggers(plain(config.logger), run.directory, str(config.name))
    ranks = RankConsistency(run.config, run.last_checkpoint or initial.path)
    callbacks = [ranks, *build_callbacks(config.callbacks)]
    trainer = build_trainer(plain(config.trainer), callbacks, loggers)
    data.prepare_data()
    data.setup("fit")
    data.check_shares(trainer.world_size, trainer.accumulate_grad_batches)
    module = build_module(plain(config), data, trainer, initial.record)
    check_monitors(trainer, module, config.callbacks)
    check_validations(trainer, data)
    initial.load_into(module)
    data.cache_frames()

    run.open(trainer.world_size, last)
    fit(trainer, module, data, run, last)
    return report_training(run) if trainer.is_global_zero else None


main = front_door(train, "train")

if __name__ == "__main__":
    sys.exit(main())
