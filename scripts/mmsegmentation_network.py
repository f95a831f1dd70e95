"""mmsegmentation's side of logits_against_mmsegmentation.py, which starts it in mmsegmentation's environment.

Imports nothing of this repository. Reads one JSON object {"folder", "cases": [{"classes", "num_blocks",
"sizes", "seed"}]} and writes for each case `<number>.pth`, a checkpoint, and `<number>.logits`, a list of
(uint8 image, logits at its size) from mmsegmentation's own EncoderDecoder. Prints its versions as JSON.
"""

import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    say, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed must not be taken for an answer
    order = json.loads(sys.stdin.readline())
    warnings.filterwarnings("ignore")
    sys.modules["mmcv.ops"] = _Stub("mmcv.ops")
    import mmcv
    import mmengine
    import mmseg
    import numpy
    import torch

    for number, case in enumerate(order["cases"]):
        model = build_model(case["classes"], case["num_blocks"])
        randomize(model, case["seed"])
        pairs = []
        for height, width in case["sizes"]:
            image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
            # mmsegmentation reads files as BGR, and data_preprocessor converts them to RGB.
            batch = model.data_preprocessor({"inputs": [image.flip(0)]}, False)
            with torch.no_grad():
                logits = model.encode_decode(batch["inputs"], [{"img_shape": (height, width)}])
            pairs.append((image[None], logits))
        folder = Path(order["folder"])
        torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, folder / f"{number}.pth")
        torch.save(pairs, folder / f"{number}.logits")
    versions = {module.__name__: module.__version__ for module in (mmseg, mmcv, mmengine, numpy, torch)}
    print(json.dumps(versions), file=say, flush=True)


class _Stub(types.ModuleType):
    """mmcv.ops, which mmcv-lite lacks: networks that are not built here import names from it."""

    __path__ = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def build_model(classes: int, num_blocks: list[int]) -> Any:
    """configs/_base_/models/cgnet.py of mmsegmentation 1.2.2, with these numbers of classes and blocks."""
    import mmseg
    from mmengine.config import Config
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    path = Path(mmseg.__file__).parent / ".mim/configs/_base_/models/cgnet.py"
    config = Config.fromfile(path).model
    config.decode_head.num_classes = classes
    config.decode_head.loss_decode.class_weight = None  # 19 numbers, needed for training only
    config.backbone.num_blocks = tuple(num_blocks)
    return MODELS.build(config).eval()


def randomize(model: Any, seed: int) -> None:
    """Draw weights and BatchNorm statistics with which no term of the network is near 0 or near 1."""
    import torch

    torch.manual_seed(seed)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape)
        if name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif value.is_floating_point() and value.ndim == 4:
            value.copy_(noise / value[0].numel() ** 0.5)
        elif value.is_floating_point() and value.ndim == 2:
            value.copy_(noise / value.shape[1] ** 0.5)
        elif value.is_floating_point():
            is_scale = name.endswith(".bn.weight") or ("norm_prelu" in name and name.endswith("0.weight"))
            value.copy_(0.3 * noise + is_scale)


if __name__ == "__main__":
    main()
