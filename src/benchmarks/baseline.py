"""What the engines are compared with: PyTorch as it is, in a process of its own.

Of its own, because an engine on a CPU changes how its process allocates memory, which makes PyTorch faster.
"""

import time
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from src.benchmarks.peak_memory import peak_of, resident
from src.network.segmenter import Segmenter
from src.network.trust import trust
from src.weights.trained_network import TrainedNetwork


class Baseline:
    """Eager float32 in the channels-first format, full-size logits, argmax. On the device of "auto"."""

    def __init__(self, trained: TrainedNetwork):
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, trained.model, trained.weights, torch.get_num_threads())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()

    def timed(self, image: Tensor) -> tuple[Tensor, float]:
        """uint8 (B, 3, H, W) -> uint8 (B, H, W), and the milliseconds for it."""
        return self._ask("time", image)

    def memory(self, image: Tensor) -> int | None:
        """Bytes that the process grows by the network, and by one image at its peak; None if unknown."""
        return self._ask("memory", image)

    def _ask(self, what: str, image: Tensor) -> Any:
        self._connection.send((what, image.numpy()))
        answer = self._connection.recv()
        if what == "memory":
            return answer
        return torch.from_numpy(answer[0]), answer[1]

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, model: dict[str, Any], weights: dict[str, Tensor], threads: int) -> None:
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = resident()
    trust([model["_target_"]])  # the command's own process has checked it
    segmenter = Segmenter.from_config(model).eval()
    segmenter.load_state_dict(weights)
    segmenter.to(device)

    def class_map(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return segmenter(image.to(device)).argmax(1).to(torch.uint8).cpu()

    while True:
        try:
            what, pixels = connection.recv()
        except EOFError:
            return
        image = torch.from_numpy(pixels)
        if what == "memory":
            peak = peak_of(partial(class_map, image))
            connection.send(None if peak is None or before is None else max(0, peak - before))
            continue
        start = time.perf_counter()
        found = class_map(image)
        connection.send((found.numpy(), 1e3 * (time.perf_counter() - start)))
