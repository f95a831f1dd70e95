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

    evaluator = Evaluator(config)  # everything that can be wrong is found here
    metrics = evaluator.evaluate()
    if metrics is None:
        return None
    return report_evaluation(evaluator.run, metrics, evaluator.trained.provenance, evaluator.split_size)


main = front_door(evaluate, "eval")

if __name__ == "__main__":
    sys.exit(main())
