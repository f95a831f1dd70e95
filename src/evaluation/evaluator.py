"""An evaluation, from its config to its metrics: it is prepared, then run."""

import logging
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from src.data.datamodule import SegmentationDataModule
from src.errors import UserError
from src.evaluation.cityscapes_callback import OfficialScores
from src.evaluation.cost_callback import Cost
from src.evaluation.setup import data_to_evaluate, module_to_evaluate
from src.evaluation.submission_callback import SubmissionWriter
from src.inference.exports.exported_network import ExportedNetwork, restore_any
from src.inference.finite import raise_if_not_finite
from src.inference.views import Inference
from src.labels import LabelTable
from src.metrics.by_image import BY_IMAGE
from src.report.reference_scores import find_baseline
from src.report.write import IMAGES
from src.runs.directory import Run
from src.training.assemble import build_callbacks
from src.training.callbacks.image_ranking import BestAndWorstImages
from src.training.callbacks.picture_panel import PicturePanel
from src.training.loggers.build import build_loggers, keep_ids
from src.training.memory import check_memory
from src.training.reliability.error_messages import clear_errors
from src.training.reliability.rank_consistency import RankConsistency
from src.training.trainer import build_trainer, honest_exit
from src.weights.shipped import weights_path
from src.weights.trained_network import TrainedNetwork

log = logging.getLogger(__name__)


class Evaluator:
    """Prepares an evaluation. Raises UserError for every error it can find, before the run directory is made.

    Args:
        config: the config of src.eval.

    run: the run directory that will be made, with the config that is in effect: with the network's own data,
        and with a precision that the device supports.
    trained: the network, and what its file records about it.
    """

    def __init__(self, config: DictConfig):
        planned = Run.plan(config)
        self.trained = restore_any(config.checkpoint)
        values = planned.config | {"data": data_to_evaluate(config, self.trained)}
        precision = _precision(config, self.trained)
        fp32_precision = config.trainer.fp32_precision or self.trained.fp32_precision
        values["trainer"] |= {"precision": precision, "fp32_precision": fp32_precision}
        self.run = Run(planned.directory, values)
        find_baseline(config.report.baseline, values["data"])  # raises its errors before the evaluation
        own, loggers = build_callbacks(config.callbacks), build_loggers(values["logger"])

        self._data = SegmentationDataModule(
            values["data"], cache_dir=config.cache_dir, needs_labels=not config.submission, instances=True
        )
        self._module = module_to_evaluate(self.trained, self._data)
        raise_if_not_finite(self._module.segmenter, self.trained.path)
        inference = Inference.from_config(self._module.segmenter, values)
        self._module.class_map = inference.class_map
        self._submission = SubmissionWriter(self.run, self._data) if config.submission else None
        parameters = self.trained.provenance["parameters"]
        exported = isinstance(self.trained, ExportedNetwork)
        self._cost = Cost(inference, config.latency, config.input_scale, parameters, on_cpu=exported)
        callbacks = [
            RankConsistency(values, weights_path(config.checkpoint)),
            PicturePanel(planned.directory / "pictures", count=config.pictures, filename="panel.png"),
            BestAndWorstImages(
                planned.directory / IMAGES, planned.directory / BY_IMAGE, config.report.images
            ),
            OfficialScores(),
            self._cost,
            *([self._submission] if self._submission else []),
            *own,
        ]
        self._trainer = build_trainer(values["trainer"], callbacks, loggers)
        values["trainer"]["precision"] = str(self._trainer.precision)
        if self._trainer.precision != precision:
            log.warning(
                "Evaluating in %s: this device does not support %s.", self._trainer.precision, precision
            )

        self._data.prepare_data()
        self._data.setup("validate")
        inference.check_sizes(self._data.val_sizes)
        if isinstance(self.trained, ExportedNetwork):
            self.trained.check_views(inference, self._data.val_sizes)
        check_memory(self._module, self._data, self._trainer, inference)
        self._data.check_devices(self._trainer.world_size)
        if self._submission:
            self._submission.check()
        self._data.cache_frames()

    def evaluate(self) -> dict[str, Any] | None:
        """Run it; returns the metrics as in metrics.json, None on ranks other than 0 and without labels."""
        self.run.open(self._trainer.world_size)
        if self._trainer.is_global_zero:
            keep_ids(self.loggers, self.run.directory)
        with clear_errors(self.run, self._trainer), honest_exit(self._trainer):
            for logger in self.loggers:
                logger.log_hyperparams(self.run.config | self.run.origin)
            self._trainer.validate(self._module, datamodule=self._data, verbose=False)
        if not self._trainer.is_global_zero:
            return None
        assert self._module.scores is not None
        assert self._data.val_set is not None
        if not self._data.val_set.has_labels:
            return None
        return self._module.scores | {"cost": self._cost.metrics}

    def finish_submission(self) -> None:
        """After the metrics are written, which an error here must not lose."""
        if self._submission and self._trainer.is_global_zero:
            self._submission.finish()

    @property
    def loggers(self) -> list[Logger]:
        return self._trainer.loggers

    @property
    def labels(self) -> LabelTable:
        return self._data.table

    @property
    def split_size(self) -> int:
        """Number of images in the split."""
        assert self._data.val_set is not None
        return len(self._data.val_set)


def _precision(config: DictConfig, trained: TrainedNetwork | ExportedNetwork) -> str:
    """Of the arithmetic: that of the training, unless the config asks for another one."""
    given = config.trainer.precision
    if isinstance(trained, ExportedNetwork) and given not in (None, trained.precision):
        raise UserError(
            f"trainer.precision={given}: of no effect on an exported file, whose graph computes in float32. "
            f"Leave it out, or evaluate the checkpoint that the file was exported from."
        )
    return given or trained.precision
