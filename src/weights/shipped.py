"""The trained networks that come with the project, by their names: `checkpoint=camvid`."""

import hashlib
from pathlib import Path

from src.errors import UserError

FOLDER = Path(__file__).parent / "shipped"
"""Of each network a checkpoint, <name>.ckpt, and its card, <name>.md."""
SHA256 = {
    "camvid": "4ad44b4f7aa7e87e8807f8bffb424b76f3ff992e767d091ae38870b4ff31fab1",
    "camvid_train": "e1652a47b56ae2b70f525ff51a5fc712d5f5a8026c61c6ba4fe3ba885d84c318",
    "street": "f5ace74685cd68890a23a42978d78afad9274b3f929f20a542e5b7a576a733c5",
}
"""Of the checkpoints, by the networks' names."""


def weights_path(checkpoint: str | Path) -> Path:
    """Of a shipped network's checkpoint, if this is its name; else the path that was given, without ~.

    Configs and results keep the name, which means the same file in each checkout.

    Raises UserError if the shipped file is not the one that was shipped.
    """
    expected = SHA256.get(str(checkpoint))
    if expected is None:
        return Path(checkpoint).expanduser()
    path = FOLDER / f"{checkpoint}.ckpt"
    fix = f"git -C {FOLDER} checkout -- {path.name} brings it back."
    if not path.is_file():
        raise UserError(f"checkpoint={checkpoint}: {path} is missing. {fix}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise UserError(
            f"checkpoint={checkpoint}: {path} is not the file that was shipped, by its SHA-256. {fix}"
        )
    return path
