import errno
import stat

import cv2
import numpy as np
import pytest
from matplotlib import pyplot

from src.labels import CAMVID, CITYSCAPES, IGNORE
from src.report import pictures
from src.report.lettering import shorten, strip, text_width
from src.report.pictures import colorize, confusion_png, overlay, panel, samples_panel, write_image


def sample(height, width, classes=(0, 10, 13), seed=0):
    rng = np.random.default_rng(seed)
    target = rng.choice(classes, (height, width)).astype(np.uint8)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return "berlin_000000_000019", image, target, target[:, ::-1].copy()


def has_color(picture, color):
    return bool((picture == np.array(color, np.uint8)).all(-1).any())


def test_colorize():
    colors = colorize(np.array([[0, 13, IGNORE, 77]], np.uint8), CITYSCAPES)
    assert colors.tolist() == [[[128, 64, 128], [0, 0, 142], [0, 0, 0], [0, 0, 0]]]
    assert colors.dtype == np.uint8


def test_overlay():
    image = np.full((1, 3, 3), 100, np.uint8)
    classes = np.array([[0, 13, IGNORE]], np.uint8)
    assert overlay(image, classes, CITYSCAPES).tolist() == [[[114, 82, 114], [50, 50, 121], [100, 100, 100]]]
    assert np.array_equal(overlay(image, classes, CITYSCAPES, opacity=0), image)
    assert overlay(image, classes, CITYSCAPES, opacity=1)[0, 0].tolist() == [128, 64, 128]


@pytest.mark.parametrize("size", [(48, 64), (128, 256), (360, 480), (1024, 2048), (333, 501)])
def test_panel_shows_three_columns(size):
    name, image, target, prediction = sample(*size)
    target[: size[0] // 4] = IGNORE
    column = min(max(256, size[1]), 640)
    result = panel([(name, image, target, prediction)] * 2, CITYSCAPES)
    assert result.dtype == np.uint8
    assert 3 * column < result.shape[1] < 3.4 * column
    height = round(size[0] * column / size[1])
    assert 2 * height < result.shape[0] < 2 * height + 12 * column / 20
    gap = (result.shape[1] - 3 * column) // 4
    top = next(y for y in range(result.shape[0]) if (result[y, gap + column + gap] == 0).all())
    body = result[top : top + height]
    columns = [body[:, gap + i * (column + gap) :][:, :column] for i in range(3)]
    nearest = cv2.resize(prediction, (column, height), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(columns[2], colorize(nearest, CITYSCAPES))
    assert not columns[1][: height // 5].any()
    assert columns[2][: height // 5].any(-1).all()
    assert abs(columns[0].mean() - image.mean()) < 2


def test_panel_keeps_the_image_where_it_fits():
    row = sample(200, 300)
    result = panel([row], CITYSCAPES)
    windows = [
        (y, x)
        for y in range(result.shape[0] - 200)
        for x in range(20)
        if np.array_equal(result[y : y + 3, x : x + 5], row[1][:3, :5])
    ]
    assert len(windows) == 1
    y, x = windows[0]
    assert np.array_equal(result[y : y + 200, x : x + 300], row[1])


def test_legend_names_the_classes_that_occur():
    def legend(target, prediction, width=900):
        return pictures._legend([target, prediction], CITYSCAPES, width, gap=8, size=12)

    zeros = np.zeros((4, 4), np.uint8)
    colors = {label.name: label.color for label in CITYSCAPES.train_labels}
    result = legend(zeros, zeros + 13)
    assert has_color(result, colors["road"])
    assert has_color(result, colors["car"])
    assert not has_color(result, colors["sky"])
    assert not has_color(result, (0, 0, 0))
    assert has_color(legend(np.full((4, 4), IGNORE, np.uint8), zeros), (0, 0, 0))

    every = np.arange(19, dtype=np.uint8)[None]
    narrow, wide = legend(every, every, 500), legend(every, every, 3000)
    assert narrow.shape[0] > 2 * wide.shape[0]
    for color in colors.values():
        assert has_color(narrow, color)
    assert (narrow[:, -4:] == 255).all(), "a name runs over the edge"


def test_panel_takes_rows_of_different_sizes_and_needs_one():
    result = panel([sample(100, 300), sample(300, 400)], CITYSCAPES, max_width=320)
    assert 960 < result.shape[1] < 1060
    with pytest.raises(ValueError, match="at least one row"):
        panel([], CAMVID)


def test_samples_with_their_crops():
    """Crops are taller than the frame here: nothing is cut off, and ignored pixels show the image."""
    name, image, target, _ = sample(200, 400, classes=(0,))
    crop = np.full((400, 400, 3), 50, np.uint8), np.full((400, 400), IGNORE, np.uint8)
    picture = samples_panel([(name, (image, target), [crop, crop])], CITYSCAPES)
    assert picture.shape[1] > 4 * 400
    assert (picture == 50).all(-1).sum() >= 2 * 400 * 400
    mixed = overlay(image, target, CITYSCAPES)
    assert any(
        np.array_equal(picture[y : y + 200, x : x + 400], mixed)
        for y in range(10, 40)
        for x in range(400, 430)
    )
    assert not has_color(picture[-30:], (0, 0, 0))  # "ignored" is not black here
    with pytest.raises(ValueError, match="at least one row"):
        samples_panel([], CITYSCAPES)


def test_words_stay_within_their_width():
    long = "münster_$x_000001_000019_with_a_very_long_name_that_does_not_end_leftImg8bit"
    for width in (60, 150, 400):
        short = shorten(long, width, 14, bold=True)
        assert "…" in short
        assert text_width(short, 14, bold=True) <= width
        assert width < 100 or (short[0], short[-1]) == ("m", "t")
    assert shorten("berlin", 200, 14) == "berlin"
    blank = strip(30, 200, [], 14)
    assert (blank == 255).all()


def test_write_image_and_read_again(tmp_path):
    _, image, target, _ = sample(40, 60)
    write_image(tmp_path / "image.png", image)
    assert np.array_equal(cv2.imread(str(tmp_path / "image.png"))[..., ::-1], image)
    write_image(str(tmp_path / "classes.png"), target)
    assert np.array_equal(cv2.imread(str(tmp_path / "classes.png"), cv2.IMREAD_UNCHANGED), target)
    flat = np.full((40, 60, 3), (200, 30, 10), np.uint8)
    write_image(tmp_path / "image.JPG", flat)
    assert np.abs(cv2.imread(str(tmp_path / "image.JPG"))[..., ::-1].astype(int) - flat).max() < 8
    assert sorted(e.name for e in tmp_path.iterdir()) == ["classes.png", "image.JPG", "image.png"]
    assert (tmp_path / "image.png").stat().st_mode & stat.S_IRGRP, "others may read it, as umask says"
    with pytest.raises(ValueError, match=r"image\.gif.*\.png or \.jpg"):
        write_image(tmp_path / "image.gif", image)


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    write_image(path, np.zeros((4, 4, 3), np.uint8))
    old = path.read_bytes()

    def full(self, target):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_image(path, np.ones((4, 4, 3), np.uint8))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("names", [CITYSCAPES.class_names, ("a", "b")])
def test_confusion_picture(names):
    matrix = np.random.default_rng(0).integers(0, 10**9, (len(names), len(names)))
    matrix[0] = 0
    picture = cv2.imdecode(np.frombuffer(confusion_png(matrix, names), np.uint8), cv2.IMREAD_COLOR)
    assert min(picture.shape[:2]) > 35 * len(names)
    assert picture.std() > 10
    assert not pyplot.get_fignums(), "a figure that pyplot knows of is never freed"
