"""torch.compile with two checks: something was compiled, and its gradients are right.

Without the checks, a switch without effect would look like one that brings no speed, and wrong gradients like
a recipe that does not learn.
"""

import logging
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.errors import UserError, counted
from src.runs.directory import rank

log = logging.getLogger(__name__)

_RATIO = 1.5  # allowed between the norms of two gradients; rounding and dropout change it by a few percent


class Compiled:
    """The forward pass of a network in training, compiled with torch.compile (the key `compile`).

    The network itself is not changed: a wrapper within it would rename the keys of checkpoints. The loss is
    not in the graph: with torch 2.13 on the CPU, upsampling and cross entropy in one graph with CGNet have
    gradients of zero, though each is right by itself.

    Args:
        network: its parameters are trained.
        forward: the function of the network that is compiled; uint8 image -> logits of each head.

    graphs: the number of graphs that the first call was compiled into; None before the first call.

    The first call takes a minute or more, and logs what was compiled. It raises UserError if nothing was
    compiled, which torch itself does not report: a module that is first called under a dispatch mode (a
    counter of FLOPs is one), or with TORCH_COMPILE_DISABLE=1, is not compiled. It also raises UserError if
    the compiled gradients differ from those of the network itself.
    """

    def __init__(self, network: nn.Module, forward: Callable[[Tensor], dict[str, Tensor]]):
        self.network = network
        self.forward = forward
        self.graphs: int | None = None
        self._compiled = forward

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        if self.graphs is None:
            self._compile(image)
        return self._compiled(image)

    def _compile(self, image: Tensor) -> None:
        if rank() == 0:
            log.info("torch.compile: compiling the first step, which takes a minute or more")
        torch._dynamo.reset()  # else it would not retry what it failed to compile in an earlier training
        # Otherwise Dynamo cuts the graph where DDP's buckets end, which it cannot do with SyncBatchNorm2d in
        # the graph. The cuts would let the all-reduce overlap the backward pass: only 2 MB for CGNet.
        torch._dynamo.config.optimize_ddp = False
        before = _counts()
        self._compiled = torch.compile(lambda image: self.forward(image))
        expected = self._gradient_norm(self.forward, image)
        try:
            found = self._gradient_norm(self._compiled, image)
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
                "(TORCH_COMPILE_DISABLE, TORCHDYNAMO_DISABLE), or does a callback run the step under a "
                "dispatch mode, such as a counter of FLOPs? If neither is the case, set compile=false."
            )
        if not expected / _RATIO <= found <= expected * _RATIO:
            raise UserError(
                f"compile=true: torch.compile makes wrong gradients of this network here: their norm is "
                f"{found:.3g} on the first batch, and without it {expected:.3g}. Set compile=false."
            )
        self.graphs = made["graphs"]
        if rank() == 0:
            log.info(
                "torch.compile: the network is %s of %d operations, with %s%s",
                counted(made["graphs"], "graph"),
                made["operations"],
                counted(made["breaks"], "graph break"),
                " (TORCH_LOGS=graph_breaks says where)" if made["breaks"] else "",
            )

    def _gradient_norm(self, forward: Callable[[Tensor], dict[str, Tensor]], image: Tensor) -> float:
        """Norm of the gradients of the mean square of all logits.

        Random state and BatchNorm statistics are the same afterwards.
        """
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        before = [buffer.clone() for buffer in self.network.buffers()]
        devices = [image.device] if image.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            loss = torch.stack([logits.square().mean() for logits in forward(image).values()]).sum()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for buffer, value in zip(self.network.buffers(), before, strict=True):
                buffer.copy_(value)
        return float(torch.stack([g.float().norm() for g in gradients if g is not None]).norm())


def _counts() -> Counter[str]:
    """What Dynamo has counted in this process so far."""
    counters = torch._dynamo.utils.counters
    return Counter(
        graphs=counters["stats"]["unique_graphs"],
        operations=counters["stats"]["calls_captured"],
        breaks=counters["graph_break"].total(),
    )
