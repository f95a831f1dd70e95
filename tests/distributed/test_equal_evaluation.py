"""Any number of processes gives the same metrics, to the last bit."""

import shutil

import cv2
import pytest
from front_doors import TINY

pytestmark = pytest.mark.slow
FIGURES = (
    *("confusion_matrix", "num_images", "mIoU", "IoU", "category_mIoU", "category_IoU"),
    *("mean_iIoU", "iIoU", "category_mean_iIoU", "category_iIoU"),
)
KEYS = (*TINY, "data.val_batch_size=2", "callbacks=ema", "model.num_blocks=[3,3]", "model.init=authors")


@pytest.fixture(scope="module")
def trained(request, module_doors):
    """On 7 validation images, which neither 2 nor 3 devices divide; with averaged weights."""
    run = module_doors(
        "train",
        *KEYS,
        "data.batch_size=6",
        f"trainer.devices={request.param}",
        name=f"on{request.param}",
        own_process=True,
    )
    assert run.code == 0, run.err
    return run


def judge(doors, run, devices, *keys):
    judged = doors(
        "eval",
        f"checkpoint={run.directory}/checkpoints/last.ckpt",
        "trainer.accelerator=cpu",
        f"trainer.devices={devices}",
        *keys,
        name=f"on{devices}",
        own_process=devices > 1,
    )
    assert judged.code == 0, judged.err
    return judged.metrics


@pytest.mark.parametrize(
    ("trained", "devices"),
    [(2, 1), (2, 3), (3, 1), (3, 2)],
    indirect=["trained"],
)
def test_training_and_eval_count_the_same_pixels(trained, doors, devices):
    metrics, of_training = judge(doors, trained, devices), trained.metrics["last"]
    assert metrics["num_images"] == of_training["num_images"] == 7
    assert metrics["confusion_matrix"] == of_training["confusion_matrix"]
    assert metrics["mIoU"] == of_training["mIoU"]
    assert sum(map(sum, metrics["confusion_matrix"])) > 0.5 * 7 * 64 * 128


@pytest.mark.parametrize("trained", [2], indirect=True)
def test_frames_of_different_sizes(trained, doors, street_root, tmp_path):
    root = shutil.copytree(street_root, tmp_path / "mixed")
    for number, path in enumerate(sorted(root.glob("*/val/*/*.png"), key=lambda p: p.name)):
        if number // 4 % 2:  # the four files of every other frame
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, :96])
    data = "data.street=null", f"data.root={root}"
    one, *others = (judge(doors, trained, devices, *data) for devices in (1, 2, 3))
    assert one["num_images"] == 7
    assert one["mean_iIoU"] > 0
    for other in others:
        assert {key: other[key] for key in FIGURES} == {key: one[key] for key in FIGURES}
