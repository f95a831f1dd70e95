"""torch.compile that says what it made: a switch without effect looks like one that has no use."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from src.errors import UserError, counted
from src.runs import rank

log = logging.getLogger(__name__)


class Compiled:
    """A function that goes through torch.compile, as the key `compile` asks for.

    graphs: how many its first call was made into; None before that.

    The first call takes a minute or more, and says in the log what was compiled. It raises UserError where
    that is nothing, which torch itself passes over: a function that is first called under a dispatch mode (a
    counter of FLOPs is one), or with TORCH_COMPILE_DISABLE=1, stays as it is.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.graphs: int | None = None

    def __call__(self, *args: Any) -> Any:
        return self.function(*args) if self.graphs is not None else self._compile(*args)

    def _compile(self, *args: Any) -> Any:
        if rank() == 0:
            log.info("torch.compile: compiling the first step, which takes a minute or more")
        torch._dynamo.reset()  # or it would remember functions that it gave up in an earlier training
        before = _counts()
        compiled = torch.compile(self.function)
        try:
            result = compiled(*args)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = "\n".join(line for line in str(error).splitlines() if line.strip())
            raise UserError(
                f"compile=true: torch.compile cannot compile the training step here.\n{reason[:2000]}\n"
                f"Set compile=false."
            ) from error
        made = _counts() - before
        if not made["graphs"]:
            raise UserError(
                "compile=true: torch.compile compiled nothing of the training step. Is it switched off "
                "(TORCH_COMPILE_DISABLE, TORCHDYNAMO_DISABLE), or does a callback keep a dispatch mode, such "
                "as a counter of FLOPs, around the step? Else set compile=false."
            )
        self.function, self.graphs = compiled, made["graphs"]
        if rank() == 0:
            log.info(
                "torch.compile: network and loss are %s of %d operations, with %s%s",
                counted(made["graphs"], "graph"),
                made["operations"],
                counted(made["breaks"], "graph break"),
                " (TORCH_LOGS=graph_breaks says where)" if made["breaks"] else "",
            )
        return result


def _counts() -> Counter[str]:
    """Of this process until now."""
    counters = torch._dynamo.utils.counters
    return Counter(
        graphs=counters["stats"]["unique_graphs"],
        operations=counters["stats"]["calls_captured"],
        breaks=counters["graph_break"].total(),
    )
