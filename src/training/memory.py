"""Checks the memory that the images of a validation need, before the first of them is evaluated."""

import logging
from collections import Counter

import pytorch_lightning as pl

from src.data.datamodule import SegmentationDataModule
from src.errors import UserError, counted
from src.inference.image_memory import bytes_per_pixel, memory_of
from src.inference.views import Inference
from src.network.cgnet import CGNet
from src.training.module import SegmentationModule

log = logging.getLogger(__name__)


def check_memory(
    module: SegmentationModule,
    data: SegmentationDataModule,
    trainer: pl.Trainer,
    inference: Inference | None = None,
) -> None:
    """Raises UserError if a batch of the validation needs more memory than the device has; warns if it needs
    more than half of it. For a network other than CGNet only its input and its logits are counted."""
    sizes = Counter(data.val_sizes)
    if not sizes or trainer.limit_val_batches == 0:
        return
    classes, device = len(module.classes), trainer.strategy.root_device
    inference = inference or Inference(module.segmenter)
    is_cgnet = isinstance(module.segmenter.network, CGNet)
    per_pixel = bytes_per_pixel(is_cgnet, classes, half="16" in str(trainer.precision))
    of_images = {
        size: inference.memory(size, classes, per_pixel) * min(count, data.config["val_batch_size"])
        for size, count in sizes.items()
    }
    (height, width), needed = max(of_images.items(), key=lambda item: item[1])
    there, where = memory_of(device), "the GPU"
    if device.type == "cpu":
        needed, where = needed * trainer.num_devices, "this machine"
    if not there or needed <= there / 2:
        return
    batch = min(sizes[height, width], data.config["val_batch_size"])
    text = (
        f"{counted(batch, 'image')} of {width}x{height} pixels of the split '{data.config['val_split']}' "
        f"at once: about {needed / 1e9:.3g} GB of memory, and {where} has {there / 1e9:.3g} GB"
    )
    if needed <= there:
        log.warning("WARNING: %s.", text)
        return
    raise UserError(
        f"{text}. Evaluate in windows (python -m src.eval ... window=[1024,2048]) or at a smaller "
        f"input_scale; in a training choose data.val_batch_size=1, smaller validation images, or none "
        f"(trainer.limit_val_batches=0)."
    )
