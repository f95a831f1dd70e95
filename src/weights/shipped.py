"""The trained networks that come with the project, by their names: `checkpoint=camvid`."""

import hashlib
from pathlib import Path

from src.errors import UserError

FOLDER = Path(__file__).parent / "shipped"
"""Of each network a checkpoint, <name>.ckpt, and its card, <name>.md."""
SHA256 = {
    "camvid": "4b598dbfb5762f7445c5bfe900142908ad3af97a33c60847ff9502d26445a705",
    "street": "f5ace74685cd68890a23a42978d78afad9274b3f929f20a542e5b7a576a733c5",
}
"""Of the checkpoints, by the networks' names."""


def find_shipped(checkpoint: str) -> str:
    """The path of a shipped network's checkpoint, if this is its name; else what was given.

    Raises UserError if the file is not the one that was shipped.
    """
    expected = SHA256.get(checkpoint)
    if expected is None:
        return checkpoint
    path = FOLDER / f"{checkpoint}.ckpt"
    if not path.is_file():
        raise UserError(f"checkpoint={checkpoint}: {path} is missing. git checkout -- {path} brings it back.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise UserError(
            f"checkpoint={checkpoint}: {path} is not the file that was shipped, by its SHA-256. "
            f"git checkout -- {path} brings it back."
        )
    return str(path)
