"""Evaluate a checkpoint: `python -m src.eval checkpoint=...`, with any key of conf/ as `key=value`."""

import sys

from omegaconf import DictConfig

from src.front_door import front_door


def evaluate(config: DictConfig) -> float | None:
    """Returns the mIoU."""
    from src.preflight import check_weights_file

    check_weights_file(config.checkpoint)
    from src.evaluation.evaluator import Evaluator
    from src.evaluation.results import report_evaluation
    from src.training.loggers.build import ended_with_exit_code
    from src.training.loggers.send_results import send_results

    evaluator = Evaluator(config)  # everything that can be wrong is found here
    run = evaluator.run
    with ended_with_exit_code(evaluator.loggers):
        miou, metrics = None, evaluator.evaluate()
        if metrics is not None:
            miou = report_evaluation(run, metrics, evaluator.trained.provenance, evaluator.split_size)
            send_results(evaluator.loggers, run.directory, evaluator.labels, step=0)
        evaluator.finish_submission()
        return miou


main = front_door(evaluate, "eval")

if __name__ == "__main__":
    sys.exit(main())
