"""The LightningModule: one training step, one validation step, and what a checkpoint carries."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from src.metrics.confusion import ConfusionMatrix, scores
from src.metrics.mean import WeightedMean
from src.network.segmenter import Segmenter
from src.network.upsample import best_class
from src.objects import build
from src.training.compiled import Compiled
from src.training.losses.step_loss import StepLoss
from src.training.losses.terms import ratio
from src.training.optimization import build_optimizer, build_schedule, freeze, length, steps_when
from src.training.reliability.lightning_internals import scale_left

Batch = Mapping[str, Any]


class SegmentationModule(LightningModule):
    """Trains and validates a Segmenter.

    All arguments are plain data, so that a checkpoint loads without running code (`weights_only=True`) and
    describes itself completely.

    Args:
        model: the values of a file in conf/model, from which the Segmenter is built.
        data: the values of the data group: name, splits, label table, ...
        classes: class names in the order of the train ids.
        training: None for evaluation; else the groups "loss", "optimizer", "schedule", with the loss's
            class_weights as numbers, and "auxiliary_weight", "compile", "channels_last", "fp32_precision" and
            "unlabelled_split".
        precision: Trainer precision of the run; evaluation uses the same one.
        began_from: the initial weights of a fine-tuning: file, digest, and what they were trained on.
        segmenter: with weights, for an evaluation; not recorded. None = a new one.
    """

    def __init__(
        self,
        model: dict[str, Any],
        data: dict[str, Any],
        classes: list[str],
        training: dict[str, Any] | None = None,
        precision: str | None = None,
        began_from: dict[str, Any] | None = None,
        segmenter: Segmenter | None = None,
    ):
        super().__init__()
        self.save_hyperparameters(ignore="segmenter")
        self.classes = classes
        self.segmenter = segmenter or Segmenter.from_config(model)
        # For the sizes and FLOPs in Lightning's summary.
        self.example_input_array = torch.zeros(1, 3, *data["crop_size"], dtype=torch.uint8)
        self.confusion = ConfusionMatrix(len(classes))
        self.val_loss = WeightedMean()
        self.num_images = 0
        self.scores: dict[str, Any] | None = None  # of the last validation, as metrics.json has them
        self.scored_epoch: int | None = None
        self.scored_step: int | None = None  # the optimizer steps before it
        # uint8 (B, 3, H, W) -> uint8 (B, H, W). Not in training, whose validation loss needs logits.
        self.class_map: Callable[[Tensor], Tensor] = self.segmenter.class_map
        self._sums: list[Tensor] = []  # of the loss and its parts, for each batch of this optimizer step
        self._pixels = 0
        self.training_config = training
        self.total_steps = 0  # that the schedule is made for; known when the training starts
        self.step_loss: Tensor | None = None  # of the whole batch, over all devices
        self.step_metrics: dict[str, Tensor] = {}  # the same, its parts, gradient norm, as they are logged
        self.epoch_loss: Tensor | float = 0.0  # summed over the steps of this epoch so far
        self.loss: StepLoss | None = None
        if training:
            self.loss = StepLoss(build("loss", training["loss"]), training["auxiliary_weight"])
            freeze(self.segmenter.network, training["optimizer"])
        if training and training["channels_last"]:
            self.segmenter.channels_last()
        # Only training steps are compiled: validation has images of many sizes, and has to give the same
        # metrics as src.eval.
        self.step_outputs: Callable[[Tensor], dict[str, Tensor]] = self.segmenter.coarse_outputs
        if training and training["compile"]:
            self.step_outputs = Compiled(self.segmenter, self.step_outputs)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) RGB -> float32 logits (B, C, H, W)."""
        return self.segmenter(image)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self.loss is not None
        sums = self.loss(self.step_outputs(batch["image"]), batch)
        self._sums.append(sums.detached())
        # The loss of a step is sum(total) / sum(weight) over all its devices and accumulated batches. The sum
        # of weights is not known yet: until `on_before_optimizer_step` the number of pixels replaces it.
        self._pixels = batch["target"].numel()
        return sums.total / self._pixels

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Rescales the gradients to those of sum(total) / sum(weight), however the ignored pixels are spread
        over devices and batches. Gradients are clipped after this."""
        sums = torch.stack(self._sums).sum(0)
        self._sums.clear()
        if self.trainer.world_size > 1:
            dist.all_reduce(sums)
        (total, weight), parts = sums[0], sums[1:]
        # What the gradients have been divided by so far: by the pixels in training_step, and by DDP and
        # Lightning, which average over devices and accumulated batches.
        divisor = self._pixels * self.trainer.world_size * self.trainer.accumulate_grad_batches
        factor = torch.where(weight > 0, divisor / weight, 0)  # no labelled pixel: no gradient
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        norm = torch.zeros_like(total)
        if gradients:  # none in the last epoch of StochasticWeightAveraging, which only sets BatchNorm
            torch._foreach_mul_(gradients, factor)
            norm = torch.stack(torch._foreach_norm(gradients)).norm() / scale_left(self.trainer, optimizer)
        loss = total * factor / divisor
        self.epoch_loss = self.epoch_loss + loss
        self.step_loss = loss
        assert self.loss is not None
        named = zip(self.loss.part_names, parts, strict=True)
        values = {f"train/loss_{name}": ratio(*of_part) for name, of_part in named}
        self.step_metrics = {"train/loss_step": loss, **values, "train/gradient_norm": norm}
        # Not on the progress bar, which would wait for the device at each step.
        self.log_dict(self.step_metrics)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True  # else Lightning would not validate after an incomplete epoch

    def on_train_epoch_end(self) -> None:
        # Computed here, since Lightning's mean leaves out the steps before a resume within the epoch.
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self.log(
            "train/loss_epoch", self.epoch_loss / math.ceil(batches / self.trainer.accumulate_grad_batches)
        )
        self.epoch_loss = 0.0

    def on_validation_epoch_start(self) -> None:
        self.confusion.reset()
        self.val_loss.reset()
        self.num_images = 0
        if self.trainer.world_size > 1:
            # Statistics of BatchNorm layers that are not synchronised differ between devices. All devices use
            # those of rank 0, as with DDP's own broadcast, which is off: it needs equal numbers of batches.
            for buffer in self.segmenter.buffers():
                dist.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the class map, uint8 (B, H, W), for callbacks."""
        if self.loss is None:
            prediction = self.class_map(batch["image"])
        else:
            logits = self(batch["image"])
            prediction = best_class(logits)
            self.val_loss.update(*self.loss.in_validation(logits, batch["target"]))
        self.confusion.update(prediction, batch["target"])
        self.num_images += len(batch["image"])
        return prediction

    def on_validation_epoch_end(self) -> None:
        matrix = self.confusion.compute()
        if self.trainer.sanity_checking:
            return
        self.scores = scores(matrix.cpu(), self.classes)
        self.scored_epoch, self.scored_step = self.trainer.current_epoch, self.trainer.global_step
        self.scores["num_images"] = self._sum_over_devices(self.num_images)
        loss = self.val_loss.compute().item() if self.loss is not None else 0.0
        epoch_scores = self.epoch_scores(self.scores, loss)
        # The matrix is already summed over devices: every rank logs the same values, without another
        # reduction. They are float64, since logging would round them otherwise.
        logged = {
            key: torch.tensor(value, dtype=torch.float64)
            for key, value in epoch_scores.items()
            if value is not None
        }
        self.log_dict(logged)

    def epoch_scores(self, metrics: dict[str, Any], loss: float | None) -> dict[str, Any]:
        """As they are logged."""
        named = {f"val/{key}": metrics[key] for key in ("mIoU", "pixel_accuracy", "mean_accuracy")}
        named |= {f"val_IoU/{name}": value for name, value in metrics["IoU"].items()}
        return named if self.loss is None else named | {"val/loss": loss}

    @property
    def metric_names(self) -> list[str]:
        """All that a training logs, for callbacks with a `monitor`; without LearningRateMonitor's keys."""
        none_yet = scores(torch.zeros(len(self.classes), len(self.classes)), self.classes)
        parts = [f"train/loss_{name}" for name in self.loss.part_names] if self.loss else []
        steps = ["train/loss_step", "train/loss_epoch", "train/gradient_norm"]
        return [*steps, *parts, *self.epoch_scores(none_yet, 0.0)]

    def _sum_over_devices(self, number: int) -> int:
        if self.trainer.world_size == 1:
            return number
        total = torch.tensor(number, device=self.device)
        dist.all_reduce(total)
        return int(total)

    def build_optimizer(self, steps: int, epochs: int) -> tuple[Optimizer, LRScheduler]:
        """For a training of this length. Raises UserError for values of the optimizer or the schedule that
        are not allowed."""
        assert self.training_config is not None
        optimizer = build_optimizer(self.training_config["optimizer"], self, self.segmenter.network)
        return optimizer, build_schedule(self.training_config["schedule"], optimizer, steps, epochs)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        assert self.training_config is not None
        self.total_steps, epochs = length(self.trainer)
        optimizer, scheduler = self.build_optimizer(self.total_steps, epochs)
        schedule = steps_when(self.training_config["schedule"], scheduler)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Each checkpoint carries the metrics of the validation before it, with the epoch they belong to.
        checkpoint["scores"] = self.scores
        checkpoint["scored_epoch"] = self.scored_epoch
        checkpoint["scored_step"] = self.scored_step
        checkpoint["epoch_loss"] = float(self.epoch_loss)
        checkpoint["total_steps"] = self.total_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.scores = checkpoint["scores"]
        self.scored_epoch = checkpoint["scored_epoch"]
        self.scored_step = checkpoint.get("scored_step")  # missing in older checkpoints
        self.epoch_loss = checkpoint.get("epoch_loss", 0.0)  # missing in older checkpoints
