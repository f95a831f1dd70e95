"""mmsegmentation's side of against_mmsegmentation.py, which starts it in mmsegmentation's own environment.

Imports nothing of this repository. Reads one JSON object per line, first {"images", "labels", "core"}, then
{"indices"} for each round, and answers each with a line: its versions, then {"seconds"}.
"""

import json
import os
import sys
import time
import types
import warnings
from typing import Any


def main() -> None:
    say, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed must not be taken for an answer
    start = json.loads(sys.stdin.readline())
    if start["core"] is not None:
        os.sched_setaffinity(0, {start["core"]})
    warnings.filterwarnings("ignore")
    # mmseg.datasets.transforms imports mmseg.utils.mask_classification, which imports this one name. It is
    # compiled code, which mmcv-lite lacks; no transform here calls it.
    stub = types.ModuleType("mmcv.ops")
    stub.point_sample = None  # type: ignore[attr-defined]
    sys.modules["mmcv.ops"] = stub
    import cv2
    import mmcv
    import mmengine
    import mmseg
    import mmseg.datasets.transforms
    import numpy
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    numpy.random.seed(0)
    pipeline = build_pipeline()
    answer: dict[str, Any] = {
        module.__name__: module.__version__ for module in (mmseg, mmcv, mmengine, cv2, numpy, torch)
    }
    while True:
        print(json.dumps(answer), file=say, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        began = time.perf_counter()
        for index in json.loads(line)["indices"]:
            sample = pipeline(
                {
                    "img_path": start["images"][index],
                    "seg_map_path": start["labels"][index],
                    "label_map": None,
                    "reduce_zero_label": False,
                    "seg_fields": [],
                }
            )
        answer = {"seconds": time.perf_counter() - began}
        assert sample["inputs"].shape == (3, 512, 1024)
        assert sample["inputs"].dtype == torch.uint8


def build_pipeline() -> Any:
    """train_pipeline of configs/_base_/datasets/cityscapes.py in mmsegmentation 1.2.2."""
    from mmcv.transforms import Compose
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")
    return Compose(
        [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations"},
            {"type": "RandomResize", "scale": (2048, 1024), "ratio_range": (0.5, 2.0), "keep_ratio": True},
            {"type": "RandomCrop", "crop_size": (512, 1024), "cat_max_ratio": 0.75},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "PhotoMetricDistortion"},
            {"type": "PackSegInputs"},
        ]
    )


if __name__ == "__main__":
    main()
