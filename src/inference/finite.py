"""A network whose values overflow: the class map of NaN logits would look valid."""

from typing import Any

from torch import nn

from src.errors import UserError
from src.network.segmenter import Segmenter, heads_of


def raise_if_not_finite(segmenter: Segmenter, path: str) -> None:
    """From now on the Segmenter raises UserError, with the weights' path, for NaN or infinite logits."""

    def check(network: nn.Module, _: Any, output: Any) -> None:
        if not heads_of(output, network)["logits"].sum().isfinite():
            raise UserError(
                f"checkpoint={path}: its network's logits for an image are NaN or infinite, though its "
                "weights are finite: values overflow in its precision. Is the file damaged? If not, "
                "use full precision (trainer.precision=32-true in an evaluation, else precision=float32)."
            )

    segmenter.network.register_forward_hook(check)
