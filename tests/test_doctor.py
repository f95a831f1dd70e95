"""`python -m src.doctor`: what it says of sound data, of wrong configs and of the machine."""

import json
import shutil
import zipfile
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from front_doors import TINY

from src.data.checks.inspection import UNKNOWN, Inspection
from src.data.layouts import Pair
from src.diagnosis import planned_training as setup
from src.diagnosis.dataset_health import Folders, _examine_sizes
from src.diagnosis.doctor_report import lines
from src.diagnosis.notes import DATASET, Notes

STREET = ("data=cityscapes", "data.class_weights=labels", "data.batch_size=4", "data.num_workers=0")
SMALL = ("data.crop_size=[32,64]", "model.num_blocks=[1,1]", "trainer.accelerator=cpu", "samples=0")


def report(outcome):
    return json.loads((outcome.directory / "doctor.json").read_text())


def kinds(outcome, level, section):
    return [f["kind"] for f in report(outcome)[section]["findings"] if f["level"] == level]


@pytest.fixture(scope="module")
def sound(module_doors):
    return module_doors("doctor", *TINY)


# ---- sound data


def test_all_is_well(sound):
    assert sound.code == 0, sound.err
    assert "Traceback" not in sound.out + sound.err
    assert "Training would work: no error" in sound.out
    assert sound.files >= {"report.txt", "doctor.json", "doctor.log", "config.yaml", "samples.jpg"}


def test_the_training_s_directory_is_not_made(sound, module_doors):
    assert not (module_doors.folder / "train").exists()


def test_the_next_command_is_the_training_s(sound):
    command = report(sound)["training_command"]
    assert command.startswith("python -m src.train experiment=debug data.street.val=7 ")
    assert command in " ".join(sound.out.split())


def test_progress_in_a_log(sound):
    assert "Reading every file of 'train': 4 of 16" in sound.out
    assert "Reading every file of 'val': 7 of 7" in sound.out


def test_the_report_is_plain_text_with_all_sections(sound):
    text = (sound.directory / "report.txt").read_text()
    assert "\x1b" not in text + sound.out
    for part in (
        "Machine\n",
        "Config\n",
        "Dataset\n",
        "16 pairs of 128x64",
        "7 pairs of 128x64",
        "first step",
    ):
        assert part in text


def test_the_picture_shows_every_sample(sound):
    picture = cv2.imread(str(sound.directory / "samples.jpg"))
    assert picture.shape[1] > 5 * 256
    assert picture.shape[0] > 4 * 128
    assert picture.std() > 30


def test_the_json_says_it_all(sound):
    content = report(sound)
    assert content["training_would_work"] is True
    assert content["dataset"]["facts"]["train"] == "16 pairs of 128x64"
    assert {"packages", "GPU", "cores", "shared memory", "free in runs_dir"} <= content["machine"][
        "facts"
    ].keys()
    assert content["config"]["facts"]["batch"] == "4 = 4 x 1 device x 1 accumulated"
    assert set(content["statistics"]["classes"]) >= {"road", "bicycle"}
    assert content["statistics"]["configured_mean"] == [110.0] * 3


@pytest.mark.slow
def test_training_finds_the_classes_counted(sound, module_doors):
    outcome = module_doors("train", *TINY, "trainer.max_epochs=1", name="after")
    assert outcome.code == 0, outcome.err
    assert "Counting the classes" not in outcome.out


def test_figures_like_naive_numpy(street_root, doors):
    doctor = doors("doctor", *STREET, *SMALL, f"data.root={street_root}")
    statistics = report(doctor)["statistics"]
    images = [cv2.imread(str(p))[..., ::-1] for p in sorted(street_root.glob("leftImg8bit/train/*/*.png"))]
    values = np.stack(images).reshape(-1, 3).astype(np.float64)
    assert statistics["mean"] == pytest.approx(values.mean(0), rel=1e-12)
    assert statistics["std"] == pytest.approx(values.std(0), rel=1e-9)
    for split in ("train", "val"):
        labels = [cv2.imread(str(p), -1) for p in street_root.glob(f"gtFine/{split}/*/*_labelIds.png")]
        ids = np.stack(labels)
        assert statistics["classes"]["road"][f"{split}_pixels"] == (ids == 7).sum()
        assert statistics["classes"]["bicycle"][f"{split}_pixels"] == (ids == 33).sum()
    learned = sum(entry["train_pixels"] for entry in statistics["classes"].values())
    share = statistics["classes"]["car"]["train_pixels"] / learned
    assert statistics["classes"]["car"]["weight"] == pytest.approx(1 / np.log(1.10 + share))


def test_camvid_s_layout(camvid_root, doors):
    doctor = doors("doctor", "data=camvid", *SMALL, "data.crop_size=[128,64]", f"data.root={camvid_root}")
    assert doctor.code == 0, doctor.err
    assert report(doctor)["dataset"]["facts"]["val"] == "7 pairs of 128x64"
    assert "crop larger than the frame" in kinds(doctor, "remark", "dataset")


@pytest.mark.slow
def test_archives_as_downloaded(street_root, doors, tmp_path):
    for folder in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(tmp_path / f"{folder}_trainvaltest.zip", "w") as archive:
            for path in (street_root / folder).rglob("*.png"):
                archive.write(path, path.relative_to(street_root))
    doctor = doors("doctor", *STREET, *SMALL, f"data.root={tmp_path}")
    assert doctor.code == 0, doctor.err
    assert report(doctor)["dataset"]["facts"]["train"] == "12 pairs of 128x64"


def test_the_shipped_weights_and_mean_are_compared(street_root, doors):
    doctor = doors("doctor", "data=cityscapes", "data.batch_size=4", *SMALL, f"data.root={street_root}")
    assert doctor.code == 0, doctor.err
    found = kinds(doctor, "remark", "dataset")
    assert "class weights of other data" in found
    assert "mean of other data" in found
    assert "no test images" in found


@pytest.mark.slow
def test_overlapping_splits(street_root, doors):
    doctor = doors("doctor", *STREET, *SMALL, f"data.root={street_root}", "data.train_split=trainval")
    assert doctor.code == 0, doctor.err
    assert kinds(doctor, "remark", "dataset").count("splits that overlap") == 1


def test_real_frames(real_data, doors):
    doctor = doors("doctor", *STREET, *SMALL, f"data.root={real_data}/kitti")
    assert doctor.code == 0, doctor.err
    assert report(doctor)["dataset"]["facts"]["val"].startswith("20 pairs of 1242x375 (15)")
    assert "frames of several sizes" in kinds(doctor, "remark", "dataset")
    assert not kinds(doctor, "error", "dataset")


# ---- what is wrong


def test_all_problems_of_a_config_at_once(doors, tmp_path):
    doctor = doors(
        "doctor", *TINY, "samples=0", "data.street=null", f"data.root={tmp_path / 'nowhere'}",
        "trainer.devices=3", "model.reductions=[100,16]", "augment.color._target_=albumentations.GaussNois",
        "callbacks.lr._target_=nope",
    )  # fmt: skip
    assert doctor.code == 2
    assert "Traceback" not in doctor.out + doctor.err
    for part in ("nowhere: no Cityscapes here", "3 devices", "reductions=[100, 16]", "GaussNois", "nope"):
        assert part in doctor.out


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("optimizer._target_=torch.optim.Adamm", "Did you mean torch.optim.Adam?"),
        ("model.channels=[32,63,128]", "even numbers for stages 2 and 3"),
        ("callbacks.best.monitor=val/mIo", "callbacks.best.monitor=val/mIo: not a metric"),
        ("name=../x", "expected a name for a folder in runs_dir"),
    ],
)
def test_what_the_config_gets_wrong(doors, override, part):
    name = override.partition("=")[2] if override.startswith("name") else "run"
    doctor = doors("doctor", *TINY, "samples=0", *[o for o in [override] if "name" not in o], name=name)
    assert doctor.code == 2, doctor.out
    assert doctor.out.count(part) == 1
    assert "Training would not work: 1 error" in doctor.err
    assert "Traceback" not in doctor.out + doctor.err


def test_wrong_values_are_refused_as_in_training(doors):
    doctor = doors("doctor", *TINY, "samples=0", "data.num_workers=lots", "optimizer.lr=-1")
    assert doctor.code == 2
    assert [line.partition(":")[0] for line in doctor.err.strip().splitlines()] == [
        "data.num_workers=lots", "optimizer.lr=-1",
    ]  # fmt: skip


def test_unknown_keys_are_refused_as_in_training(doors):
    doctor = doors("doctor", *TINY, "+trainer.max_epoch=3")
    assert doctor.code == 2
    assert "trainer.max_epochs" in doctor.err


@pytest.mark.slow
def test_a_run_with_another_config(doors):
    assert doors("train", *TINY, "trainer.max_epochs=1").code == 0
    doctor = doors("doctor", *TINY, "samples=0", "optimizer.lr=0.5")
    assert doctor.code == 2
    assert "optimizer.lr: 0.001 before, 0.5 now" in doctor.out
    same = doors("doctor", *TINY, "samples=0", "trainer.max_epochs=1")
    assert same.code == 0, same.err
    assert "is finished" in same.out


@pytest.mark.slow
def test_a_place_that_cannot_be_written(doors):
    (doors.folder / "train").write_text("a file")
    (doors.folder / "doctor").write_text("a file")
    doctor = doors("doctor", *TINY, "samples=0")
    assert doctor.code == 2
    assert f"{doors.folder / 'train'}: a file" in doctor.out
    assert "Traceback" not in doctor.out + doctor.err


@pytest.mark.slow
def test_the_terminal_shows_twenty_lines_and_the_report_all(doors, street_root, tmp_path):
    root = shutil.copytree(street_root, tmp_path / "street")
    labels = [*root.glob("gtFine/*/*/*_labelIds.png")]
    for number in range(3):
        for label in labels[:9]:
            copy = label.with_name(label.name.replace("stadt_0", f"stadt_{number + 1}"))
            image = root / "leftImg8bit" / label.relative_to(root / "gtFine").parent
            shutil.copyfile(
                image / label.name.replace("gtFine_labelIds", "leftImg8bit"),
                image / copy.name.replace("gtFine_labelIds", "leftImg8bit"),
            )
            cv2.imwrite(str(copy), np.full((64, 128), 99, np.uint8))
    doctor = doors("doctor", *STREET, *SMALL, f"data.root={root}")
    assert doctor.code == 2
    assert kinds(doctor, "error", "dataset").count(UNKNOWN) == 27
    assert doctor.out.count("the ids [99]") == 20
    assert "... and 7 more, all of them in report.txt" in doctor.out
    assert (doctor.directory / "report.txt").read_text().count("the ids [99]") == 27


def test_errors_come_before_remarks():
    notes = Notes()
    notes.add(DATASET, "remark", "a", "first")
    notes.add(DATASET, "error", "b", "second")
    notes.add(DATASET, "error", "b", "second")  # said once
    shown = [line for _, line in lines(notes, {})]
    assert shown.index("    - second") < shown.index("    - first")
    assert shown.count("    - second") == 1


@pytest.mark.parametrize(("name", "remarks"), [("cityscapes", 1), ("mine", 0)])
def test_cityscapes_in_full_has_its_number_of_frames(tmp_path, name, remarks):
    full, fewer = (
        Inspection([Pair("a", tmp_path, tmp_path)] * count, sizes=Counter({(1024, 2048): count}))
        for count in (2975, 499)
    )
    notes, folders = Notes(), Folders(["train"], ["val"], inspections={"train": full, "val": fewer})
    data = SimpleNamespace(config={"name": name, "crop_size": [512, 1024]}, augment=None)
    _examine_sizes(notes, folders, data)
    texts = [finding.text for finding in notes.findings[DATASET]]
    assert texts == ["The split 'val' has 499 frames, full Cityscapes has 500. Fine if intended."] * remarks


@pytest.mark.slow
def test_a_batch_that_the_gpu_cannot_hold(doors, monkeypatch):
    def too_much(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(setup, "_step", too_much)
    doctor = doors("doctor", *TINY, "samples=0")
    assert doctor.code == 2
    assert "do not fit into the GPU's memory. Set trainer.accumulate_grad_batches=2" in doctor.out
