"""Measures the cost of an evaluated network, on the device of the evaluation."""

from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from src.errors import UserError
from src.inference.views import Inference, Network, scaled
from src.network.cost import latency, parameters_and_gflops
from src.runs.machine import machine


class Cost(Callback):
    """After an evaluation, `metrics` on rank 0 has the cost, for metrics.json.

    Args:
        inference: of the evaluation.
        passes: timed inferences, each with all views and windows, after three that are not timed; 0 = none.
        input_scale: GFLOPs are counted for a single view at this scale, in windows if there are any.
        recorded_parameters: of an exported file, whose network's class may be nowhere here.
        on_cpu: whether it computes there, as exported files do, wherever the metrics are computed.
    """

    def __init__(
        self,
        inference: Inference,
        passes: int,
        input_scale: float,
        recorded_parameters: int | None = None,
        on_cpu: bool = False,
    ):
        self.inference = inference
        self.passes = passes
        self.input_scale = input_scale
        self.recorded_parameters = recorded_parameters
        self.on_cpu = on_cpu
        self.metrics: dict[str, Any] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        size = max(trainer.datamodule.val_sizes, key=lambda side: side[0] * side[1])  # type: ignore[attr-defined]

        def one_view(network: Network) -> Network:
            return replace(self.inference, network=network, scales=(self.input_scale,), flip=False)

        parameters: int | None
        gflops: float | None
        try:
            parameters, gflops = parameters_and_gflops(pl_module.hparams["model"], *size, around=one_view)
        except UserError:  # the class of a network of the user's own, which was not named by trust=
            parameters, gflops = self.recorded_parameters, None
        seen = scaled(size, self.input_scale)
        self.metrics = {"parameters": parameters, "GFLOPs": gflops, "image": list(seen)}
        if self.passes:
            device = trainer.strategy.root_device
            # cuDNN would first try out sizes that are new to it; it knows these from the evaluated images.
            with trainer.precision_plugin.forward_context():
                self.metrics["latency_ms"] = latency(self.inference.class_map, size, device, self.passes)
            on, on_gpu = machine(), device.type == "cuda" and not self.on_cpu
            self.metrics["device"] = on["gpu"] if on_gpu else on["cpu"]
            self.metrics["threads"] = None if on_gpu else torch.get_num_threads()
