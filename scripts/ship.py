"""Makes a trained network part of the project: `python -m scripts.ship <checkpoint of a run> <name>`.

Writes src/weights/shipped/<name>.ckpt, the checkpoint without what only a resumed run needs, and prints the
line for SHA256 in src/weights/shipped.py. The card beside it, <name>.md, is written by hand.
"""

import argparse
import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.runs.atomic_files import write_bytes
from src.weights.checkpoint_files import load_checkpoint
from src.weights.shipped import FOLDER

_KEPT = (
    "epoch",
    "global_step",
    "pytorch-lightning_version",
    "state_dict",
    "hyper_parameters",
    "run",
    "scores",
    "scored_epoch",
    "scored_step",
)
_LARGEST = 2_200_000  # bytes


def stripped(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Weights, and what is known about them. Where the data lay on one's machine is left out."""
    kept = {key: checkpoint[key] for key in _KEPT if key in checkpoint}
    recorded = kept["hyper_parameters"]
    data = {key: value for key, value in recorded["data"].items() if key != "root"}
    kept["hyper_parameters"] = recorded | {"data": data}
    kept["state_dict"] = _in_one_piece(kept["state_dict"])
    return kept


def _in_one_piece(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as parts of one for each dtype: torch.save takes some 250 bytes for each piece."""
    parts: dict[str, Tensor] = {}
    for dtype in {tensor.dtype for tensor in weights.values()}:
        same = {key: tensor for key, tensor in weights.items() if tensor.dtype == dtype}
        pieces = torch.cat([tensor.flatten() for tensor in same.values()]).split(
            [tensor.numel() for tensor in same.values()]
        )
        parts |= {key: piece.view(same[key].shape) for key, piece in zip(same, pieces, strict=True)}
    return {key: parts[key] for key in weights}


def ship(path: str, name: str) -> Path:
    """Raises UserError for what is no checkpoint, SystemExit for one that is too large."""
    data = io.BytesIO()
    torch.save(stripped(load_checkpoint(path)), data)
    content = data.getvalue()
    if len(content) > _LARGEST:
        raise SystemExit(
            f"{path}: {len(content)} bytes of weights; a repository should not hold more than {_LARGEST}."
        )
    target = FOLDER / f"{name}.ckpt"
    write_bytes(target, content)
    print(f'    "{name}": "{hashlib.sha256(content).hexdigest()}",')
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="of a run")
    parser.add_argument("name", help="by which checkpoint= will name the network")
    arguments = parser.parse_args()
    ship(arguments.checkpoint, arguments.name)
