r"""Compares the logits of our Segmenter with those of mmsegmentation 1.2.2's CGNet, from its checkpoints.

    python -m scripts.logits_against_mmsegmentation --python /path/to/mmseg-env/bin/python

against_mmsegmentation.py says how to install mmsegmentation. In that environment, the network of its
configs/_base_/models/cgnet.py (with data_preprocessor, backbone and decode_head) is built with random
weights, biases and BatchNorm statistics, saved, and applied to random images. In this environment, the
checkpoint is read as `checkpoint=` reads it, and applied to the same images.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from src.errors import UserError
from src.weights.trained_network import restore

CASES = [
    {"classes": 19, "num_blocks": [3, 21], "sizes": [[64, 128], [45, 67], [256, 512]], "seed": 0},
    {"classes": 19, "num_blocks": [3, 21], "sizes": [[360, 480]], "seed": 1},
    {"classes": 11, "num_blocks": [3, 21], "sizes": [[33, 65], [128, 96]], "seed": 2},
    {"classes": 150, "num_blocks": [3, 15], "sizes": [[64, 64]], "seed": 3},
]


def compare(python: str, cases: list[dict[str, Any]], folder: Path) -> tuple[list[float], dict[str, str]]:
    """The largest difference of a logit for each image, and mmsegmentation's versions."""
    script = Path(__file__).with_name("mmsegmentation_network.py")
    order = json.dumps({"folder": str(folder), "cases": cases})
    done = subprocess.run(
        [python, str(script)], input=order + "\n", stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit("mmsegmentation's side ended: see its message above.")
    differences = []
    for number, case in enumerate(cases):
        trained = restore(str(folder / f"{number}.pth"))
        segmenter = trained.segmenter()
        for image, expected in torch.load(folder / f"{number}.logits", weights_only=True):
            with torch.no_grad():
                differences.append((segmenter(image) - expected).abs().max().item())
            print(
                f"{case['classes']} classes, M{case['num_blocks'][0]}N{case['num_blocks'][1]}, "
                f"{image.shape[2]}x{image.shape[3]}: largest difference {differences[-1]:.2e}, "
                f"logits spread by {expected.std((2, 3)).mean():.2f} over the pixels"
            )
    return differences, json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="Python of mmsegmentation's environment")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            differences, versions = compare(arguments.python, CASES, Path(folder))
        except UserError as error:
            raise SystemExit(error.text) from error
    print(f"Largest difference of all: {max(differences):.2e}. {versions}")


if __name__ == "__main__":
    main()
