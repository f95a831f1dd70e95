"""`python -m src.predict source=<video>`: each frame, and a video of overlays."""

import os

import cv2
import numpy as np
import pytest
from predictions import rows

from src.inference import load
from src.report.pictures import overlay


@pytest.fixture
def clip(street_root, tmp_path):
    """Nine frames of 128x64."""
    path = tmp_path / "a clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (128, 64))
    images = sorted((street_root / "leftImg8bit").glob("*/*/*.png"))[:9]
    for image in images:
        writer.write(cv2.imread(str(image)))
    writer.release()
    return path


@pytest.fixture
def predict(doors, checkpoint, clip):
    def run(*keys, source=clip):
        return doors(
            "predict", f"checkpoint={checkpoint}", f"source={source}", "engine=torch", "device=cpu", *keys
        )

    return run


def frames_of(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return frames, capture.get(cv2.CAP_PROP_FPS)


def maps_of(run):
    return {
        path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for path in sorted((run.directory / "train_ids/a clip").iterdir())
    }


def test_frame_by_frame(predict, clip, checkpoint):
    run = predict("output=overlay")
    assert run.code == 0, run.err
    network, (frames, _) = load(checkpoint, engine="torch", device="cpu"), frames_of(clip)
    maps = maps_of(run)
    assert list(maps) == [f"{number:06d}" for number in range(9)]
    for frame, train_ids in zip(frames, maps.values(), strict=True):
        assert np.array_equal(train_ids, network(frame))
    assert list(rows(run)) == [f"a clip.mp4/{number:06d}" for number in range(9)]
    shown, frame_rate = frames_of(run.directory / "overlay/a clip.mp4")
    assert frame_rate == 5
    for picture, frame, train_ids in zip(shown, frames, maps.values(), strict=True):
        wanted = overlay(frame, train_ids, network.table)
        off = np.abs(picture.astype(int) - wanted).mean()
        assert off < np.abs(picture.astype(int) - frame).mean()
        assert off < 15, "as far as the video's compression allows"


def test_each_third_frame(predict):
    run = predict("output=[train_ids,overlay]", "frame_step=3")
    assert run.code == 0, run.err
    assert list(maps_of(run)) == ["000000", "000003", "000006"]
    assert frames_of(run.directory / "overlay/a clip.mp4")[1] == pytest.approx(5 / 3, rel=0.01)


def test_an_interrupted_video_continues(predict):
    whole = predict("output=overlay")
    film, maps = whole.directory / "overlay/a clip.mp4", maps_of(whole)
    right = film.read_bytes()
    film.unlink()  # as if it had been interrupted after the fifth frame
    (film.parent / ".a clip.77.tmp.mp4").write_bytes(right[:999])
    for number in range(5, 9):
        (whole.directory / f"train_ids/a clip/{number:06d}.png").unlink()
    written = (whole.directory / "train_ids/a clip/000000.png").stat().st_mtime_ns
    again = predict("output=overlay")
    assert again.code == 0, again.err
    assert "5 images complete already" in again.out
    assert [path.name for path in film.parent.iterdir()] == ["a clip.mp4"]
    assert film.read_bytes() == right
    assert all(np.array_equal(ids, maps[name]) for name, ids in maps_of(again).items())
    assert len(rows(again)) == 9
    assert (whole.directory / "train_ids/a clip/000000.png").stat().st_mtime_ns == written
    os.utime(film, (1, 1))  # older than the video, which was replaced
    assert predict("output=overlay").code == 0
    assert film.stat().st_mtime > 1


def test_a_video_that_ends_early_is_named(predict, street_root, tmp_path):
    path = tmp_path / "a clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (128, 64))
    for image in 3 * sorted((street_root / "leftImg8bit").glob("*/*/*.png")):
        writer.write(cv2.imread(str(image)))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run = predict("output=overlay", source=path)
    assert run.code == 1
    count = len(maps_of(run))
    assert 5 < count < 40
    assert f"a clip.avi: the video ends after {count} of 57 frames" in run.err
    assert len(frames_of(run.directory / "overlay/a clip.mp4")[0]) == count
