"""Measures what an evaluated network costs, where it was evaluated."""

from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from src.inference.views import Inference, Network, scaled
from src.network.cost import latency, parameters_and_gflops
from src.runs.machine import machine


class Cost(Callback):
    """After an evaluation, on rank 0: `metrics` for metrics.json.

    Args:
        passes: answers that are timed, after three that are not; 0 times none. With all views and windows.
        input_scale: operations are counted for the one view of this scale, through the window.
    """

    def __init__(self, passes: int, input_scale: float):
        self.passes = passes
        self.input_scale = input_scale
        self.metrics: dict[str, Any] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        size = max(trainer.datamodule.val_sizes, key=lambda side: side[0] * side[1])  # type: ignore[attr-defined]
        inference: Inference = pl_module.inference

        def one_view(network: Network) -> Network:
            return replace(inference, network=network, scales=(self.input_scale,), flip=False)

        parameters, gflops = parameters_and_gflops(pl_module.hparams["model"], *size, around=one_view)
        seen = scaled(size, self.input_scale)
        self.metrics = {"parameters": parameters, "GFLOPs": gflops, "image": list(seen)}
        if self.passes:
            device = trainer.strategy.root_device
            # Sizes that cuDNN has not tried yet it would try now: it has, on the evaluated images.
            with trainer.precision_plugin.forward_context():
                self.metrics["latency_ms"] = latency(inference, size, device, self.passes)
            on = machine()
            self.metrics["device"] = on["gpu"] if device.type == "cuda" else on["cpu"]
            self.metrics["threads"] = None if device.type == "cuda" else torch.get_num_threads()
