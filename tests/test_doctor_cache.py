"""What `python -m src.doctor` says about the cache of decoded frames."""

import json
import os
import shutil

import pytest
from front_doors import TINY

from src.data.frame_cache import cache as cache_module

BRIEF = (*TINY, "samples=0", "trainer.max_epochs=1")


def said(outcome):
    report = json.loads((outcome.directory / "doctor.json").read_text())
    return report["dataset"]["facts"].get("cache", ""), report


def findings(report, kind):
    return [f for name in ("config", "dataset") for f in report[name]["findings"] if f["kind"] == kind]


def frames(doors):
    return sorted(doors.cache.glob("frames/street-*/*.frame"))


@pytest.fixture(autouse=True)
def no_frames(doors):
    shutil.rmtree(doors.cache / "frames", ignore_errors=True)


def test_it_makes_none_and_says_what_they_would_take(doors):
    fact, report = said(doors("doctor", *BRIEF, "data.cache=disk"))
    assert "0 of 23 decoded frames" in fact
    assert "the rest takes 0.000757 GB" in fact  # 23 of 128x64 with 4 bytes each, and their headers
    assert report["training_would_work"]
    assert not frames(doors)


@pytest.mark.slow
def test_frames_that_are_there_are_compared_with_their_checksums(doors):
    assert doors("train", *TINY, "data.cache=disk", "trainer.max_steps=1", name="first").code == 0
    assert len(frames(doors)) == 23
    path = frames(doors)[3]
    moment, data = path.stat().st_mtime_ns, bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(moment, moment))  # as a disk does that fails: nobody wrote
    fact, report = said(doors("doctor", *BRIEF, "data.cache=disk"))
    assert "22 of 23 decoded frames" in fact
    (finding,) = findings(report, "damaged cached frame")
    assert str(path) in finding["text"]
    assert report["training_would_work"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("mode", "works"), [("disk", False), ("auto", True), ("none", True)])
def test_no_room(doors, monkeypatch, mode, works):
    usage = shutil.disk_usage("/")._replace(free=700_000)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr("src.diagnosis.hardware._GIB", 0)
    monkeypatch.setattr("src.diagnosis.hardware._PREFETCHED", 0)
    outcome = doors("doctor", *BRIEF, f"data.cache={mode}")
    _, report = said(outcome)
    assert outcome.code == (0 if works else 2)
    assert len(findings(report, "cache")) == (mode != "none")


def test_unknown_kind(doors):
    outcome = doors("doctor", *BRIEF, "data.cache=on")
    assert outcome.code == 2
    assert "data.cache=on: expected auto, none or disk" in outcome.err


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("mode", "code"), [("disk", 2), ("auto", 0)])
def test_no_place(doors, mode, code):
    (doors.cache / "frames").write_text("a file, where the folder should be")
    try:
        outcome = doors("doctor", *BRIEF, f"data.cache={mode}")
    finally:
        (doors.cache / "frames").unlink()
    assert outcome.code == code, outcome.out
    assert "cannot write to" in findings(said(outcome)[1], "cache")[0]["text"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("data.crop_size=512", "data.crop_size=512: expected a list of 2 values"),
        ("data.crop_size=[64]", "data.crop_size=[64]: expected a list of 2 values"),
        ("augment.crop=null", "augment.pad.min_height follows from crop.size[0]"),
        ("data.mean=5", "data.mean=5: expected a list of 3 values"),
        ("data.batch_size=null", "data.batch_size=null: expected a whole number"),
        ("data.val_batch_size=null", "data.val_batch_size=null"),
        ("samples=abc", "samples=abc"),
    ],
)
def test_values_of_another_kind(doors, override, part):
    for task in ("doctor", "train"):
        if task == "train" and override.startswith("samples"):
            continue
        outcome = doors(task, *(BRIEF if task == "doctor" else TINY), override)
        assert outcome.code == 2
        assert part in outcome.out + outcome.err
        assert "Traceback" not in outcome.out + outcome.err
