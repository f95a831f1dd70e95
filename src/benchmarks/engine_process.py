"""Each engine in a process of its own, where nothing of another is: its threads, its memory, its settings.

In one process ONNX Runtime's threads spin while another engine computes, and an engine on a CPU changes how
memory is allocated, which makes plain PyTorch faster.
"""

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from src.benchmarks.peak_memory import peak_of, resident
from src.errors import UserError
from src.inference.engines.choice import engine_for
from src.network.trust import trust
from src.weights.trained_network import TrainedNetwork

BASELINE = "baseline"

ClassMap = Callable[[Tensor], Tensor]
"""uint8 (B, 3, H, W) -> uint8 (B, H, W), both on the CPU."""


@dataclass(frozen=True)
class FirstMap:
    """class_map: of the image. seconds: until it was there, with all that the engine needs once.
    memory: bytes that the process grew by at its peak, with the network; None if the system does not tell."""

    class_map: Tensor
    seconds: float
    memory: int | None


class EngineProcess:
    """An engine in one precision, or BASELINE: eager PyTorch, channels first, argmax of full-size logits.

    Raises UserError if the engine cannot be had.
    """

    def __init__(self, trained: TrainedNetwork, engine: str, precision: str, image: Tensor):
        self._name = f"{engine} {precision}"
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])  # torch is imported once for all
        self._connection, theirs = context.Pipe()
        network = pickle.dumps(trained)  # else its tensors go through shared memory, small in a container
        arguments = (theirs, network, engine, precision, torch.get_num_threads())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        found, seconds, memory = self._ask(image.numpy())
        self.first = FirstMap(torch.from_numpy(found), seconds, memory)

    def class_map(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self._ask(image.numpy()))

    def turn(self, seconds: float) -> list[float]:
        """Milliseconds of each class map of the first image, again and again for so many seconds."""
        return self._ask(float(seconds))

    def close(self) -> None:
        self._connection.close()
        self._process.join()

    def _ask(self, request: Any) -> Any:
        self._connection.send(request)
        try:
            answer = self._connection.recv()
        except EOFError:
            self.close()
            code = self._process.exitcode
            answer = UserError(
                f"the process of {self._name} ended with exit code {code}; -9 is mostly a lack of memory."
            )
        if isinstance(answer, UserError):
            self.close()
            raise answer
        return answer


def _serve(connection: Connection, network: bytes, engine: str, precision: str, threads: int) -> None:
    torch.set_num_threads(threads)
    trained: TrainedNetwork = pickle.loads(network)  # noqa: S301  of the command itself
    trust([trained.model["_target_"]])  # the command has checked it
    try:
        first = torch.from_numpy(connection.recv())
        before, start = resident(), time.perf_counter()
        try:
            class_map = _class_map(trained, engine, precision)
            found = class_map(first)
        except UserError as error:
            connection.send(error)
            return
        seconds, peak = time.perf_counter() - start, peak_of(partial(class_map, first))
        grown = None if peak is None or before is None else max(0, peak - before)
        connection.send((found.numpy(), seconds, grown))
        while True:
            request = connection.recv()
            if isinstance(request, float):
                connection.send(_turn(partial(class_map, first), request))
            else:
                connection.send(class_map(torch.from_numpy(request)).numpy())
    except EOFError:  # nothing more is asked
        return


def _class_map(trained: TrainedNetwork, engine: str, precision: str) -> ClassMap:
    if engine != BASELINE:
        return engine_for(trained, engine, precision).class_map
    device = "cuda" if torch.cuda.is_available() else "cpu"
    segmenter = replace(trained, channels_last=False).segmenter().to(device)

    def class_map(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return segmenter(image.to(device)).argmax(1).to(torch.uint8).cpu()

    return class_map


def _turn(call: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    while sum(times) < 1e3 * seconds:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times
