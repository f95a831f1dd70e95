"""Tries a network and a loss on one small batch, to find a mistake in them before the training begins."""

import copy
import logging
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.data.datamodule import SegmentationDataModule
from src.errors import UserError, counted, shorten
from src.labels import IGNORE
from src.network.build import where_it_failed
from src.network.upsample import upsample
from src.training.module import SegmentationModule

log = logging.getLogger(__name__)

_SIDE = 64  # pixels; a smaller image stands for a larger one whose sides have the same remainders modulo 64
_OTHER_SIZES = 3  # of validation images, beside the crop's


def check_network_and_loss(
    module: SegmentationModule, data: SegmentationDataModule, trainer: pl.Trainer
) -> None:
    """Raises UserError if forward or the loss fail, or return something else than the contract says; and for
    crops or validation images that are smaller than the network's `min_size`.

    Says in the log what holds over several devices for a loss that is a mean.
    """
    crop = data.config["crop_size"]
    least = module.segmenter.min_size
    if min(crop) < least:
        raise UserError(f"data.crop_size={crop}: {_name(module)} needs at least {least}x{least} pixels.")
    small = [(height, width) for height, width in data.val_sizes if min(height, width) < least]
    if small:
        raise UserError(
            f"The split '{data.config['val_split']}' has an image of {small[0][1]}x{small[0][0]} pixels, but "
            f"{_name(module)} needs at least {least}x{least}."
        )
    height, width = _smaller(crop, least)
    generator = torch.Generator().manual_seed(0)
    classes = len(module.classes)
    others = {_smaller(size, least): size for size in data.val_sizes}
    others.pop((height, width), None)
    image = torch.randint(256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    target = torch.randint(classes, (2, height, width), generator=generator).to(torch.uint8)
    target[:, : height // 4] = IGNORE
    modes = [(part, part.training) for part in module.segmenter.modules()]  # frozen parts have their own
    module.segmenter.eval()  # else BatchNorm would learn from it
    try:
        with torch.no_grad():
            outputs = _outputs(module, image, classes, crop)
            for tried, size in list(others.items())[:_OTHER_SIZES]:  # else they would fail after an epoch
                _outputs(module, torch.zeros((2, 3, *tried), dtype=torch.uint8), classes, size)
        outputs = {head: logits.detach().requires_grad_() for head, logits in outputs.items()}
        _check_loss(module, outputs, {"image": image, "target": target}, trainer)
        if trainer.world_size > 1:
            _check_that_all_learn(module, image)
    finally:
        for part, training in modes:
            part.training = training


def _smaller(size: Sequence[int], least: int) -> tuple[int, int]:
    """(height, width) with the same remainders, which is faster to try: a network with strides takes both or
    none."""
    steps = -(-max(least, _SIDE) // _SIDE) * _SIDE
    height, width = (min(side, steps + side % _SIDE) for side in size)
    return height, width


def _name(module: SegmentationModule) -> str:
    return type(module.segmenter.network).__name__


def _outputs(
    module: SegmentationModule, image: Tensor, classes: int, stands_for: Sequence[int]
) -> dict[str, Tensor]:
    try:
        outputs = module.segmenter.coarse_outputs(image)
    except Exception as error:  # of any type, in a network of the user's own
        size = f"{image.shape[-1]}x{image.shape[-2]} pixels"
        if (height_width := tuple(stands_for)) != image.shape[-2:]:
            size += f" (tried in the place of {height_width[1]}x{height_width[0]})"
        raise UserError(
            f"{_name(module)}.forward fails on 2 images of {size}: {where_it_failed(error)}"
        ) from error
    for head, logits in outputs.items():
        if logits.ndim != 4 or len(logits) != 2 or logits.shape[1] != classes:
            raise UserError(
                f"{_name(module)}.forward: {head} has shape {tuple(logits.shape)} for 2 images, expected "
                f"(2, {classes}, height, width): one channel for each class of the dataset."
            )
    assert module.loss is not None
    weights, heads = module.loss.auxiliary_weight, outputs.keys() - {"logits"}
    if not isinstance(weights, float | int) and weights.keys() != heads:
        raise UserError(
            f"auxiliary_weight has the heads {', '.join(weights) or 'none'}, but {_name(module)} has "
            f"{', '.join(sorted(heads)) or 'none'}. Give one number for all, or a number for each."
        )
    return outputs


def _check_that_all_learn(module: SegmentationModule, image: Tensor) -> None:
    """DDP waits for a gradient of each parameter, and ends with an error that names none of them."""
    trained = copy.deepcopy(module.segmenter).train()
    with torch.random.fork_rng(devices=[]):  # of dropout: the training's random numbers stay the same
        outputs = trained.coarse_outputs(image)
    torch.stack([logits.square().sum() for logits in outputs.values()]).sum().backward()
    parameters = trained.network.named_parameters()
    idle = [name for name, parameter in parameters if parameter.requires_grad and parameter.grad is None]
    if idle:
        raise UserError(
            f"{_name(module)}: {counted(len(idle), 'parameter')} without influence on its outputs, which "
            f"several devices cannot train:\n{shorten(idle)}\nRemove what has them, or freeze it: "
            f"optimizer.groups={{{idle[0]}: {{lr_factor: 0}}}}"
        )


def _check_loss(
    module: SegmentationModule, outputs: dict[str, Tensor], batch: dict[str, Tensor], trainer: pl.Trainer
) -> None:
    assert module.loss is not None
    loss, name = module.loss.loss, type(module.loss.loss).__name__
    try:
        sums = module.loss(outputs, batch)
        rows = sums.detached()
        if sums.total.requires_grad:
            sums.total.backward()
        alone = loss(upsample(outputs["logits"], batch["target"].shape[-2:]), batch["target"])
    except Exception as error:  # of any type, in a loss of the user's own
        raise UserError(
            f"loss: {name} fails on logits (2, {len(module.classes)}, height, width) and a uint8 target, in "
            f"which {IGNORE} is not to be counted: {where_it_failed(error)}"
        ) from error
    gradient = outputs["logits"].grad
    if gradient is None or not gradient.any():
        raise UserError(
            f"loss: {name} has no gradient: compute it from the logits with operations of torch, without "
            f"detach, argmax or numpy. It returns a mean, or a sum and its weight."
        )
    if not rows.isfinite().all():
        raise UserError(f"loss: {name} gives {sums.total} / {sums.weight}, which is not finite.")
    is_sum = isinstance(alone, tuple) and not sums.parts and not getattr(loss, "compares_pixels", False)
    exact = (getattr(loss, "by_image", False) and not module.loss.more_terms) or is_sum
    if trainer.world_size * trainer.accumulate_grad_batches > 1 and not exact and trainer.is_global_zero:
        log.info(
            "loss: %s is a mean, compares the pixels of a batch, or has terms with different weights. Its "
            "value over devices and accumulated batches is not exactly that of one large batch.",
            name,
        )
