"""`python -m src.eval` with tta=, window= and input_scale=."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module")
def checkpoint(trained_checkpoint):
    return f"checkpoint={trained_checkpoint}"


@pytest.fixture(scope="module")
def judge(module_doors, checkpoint):
    def run(name, *keys, **how):
        return module_doors("eval", *keys, checkpoint, "trainer.accelerator=cpu", name=name, **how)

    return run


@pytest.fixture(scope="module")
def plain(judge):
    return judge("plain")


def test_plain_evaluation_says_that_it_was(plain):
    assert plain.code == 0, plain.err
    assert plain.metrics["tta"] == {"scales": [1.0], "flip": False}
    assert (plain.metrics["window"], plain.metrics["stride"]) == (None, None)
    assert plain.metrics["input_scale"] == 1.0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("keys", [("window=[64,128]",), ("tta.scales=[1]",)], ids=str)
def test_nothing_to_do_gives_the_same_matrix(judge, plain, keys):
    judged = judge("same", *keys)
    assert judged.metrics["confusion_matrix"] == plain.metrics["confusion_matrix"]
    assert judged.metrics["mIoU"] == plain.metrics["mIoU"]
    panels = [cv2.imread(str(run.directory / "pictures/panel.png")) for run in (judged, plain)]
    assert np.array_equal(*panels)


@pytest.mark.slow
def test_everything_together_is_recorded_and_shown(judge, plain):
    keys = ("tta=ms_flip", "tta.scales=[0.75,1.0]", "window=[48,64]", "input_scale=0.9", "stride=[16,32]")
    judged = judge("all", *keys)
    assert judged.code == 0, judged.err
    assert judged.metrics["tta"] == {"scales": [0.75, 1.0], "flip": True}
    assert (judged.metrics["window"], judged.metrics["stride"]) == ([48, 64], [16, 32])
    assert judged.metrics["input_scale"] == 0.9
    assert (plain.metrics["cost"]["image"], judged.metrics["cost"]["image"]) == ([64, 128], [58, 115])
    assert judged.metrics["cost"]["GFLOPs"] > plain.metrics["cost"]["GFLOPs"], "windows overlap"
    assert judged.metrics["confusion_matrix"] != plain.metrics["confusion_matrix"]
    assert sum(map(sum, judged.metrics["confusion_matrix"])) == sum(
        map(sum, plain.metrics["confusion_matrix"])
    )
    panels = [cv2.imread(str(run.directory / "pictures/panel.png")) for run in (judged, plain)]
    assert not np.array_equal(*panels), "the pictures show what is evaluated"
    again = judge("again", f"--config-dir={judged.directory}")
    assert again.metrics["confusion_matrix"] == judged.metrics["confusion_matrix"]
    other = judge("other", f"--config-dir={judged.directory}", "tta=flip", "window=null", "stride=null")
    assert other.metrics["tta"] == {"scales": [1.0], "flip": True}


@pytest.mark.slow
def test_two_devices_count_the_same_pixels(judge, tmp_path):
    keys = ("tta=flip", "tta.scales=[0.75,1.0]", "window=[48,96]", "data.val_batch_size=2")
    one = judge("one", *keys)
    two = judge("two", *keys, "trainer.devices=2", own_process=True)
    assert two.code == 0, two.err
    assert two.metrics["num_images"] == one.metrics["num_images"] == 7
    assert two.metrics["confusion_matrix"] == one.metrics["confusion_matrix"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ("tta.scales=[]",),
            "tta.scales=[]: expected a list of one or more values",
        ),
        (("tta.scales=[1.0,-0.5]", "input_scale=0"), "tta.scales=[1.0, -0.5]"),
        (("tta=ms",), "tta=ms: no such file in conf/tta. Did you mean ms_flip?"),
        (("tta=null",), "tta=null: no such file in conf/tta. Did you mean"),
        (("tta=1.5",), "tta=1.5: no such file in conf/tta. Did you mean"),
        (("window=[65,128]",), "window=[65, 128] (height, width) is larger than any view"),
        (("window=[64,64]", "stride=[0,64]"), "stride=[0, 64]"),
        (("window=[64,64]", "stride=[64,65]"), "stride=[64, 65]"),
        (("stride=[64,65]",), "give window=[height,width], too"),
        (("input_scale=3", "tta.scales=[1.0,2.0]"), "tta.scales=[1.0, 2.0] times input_scale=3"),
        (("input_scale=0.4",), "128x64 pixels times 0.4"),
        (("latency=-1",), "latency=-1: expected a whole number from 0"),
        (("report.images=1.5",), "report.images=1.5: expected a whole number from 0"),
        (("pictures=many",), "pictures=many: expected a whole number from 0"),
        (("trainer.limit_val_batches=0",), "trainer.limit_val_batches=0: there would be no metrics"),
        (("tta.scale=[1]",), "Unknown config key: tta.scale. The nearest one is tta.scales"),
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(judge, keys, message):
    refused = judge("refused", *keys)
    assert refused.code == 2
    assert message in refused.err
    assert not refused.directory.exists()
