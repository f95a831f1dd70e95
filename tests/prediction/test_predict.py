"""`python -m src.predict`: class maps and pictures of images, again and again under one name."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from predictions import grey, images, results, rgb, rows

from src.labels import CITYSCAPES

KINDS = "output=[train_ids,label_ids,color,overlay,panel,probabilities]"


def test_a_folder(predict, expected, street_root):
    source = street_root / "leftImg8bit/val"
    run = predict(source, KINDS)
    assert run.code == 0, run.err
    names = [path.relative_to(source) for path in images(street_root)]
    suffixes = {"train_ids": "png", "label_ids": "png", "color": "png", "overlay": "jpg", "panel": "jpg"}
    suffixes["probabilities"] = "npy"
    assert set(results(run)) == {
        f"{kind}/{name.with_suffix('')}.{suffix}" for kind, suffix in suffixes.items() for name in names
    }
    totals = np.zeros(19)
    for name in names:
        image, where = rgb(source / name), run.directory / "{}" / name
        right = expected(image)
        at = {k: Path(str(where).format(k)).with_suffix(f".{suffix}") for k, suffix in suffixes.items()}
        assert np.array_equal(grey(at["train_ids"]), right)
        assert np.array_equal(grey(at["label_ids"]), CITYSCAPES.to_label_id[right])
        assert np.array_equal(rgb(at["color"]), CITYSCAPES.colors[right])
        mixed = (image.astype(float) + CITYSCAPES.colors[right]) / 2
        assert np.abs(rgb(at["overlay"]) - mixed).mean() < 8, "a JPEG"
        assert rgb(at["panel"]).shape[1] > 2 * 128
        probabilities = np.load(at["probabilities"])
        assert (probabilities.dtype, probabilities.shape) == (np.float16, (19, 64, 128))
        assert np.allclose(probabilities.sum(0, dtype=np.float32), 1, atol=0.01)
        of_class = np.take_along_axis(probabilities, right[None].astype(int), 0)[0]
        assert (of_class >= probabilities.max(0) - 1e-3).all()
        row = rows(run)[str(name)]
        shares = np.array([float(row[e]) for e in CITYSCAPES.class_names])
        assert (row["height"], row["width"]) == ("64", "128")
        assert np.array_equal(np.round(shares * 64 * 128), np.bincount(right.ravel(), minlength=19))
        assert abs(shares.sum() - 1) < 1e-9
        totals += shares / len(names)
    assert totals.max() < 0.9, "the network tells classes apart"
    facts = json.loads((run.directory / "predictions.json").read_text())
    assert np.allclose(list(facts["shares"].values()), totals)
    assert [entry["name"] for entry in facts["classes"]] == list(CITYSCAPES.class_names)
    assert facts["classes"][10] == {"train_id": 10, "label_id": 23, "name": "sky", "color": [70, 130, 180]}
    assert (facts["images"], facts["skipped"], facts["engine"]) == (7, [], "torch")
    assert {tuple(color) for color in CITYSCAPES.colors[:19]} <= {
        tuple(pixel) for pixel in rgb(run.directory / "legend.png").reshape(-1, 3)
    }
    assert f"road  {100 * totals[0]:.2f}".split() in [line.split() for line in run.out.splitlines()]
    assert "7 images, " in run.out


def test_the_same_command_skips_what_is_done(predict, photos):
    first = predict(photos, "output=color")
    done = results(first)
    again = predict(photos, "output=color")
    assert again.code == 0, again.err
    assert "2 images complete already" in again.out
    assert results(again) == done
    before = (first.directory / "shares.csv").read_bytes()
    (first.directory / "color/b/2.png").unlink()
    (first.directory / "color/a/.1.png.1234.tmp").write_bytes(b"half")
    with (first.directory / "shares.csv").open("ab") as file:
        file.write(b'a/3.png,64,128,0.2,"0.1')  # the rest of the row was lost
    third = predict(photos, "output=color")
    assert "1 image complete already" in third.out
    assert results(third).keys() == done.keys()
    assert results(third)["color/a/1.png"] == done["color/a/1.png"]
    assert (first.directory / "shares.csv").read_bytes() == before
    shutil.copyfile(photos / "a/1.png", photos / "b/2.png")  # another image under its name
    os.utime(photos / "b/2.png", (2**31, 2**31))
    assert "1 image complete already" in predict(photos, "output=color").out
    assert np.array_equal(*[rgb(first.directory / f"color/{name}.png") for name in ("a/1", "b/2")])


def test_another_command_under_its_name_is_refused(predict, photos, checkpoint, tmp_path):
    first = predict(photos, "output=color")
    done = results(first)
    other = predict(photos, "output=overlay")
    assert other.code == 2
    assert "output: color before, overlay now" in other.err
    assert "overwrite=true deletes what is there" in other.err
    other = predict(photos / "a", "output=color")
    assert other.code == 2
    assert f"source: {photos} before, {photos}/a now" in other.err
    copy = tmp_path / "copy.ckpt"
    shutil.copyfile(checkpoint, copy)
    begun = predict(photos, "output=color", f"checkpoint={copy}", name="copied")
    assert begun.code == 0, begun.err
    content = torch.load(copy, weights_only=True)
    content["epoch"] += 1
    torch.save(content, copy)
    other = predict(photos, "output=color", f"checkpoint={copy}", name="copied")
    assert other.code == 2
    assert "not the file that" in other.err
    assert results(first) == done
    anew = predict(photos, "output=overlay", "overwrite=true")
    assert anew.code == 0, anew.err
    assert set(results(anew)) == {"overlay/a/1.jpg", "overlay/b/2.jpg"}
    assert len(rows(anew)) == 2


def test_what_cannot_be_read_is_left_out_and_named(predict, photos):
    good = (photos / "a/1.png").read_bytes()
    Image.open(photos / "a/1.png").save(photos / "cut.jpg")
    (photos / "cut.jpg").write_bytes((photos / "cut.jpg").read_bytes()[:1000])
    (photos / "text.png").write_text("hello")
    (photos / "empty.webp").write_bytes(b"")
    cv2.imwrite(str(photos / "small.png"), np.zeros((20, 90, 3), np.uint8))
    (photos / "broken.png").write_bytes(good[:200] + b"x" + good[201:])
    (photos / "notes.txt").write_text("no image")
    run = predict(photos, "output=color")
    assert run.code == 1
    assert set(results(run)) == {"color/a/1.png", "color/b/2.png"}
    for name, reason in {
        "cut.jpg": "its end is missing",
        "text.png": "no PNG",
        "empty.webp": "cannot be decoded",
        "small.png": "90x20 pixels",
        "broken.png": "wrong checksum",
    }.items():
        assert f"Left out {name}: " in run.out
        assert any(line.strip().startswith(f"{name}: ") and reason in line for line in run.err.splitlines())
    assert "5 images left out" in run.err
    assert "Traceback" not in run.err
    facts = json.loads((run.directory / "predictions.json").read_text())
    assert facts["images"] == 2
    assert len(facts["skipped"]) == 5
    for name in ("cut.jpg", "text.png", "empty.webp", "small.png", "broken.png"):
        (photos / name).unlink()
    (photos / "text.png").write_bytes(good)
    run = predict(photos, "output=color")
    assert run.code == 0, run.err
    assert set(rows(run)) == {"a/1.png", "b/2.png", "text.png"}


def test_all_kinds_of_pixels(predict, photos, expected, tmp_path):
    image = Image.open(photos / "a/1.png").convert("RGB")
    pixels, kinds = np.array(image), tmp_path / "kinds"
    kinds.mkdir()
    deep = pixels.astype(np.uint16) * 257
    cv2.imwrite(str(kinds / "deep.png"), deep[..., ::-1])
    cv2.imwrite(str(kinds / "deep.tif"), deep[..., ::-1])
    image.convert("L").save(kinds / "grey.png")
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(kinds / "palette.png")
    image.convert("RGBA").save(kinds / "alpha.png")
    image.save(kinds / "plain.webp", lossless=True)
    image.convert("CMYK").save(kinds / "cmyk.jpg", quality=100, subsampling=0)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("turned.jpg", "turned.png", "turned.webp"):
        image.transpose(Image.Transpose.ROTATE_90).save(kinds / name, exif=turned, quality=100, lossless=True)
    run = predict(kinds, "output=train_ids")
    assert run.code == 0, run.err
    maps = {path.stem: grey(path) for path in (run.directory / "train_ids").iterdir()}
    for name in ("deep.png", "deep.tif", "alpha", "plain", "turned.png", "turned.webp"):
        assert np.array_equal(maps[name], expected(pixels)), name
    assert np.array_equal(maps["grey"], expected(np.array(image.convert("L").convert("RGB"))))
    assert np.array_equal(maps["palette"], expected(rgb(kinds / "palette.png")))
    assert (maps["cmyk"] == expected(pixels)).mean() > 0.9
    assert (maps["turned.jpg"] == expected(pixels)).mean() > 0.95, "upright, as a viewer shows it"


def test_an_image_that_does_not_fit_names_a_window(predict, photos, monkeypatch):
    monkeypatch.setattr("src.inference.image_memory.usable_memory", lambda: 10**6)
    run = predict(photos, "output=train_ids")
    assert run.code == 1
    assert "128x64 pixels take about 0.00164 GB of memory" in run.err
    assert "window=[1024,2048]" in run.err
    whole = predict(photos, "output=train_ids", "window=[32,64]", name="windows")
    assert whole.code == 0, whole.err


def test_images_much_larger_than_the_training_s_are_named_once(predict, photos):
    for place in ("a/1.png", "b/2.png"):
        Image.open(photos / place).resize((512, 256)).save(photos / place)
    run = predict(photos, "output=train_ids")
    assert run.code == 0, run.err
    assert run.out.count("has 512x256 pixels, and the network was trained on crops of 128x64") == 1
    assert "a smaller input_scale, such as 0.4" in run.out
    chosen = predict(photos, "output=train_ids", "input_scale=0.5", name="chosen")
    assert "a smaller input_scale" not in chosen.out


def test_a_run_in_the_place_of_its_checkpoint(predict, photos, checkpoint):
    run = predict(photos, f"checkpoint={Path(checkpoint).parent.parent}")
    assert run.code == 2
    assert "a folder. Give a file, such as" in run.err


@pytest.mark.slow
def test_a_file_for_one_size_leaves_other_images_out(doors, photos, checkpoint):
    out = doors("export", f"checkpoint={checkpoint}", "format=torch", "size=[64,128]", name="one")
    assert out.code == 0, out.err
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(photos / "a/other.png")
    keys = (f"checkpoint={out.directory}/model.pt2", f"source={photos}")
    run = doors("predict", *keys, "output=train_ids", name="three")
    assert run.code == 1, run.err
    assert "a/other.png: checkpoint=" in run.err
    assert len(rows(run)) == 2
    refused = doors("predict", *keys, "output=probabilities", name="scores")
    assert refused.code == 2
    assert "Export it with output=logits" in refused.err
    assert not refused.directory.exists()
