"""`python -m src.predict source=...`: any path, and what is found there."""

import shutil

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from predictions import results, rows

from src.config import quoted
from src.inference.engines.engine import ENGINES, PRECISIONS
from src.prediction.outputs import SUFFIXES
from src.schema.keys import OF_TASK


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("kept", "source"),
    [
        ("my photos=x/a,b [1] ü{2}.png", "my photos=x/a,b [1] ü{2}.png"),
        ("it's\\ 5%/2024", "it's\\ 5%"),
        ("[a,b]/1.png", "[a,b]"),
        ("one [1]/x.png", "one*/*[x]*.png"),
        ("a/b.c/d.png", "**/d.*"),
    ],
)
def test_any_path(predict, photos, tmp_path, monkeypatch, kept, source):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "odd" / kept
    place.parent.mkdir(parents=True)
    shutil.copyfile(photos / "a/1.png", place if place.suffix else place.with_name("2024.png"))
    run = predict(f"odd/{source}", "output=train_ids")
    assert run.code == 0, run.err
    assert len(rows(run)) == 1
    assert (run.directory / "train_ids").is_dir()
    assert len(results(run)) == 1


def test_names_that_differ_in_their_ends_alone(predict, photos):
    for name in ("1.jpg", "1.JPG", "1.png.bmp"):
        Image.open(photos / "b/2.png").save(photos / "a" / name, quality=95)
    (photos / "a/clip.MP4").write_text("a video")
    run = predict(photos / "a", "output=train_ids")
    assert run.code == 0, run.err
    assert f"Left out 1 video. A video is given by its own path: source={photos}/a/clip.MP4" in run.out
    names = ("1.JPG", "1.jpg", "1.png", "1.png.bmp")
    assert set(results(run)) == {f"train_ids/{name}.png" for name in names}
    assert set(rows(run)) == set(names)


def test_an_image_that_is_too_long_for_a_jpeg(predict, photos):
    Image.new("RGB", (66000, 32)).save(photos / "a/0.png")
    run = predict(photos)
    assert run.code == 1, run.err
    assert "Left out a/0.png" in run.out
    assert "66000x32 pixels are too large for a JPG. Choose output=color." in run.out
    assert set(rows(run)) == {"a/1.png", "b/2.png"}


def test_own_results_are_not_taken_for_sources(doors, checkpoint, photos):
    keys = (f"checkpoint={checkpoint}", f"source={photos}", "engine=torch", "output=color")
    doors.folder = photos / "runs"
    assert len(rows(doors("predict", *keys, name="one"))) == 2
    assert len(rows(doors("predict", *keys, name="two"))) == 2
    inside = doors("predict", keys[0], f"source={photos}/runs/predict/one/color", *keys[2:], name="three")
    assert len(rows(inside)) == 2, "asked for"
    for _ in range(2):
        assert doors("predict", *keys, f"run_dir={photos}/classes", name="four").code == 0
    assert len((photos / "classes/shares.csv").read_text().splitlines()) == 1 + 2


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing", "no such file or folder"),
        ("photo", "is it photos?"),
        ("photos/*.gif", "nothing matches"),
        ("photos/a**", "can only be an entire path component"),
        ("empty", "there is no image"),
        ("set [1]/*.png", "set [[]1], and a slash"),
        ("clip.mp4", "no video that OpenCV can read"),
    ],
)
def test_a_source_without_images(predict, photos, tmp_path, source, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "set [1]").mkdir()
    (tmp_path / "clip.mp4").write_text("no video")
    run = predict(tmp_path / source)
    assert run.code == 2
    assert said in run.err
    assert not run.directory.exists()


@pytest.mark.parametrize(
    "path", ["a,b [1]", "it's", "back\\", "\\'", "'both\\'\"", "a=b {c}", "é 北: #", " x ", "12"]
)
def test_quoted_is_read_as_it_was(path):
    assert OverridesParser.create().parse_override(f"source={quoted(path)}").value() == path


def test_the_schema_allows_what_there_is():
    keys = OF_TASK["predict"]
    assert all(keys["output"].allows(kind) and keys["output"].allows([kind]) for kind in SUFFIXES)
    assert keys["engine"].values == ENGINES
    assert keys["precision"].values == PRECISIONS
