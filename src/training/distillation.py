"""Distillation: the network also learns from the predictions of a teacher, another network.

https://arxiv.org/abs/1503.02531, applied to every pixel.
"""

import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from src.config import plain
from src.errors import UserError
from src.label_tables import table_of
from src.network.segmenter import Segmenter
from src.network.upsample import upsample
from src.training.fine_tuning import load_pretrained
from src.training.losses.step_loss import Outputs
from src.training.losses.terms import Term
from src.weights.trained_network import digest, restore

log = logging.getLogger(__name__)


class Teacher:
    """Adds a term to the loss: T^2 * KL(teacher || student), both softened by the temperature T, for each
    pixel of the student's logits, whether it has a label or not; over all devices it is the mean over pixels.

    It is no module of the training, so that neither the optimizer nor a checkpoint has the teacher's weights.

    Args:
        segmenter: the teacher, with the student's classes.
        temperature: above 0; logits are divided by it.
        weight: factor of the term.
    """

    def __init__(self, segmenter: Segmenter, temperature: float = 1.0, weight: float = 1.0):
        self.segmenter = segmenter.eval().requires_grad_(False)
        self.temperature, self.weight = temperature, weight

    def __call__(self, outputs: Outputs, batch: Mapping[str, Any]) -> list[Term]:
        student = outputs["logits"]
        with torch.no_grad():
            teacher = self.segmenter.to(student.device).coarse_logits(batch["image"])
            teacher = upsample(teacher, student.shape[-2:])
        total = self._divergence(student, teacher)
        pixels = student.new_full((), float(student[:, 0].numel()))
        return [Term(total, pixels, self.weight, "distillation")]

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """T^2 * KL, summed over the pixels of (B, C, h, w)."""
        student, teacher = student / self.temperature, teacher / self.temperature
        each = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True)
        return each.sum() * self.temperature**2


def load_teacher(config: DictConfig) -> tuple[DictConfig, Teacher | None]:
    """The config to train with, whose `teacher.sha256` is that of the teacher's file, and the teacher.

    Raises UserError for a file that cannot be used, that is not the one that the config was recorded with, or
    that is for other classes.
    """
    values = plain(config.teacher)
    if values["checkpoint"] is None and values["model"] is None:
        return config, None
    if values["checkpoint"] is not None and values["model"] is not None:
        raise UserError("teacher.checkpoint and teacher.model are both given: choose one of them.")
    if values["model"] is not None:
        segmenter = Segmenter.from_config(values["model"])
        load_pretrained(segmenter.network)
    else:
        config = deepcopy(config)
        config.teacher.sha256 = found = digest(values["checkpoint"])
        if values["sha256"] not in (None, found):
            raise UserError(
                f"teacher.checkpoint={values['checkpoint']}: not the file that this run began with. Its "
                f"SHA-256 is {found}, expected teacher.sha256={values['sha256']}. Give the expected file."
            )
        try:
            trained = restore(values["checkpoint"])
        except UserError as error:
            raise UserError(f"teacher.{error.text}") from error
        classes = table_of(plain(config.data)).class_names
        if trained.classes != list(classes):
            raise UserError(
                f"teacher.checkpoint={values['checkpoint']}: a network for {trained.num_classes} other "
                f"classes, or in another order, than the {len(classes)} of this training. Choose a teacher "
                f"that was trained on the same classes."
            )
        trained.warn_of_seen_images(config.data.name, config.data.val_split)
        segmenter = trained.segmenter()
    parameters = sum(p.numel() for p in segmenter.parameters())
    log.info("Teacher: %s, %s parameters", type(segmenter.network).__name__, f"{parameters:,}")
    return config, Teacher(segmenter, values["temperature"], values["weight"])
