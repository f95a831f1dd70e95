"""Steps that a user adds to an augmentation: before the padding, and what they fill is ignored."""

import copy

import numpy as np
import pytest
from front_doors import TINY

from src.data.augment import SeededTransform
from src.data.steps import build_steps, check_steps
from src.labels import IGNORE

FRAME = (128, 192)


@pytest.fixture
def augment(shipped):
    """Cityscapes' own, with crops of 64x96."""
    steps = copy.deepcopy(shipped["cityscapes"][1])
    steps["crop"]["size"] = [64, 96]
    steps["pad"] |= {"min_height": 64, "min_width": 96}
    return steps


@pytest.fixture
def mean(shipped):
    return shipped["cityscapes"][0]["mean"]


def step(name, **values):
    return {"_target_": f"albumentations.{name}", **values}


def nested(name, *steps):
    return step(name, transforms=list(steps))


FILLING = {
    "Rotate": step("Rotate", limit=[30, 60]),
    "SafeRotate": step("SafeRotate"),
    "Affine": step("Affine", translate_percent=[0.3, 0.4]),
    "ShiftScaleRotate": step("ShiftScaleRotate", shift_limit=[0.3, 0.4]),
    "Perspective": step("Perspective", scale=[0.2, 0.3], fit_output=True),
    "ElasticTransform": step("ElasticTransform", alpha=300, sigma=20),
    "GridDistortion": step("GridDistortion", distort_limit=[0.4, 0.5]),
    "OpticalDistortion": step("OpticalDistortion", distort_limit=[0.8, 0.9]),
    "ThinPlateSpline": step("ThinPlateSpline"),
    "CropAndPad": step("CropAndPad", percent=[0.1, 0.2]),
    "OneOf": nested("OneOf", step("Rotate", limit=[30, 60]), step("Affine", translate_percent=[0.3, 0.4])),
    "Sequential": nested("Sequential", nested("SomeOf", step("Rotate", limit=[30, 60])) | {"n": 1}),
}


@pytest.mark.parametrize("name", FILLING)
def test_what_an_added_step_fills_is_ignored_and_has_the_mean(augment, mean, name):
    augment = {**augment, "crop": None, "color": None, "pad": None, "own": FILLING[name]}
    assert check_steps(augment, mean, [FRAME]) == FRAME
    chain = SeededTransform(list(build_steps(augment, mean, always=True).values()), 0)
    filled = 0
    for index in range(6):
        frame = np.full((*FRAME, 3), 200, np.uint8), np.full(FRAME, 4, np.uint8)
        image, target = chain(*frame, 0, index).values()
        assert set(np.unique(target)) <= {4, IGNORE}
        # CropAndPad takes one of the three numbers for all channels. Between image and filling are others.
        empty = image[(image < 195).all(2)]
        assert min(mean) - 1 <= empty.min(initial=255)
        filled += int((target == IGNORE).sum())
    assert filled


def test_an_added_step_comes_before_the_padding_and_a_flip_stays_behind_it(augment, mean):
    steps = {**augment, "own": FILLING["Rotate"]}
    assert list(build_steps(steps, mean)) == ["crop", "flip", "color", "own", "pad"]
    flip = steps.pop("flip")
    paper = {**steps, "flip": flip, "more": FILLING["Affine"]}
    assert list(build_steps(paper, mean)) == ["crop", "color", "own", "more", "pad", "flip"]


def test_a_dropout_leaves_the_label_as_it_is(augment, mean):
    augment["own"] = step("CoarseDropout")
    assert check_steps(augment, mean, [FRAME]) == (64, 96)
    assert build_steps(augment, mean)["own"].fill_mask is None


def test_what_the_user_gives_is_kept(augment, mean):
    augment["own"] = step("Rotate", fill=[1, 2, 3], border_mode=4)
    own = build_steps(augment, mean)["own"]
    assert (list(own.fill), own.fill_mask, own.border_mode) == ([1, 2, 3], IGNORE, 4)


def test_the_padding_comes_last(augment, mean):
    augment |= {"color": None, "own": step("Rotate", limit=[40, 50]), "other": step("GaussNoise")}
    assert list(build_steps(augment, mean)) == ["crop", "flip", "own", "other", "pad"]


def test_steps_in_a_step_are_drawn_anew_for_each_sample_and_alike_for_each_epoch(augment, mean):
    augment |= {"color": None, "flip": None, "own": FILLING["OneOf"]}
    augment["crop"]["scale"] = [1, 1]
    chain = SeededTransform(list(build_steps(augment, mean).values()), 0)
    frame = np.zeros((64, 96, 3), np.uint8), np.full((64, 96), 4, np.uint8)

    def drawn():
        return [chain(*frame, 0, index)["target"].tobytes() for index in range(12)]

    assert drawn() == drawn()
    assert len(set(drawn())) > 5


REFUSED = {
    "ids of its own": (step("Rotate", fill_mask=0), "augment.own: Rotate puts the ids [0]"),
    "mixed ids": (step("Rotate", mask_interpolation=1), "augment.own: Rotate puts the ids ["),
    "ids by another way": (step("TimeMasking"), "augment.own: TimeMasking puts the ids [0]"),
    "within another": (nested("OneOf", step("Rotate", fill_mask=3), step("NoOp")), "OneOf puts the ids [3]"),
    "numbers of another kind": (step("Normalize"), "augment.own: Normalize turns the image into float32"),
    "a tensor": ({"_target_": "albumentations.pytorch.ToTensorV2"}, "turns the image into Tensor"),
    "another size": (step("Resize", height=100, width=100), "augment.own changes the size"),
    "turned around": (step("Transpose"), "augment.own changes the size"),
    "a crop that does not fit": (step("RandomCrop", height=99, width=99), "augment.own: RandomCrop fails on"),
    "unknown argument": (step("Rotate", limt=5), "augment.own.limt: albumentations.Rotate has no such"),
    "unknown within": (nested("OneOf", step("Rotate", limt=5)), "augment.own.transforms.0.limt"),
    "no transform": ({"_target_": "collections.Counter"}, "augment.own: collections.Counter is no transform"),
    "arguments that exclude each other": (step("CropAndPad", px=3, percent=0.1), "augment.own: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(augment, mean, refused, name):
    augment["own"], said = REFUSED[name]
    with refused(said):
        check_steps(augment, mean, [FRAME])


@pytest.mark.parametrize(
    ("sizes", "changes", "said"),
    [
        ([FRAME], {"pad": None}, "augment.crop.scale=[0.25, 2.0]"),
        ([(800, 800), FRAME], {"pad": None}, "a frame of 192x128 pixels can become a sample of 48x32"),
        ([FRAME, (64, 64)], {"pad": None, "crop": None}, "Give a crop"),
        ([FRAME, (64, 64)], dict.fromkeys(("crop", "flip", "color", "pad")), "Give a crop"),
    ],
)
def test_samples_of_different_sizes_are_refused(augment, mean, refused, sizes, changes, said):
    augment["crop"]["scale"] = [0.25, 2.0]
    with refused(said):
        check_steps(augment | changes, mean, sizes)


def test_without_a_padding_where_all_frames_are_large_enough(augment, mean):
    assert check_steps(augment | {"pad": None}, mean, [FRAME]) == (64, 96)


def test_a_size_that_was_not_foreseen(augment, mean, refused):
    steps = build_steps(augment | {"pad": None}, mean)
    chain = SeededTransform(list(steps.values()), 0, (64, 96))
    with refused("a frame of 20x10 pixels has become a sample of"):
        for index in range(20):
            chain(np.zeros((10, 20, 3), np.uint8), np.zeros((10, 20), np.uint8), 0, index)


def test_what_a_training_sees(ready, street_module):
    """Road, which is id 0, where nothing was, before."""
    rotate = step("Rotate", limit=[40, 50], p=1.0)
    batches = list(ready(street_module(augment={"color": None, "own": rotate})).train_dataloader())
    empty = np.concatenate([(batch["image"] == 110).all(1).numpy().ravel() for batch in batches])
    targets = np.concatenate([batch["target"].numpy().ravel() for batch in batches])
    assert empty.mean() > 0.2
    assert (targets[empty] == IGNORE).mean() > 0.99  # the street itself may have a pixel of this colour


@pytest.mark.sampled(1)
@pytest.mark.parametrize("task", ["train", "doctor"])
def test_front_doors(doors, task):
    outcome = doors(task, *TINY, "augment.pad=null")
    assert outcome.code == 2
    assert "augment.pad gives all one size" in outcome.out + outcome.err
    outcome = doors(task, *TINY, "+augment.own={_target_: albumentations.Rotate, fill_mask: 0}", name="own")
    assert outcome.code == 2
    assert "augment.own: Rotate puts the ids [0]" in outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err
