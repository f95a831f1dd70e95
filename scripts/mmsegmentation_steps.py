"""mmsegmentation's side of training_steps.py, which starts it in mmsegmentation's environment.

Does the same as sssegmentation_steps.py, with the EncoderDecoder of mmsegmentation's
configs/_base_/models/cgnet.py, and with optimizer and schedule of its
configs/cgnet/cgnet_fcn_4xb8-60k_cityscapes-512x1024.py.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from mmsegmentation_network import _Stub
from sssegmentation_steps import draws


def main() -> None:
    say, sys.stdout = sys.stdout, sys.stderr
    order = json.loads(sys.stdin.readline())
    warnings.filterwarnings("ignore")
    sys.modules["mmcv.ops"] = _Stub("mmcv.ops")
    import mmcv
    import mmengine
    import mmseg
    import torch

    folder = Path(order["folder"])
    torch.save(draws(build, order), folder / "draws.pt")
    torch.manual_seed(0)
    model = build(order)
    if order["float64"]:
        model.double()
    torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, folder / "initial.pth")
    batches = torch.load(folder / "batches.pt", weights_only=True)
    losses, rates = train(model, batches, order)
    torch.save({"losses": losses, "rates": rates}, folder / "steps.pt")
    torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, folder / "last.pth")
    versions = {module.__name__: module.__version__ for module in (mmseg, mmcv, mmengine, torch)}
    print(json.dumps(versions), file=say, flush=True)


def build(order: dict[str, Any]) -> Any:
    import mmseg
    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    config = Config.fromfile(Path(mmseg.__file__).parent / ".mim/configs/_base_/models/cgnet.py").model
    loss = config.decode_head.loss_decode
    loss.class_weight = torch.tensor(loss.class_weight).tolist()  # rounded to float32, as ours
    config.data_preprocessor.size = tuple(order["size"])
    model = MODELS.build(config)
    model.init_weights()
    return revert_sync_batchnorm(model).train()


def train(model: Any, batches: list[dict[str, Any]], order: dict[str, Any]) -> tuple[Any, Any]:
    import torch
    from mmengine.optim import PolyLR
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-08, weight_decay=0.0005)
    # In mmengine the last step has the lowest learning rate. In mmcv 1, with which the published weights were
    # trained, and in ours, the step after the last one would have it: hence one step more here.
    schedule = PolyLR(optimizer, eta_min=1e-4, power=0.9, by_epoch=False, begin=0, end=order["steps"] + 1)
    losses, rates = [], []
    for batch in batches:
        samples = []
        for target in batch["target"]:
            height, width = target.shape
            shapes = {"img_shape": (height, width), "ori_shape": (height, width)}
            sample = SegDataSample(metainfo=shapes)
            sample.gt_sem_seg = PixelData(data=target[None].long())
            samples.append(sample)
        rates.append(optimizer.param_groups[0]["lr"])
        given = {"inputs": [image.flip(0) for image in batch["image"]], "data_samples": samples}
        given = model.data_preprocessor(given, True)
        if order["float64"]:  # the preprocessor subtracts the mean in float32
            mean = model.data_preprocessor.mean
            given["inputs"] = batch["image"].double() - mean.float().double()
        loss = model.loss(**given)["decode.loss_ce"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss))
    return losses, rates


if __name__ == "__main__":
    main()
