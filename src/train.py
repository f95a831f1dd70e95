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

    from src.evaluation.results import report_training
    from src.report.reference_scores import find_baseline
    from src.runs.directory import Run
    from src.training.assemble import assemble_data, assemble_module, assemble_trainer, build_callbacks
    from src.training.distillation import load_teacher
    from src.training.fine_tuning import initial_weights
    from src.training.fit import fit
    from src.training.loggers.build import ended_with_exit_code
    from src.training.loggers.send_results import send_results
    from src.training.resume import read_last_checkpoint

    config, initial = initial_weights(config)
    config, teacher = load_teacher(config)
    run = Run.plan(config)
    if run.finished:
        return report_training(run)
    last = read_last_checkpoint(run)
    seed_everything(config.seed, workers=True, verbose=False)
    find_baseline(config.report.baseline, config.data)
    data = assemble_data(config)
    callbacks = build_callbacks(config.callbacks)
    trainer = assemble_trainer(config, callbacks, run.last_checkpoint or initial.path)
    data.prepare_data()
    data.setup("fit")
    data.check_shares(trainer.world_size, trainer.accumulate_grad_batches)
    module = assemble_module(config, data, trainer, initial, teacher)
    data.cache_frames()

    run.open(trainer.world_size, last)
    with ended_with_exit_code(trainer.loggers):
        fit(trainer, module, data, run, last)
        if not trainer.is_global_zero:
            return None
        miou = report_training(run)
        send_results(trainer.loggers, run.directory, data.table, trainer.global_step)
        return miou


main = front_door(train, "train")

if __name__ == "__main__":
    sys.exit(main())
