"""Validation images that no memory holds are refused before they are read, with the gigabytes."""

import pytest
from front_doors import TINY

from src.inference.views import Inference

QUIET = ("callbacks.summary=null", "callbacks.pictures=null", "trainer.max_epochs=1")


@pytest.fixture
def machine_of(monkeypatch):
    return lambda count: monkeypatch.setattr("src.inference.image_memory.usable_memory", lambda: count)


@pytest.mark.parametrize(
    ("options", "gigabytes"),
    [
        ({}, 19.2),
        ({"window": (1024, 2048), "stride": (512, 1024)}, 1.35),
        ({"flip": True}, 41.1),
        ({"scales": (0.5, 1.0, 2.0)}, 98.7),
        ({"scales": (0.5,)}, 4.8),
    ],
)
def test_a_very_large_image(options, gigabytes):
    inference = Inference(lambda image: image, **options)
    assert inference.memory((8000, 12000), classes=19, per_pixel=200) / 1e9 == pytest.approx(gigabytes, 0.02)


@pytest.mark.slow
def test_an_evaluation_that_does_not_fit(doors, trained_checkpoint, machine_of):
    machine_of(3 * 10**6)  # 3 images of 128x64 at 200 bytes a pixel
    keys = (
        f"checkpoint={trained_checkpoint}",
        "trainer.accelerator=cpu",
        "pictures=0",
    )
    whole = doors("eval", *keys)
    assert whole.code == 2
    for part in ("3 images of 128x64 pixels", "0.00492 GB", "this machine has 0.003 GB", "window="):
        assert part in whole.err
    assert not whole.directory.exists()
    windows = doors("eval", *keys, "window=[32,32]")
    assert windows.code == 0, windows.err
    assert "WARNING: 3 images of 128x64 pixels" in windows.out + windows.err
    assert doors("eval", *keys, "data.val_batch_size=1", name="one").code == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("task", ["train", "doctor"])
def test_a_training_whose_validation_does_not_fit(doors, machine_of, task):
    machine_of(3 * 10**6)
    outcome = doors(task, *TINY, *QUIET, name="other")
    assert outcome.code == 2
    assert "3 images of 128x64 pixels" in outcome.out + outcome.err
