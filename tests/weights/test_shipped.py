"""The networks that come with the project: whole, described, and usable by their names."""

import json
import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from front_doors import REPOSITORY, TINY

from scripts.ship import ship
from src.errors import UserError
from src.inference import load
from src.labels import CAMVID, CITYSCAPES
from src.weights import shipped
from src.weights.shipped import FOLDER, SHA256, weights_path
from src.weights.trained_network import digest, restore

IMAGE = torch.randint(
    256, (96, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
).numpy()
NAMES = sorted(SHA256)


@pytest.mark.parametrize("name", NAMES)
def test_each_network_is_there_with_its_card(name):
    path = FOLDER / f"{name}.ckpt"
    card = (FOLDER / f"{name}.md").read_text()
    assert path.stat().st_size <= 2_200_000
    known = restore(name).provenance
    assert known["checkpoint"] == name, "which is the same file in each checkout"
    assert digest(name) == SHA256[name]
    assert known["trained_on"], "what it has seen"
    assert not known["revision"].endswith("+"), "trained with code that is in no commit"
    splits = [seen["split"] for seen in known["trained_on"]]
    for fact in (known["recipe"], known["revision"], f"seed {known['seed']}"):
        assert fact in card, fact
    about_data = card.partition("## Data")[2].partition("##")[0]
    for split in splits:
        assert re.search(rf"\b{split}\b", about_data), split
    miou = known["val_mIoU"]
    assert ("not measured on images that it has not seen" if miou is None else f"{miou:.4f}") in card
    for word in ("## Data", "## Recipe", "## Result", "## Limits", "## Licence", "python -m src.eval"):
        assert word in card, word


def test_nothing_else_lies_there():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(
        f"{name}.{suffix}" for name in NAMES for suffix in ("ckpt", "md")
    )


@pytest.mark.parametrize(
    ("name", "classes"), [("street", CITYSCAPES), ("camvid", CAMVID), ("camvid_train", CAMVID)]
)
def test_a_name_is_enough_to_load_one(name, classes):
    predictor = load(name)
    assert predictor.classes == classes.class_names
    assert predictor(IMAGE).shape == (96, 128)


@pytest.mark.parametrize("task", ["train", "eval", "predict", "export"])
def test_help_has_the_names(task):
    text = " ".join((REPOSITORY / f"conf/{task}.yaml").read_text().replace("#", " ").split())
    assert f"name: {', '.join(NAMES)}" in text


@pytest.mark.slow
def test_commands_take_a_name(doors, tmp_path):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), IMAGE)
    seen = doors("predict", "checkpoint=camvid", f"source={photo}")
    assert seen.code == 0, seen.err
    assert (seen.directory / "color/photo.png").exists()
    assert json.loads((seen.directory / "predictions.json").read_text())["checkpoint"] == "camvid"
    exported = doors("export", "checkpoint=camvid", "format=torch", "size=[96,128]")
    assert exported.code == 0, exported.err
    assert (exported.directory / "model.pt2").exists()


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / "shipped")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    path = tmp_path / "shipped/street.ckpt"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"street\.ckpt is not the file that was shipped"):
        weights_path("street")
    path.unlink()
    with pytest.raises(UserError, match=r"street\.ckpt is missing"):
        restore("street")


def test_other_names_are_paths(doors):
    assert weights_path("runs/street") == Path("runs/street")
    assert weights_path("~/street") == Path.home() / "street"
    refused = doors("eval", "checkpoint=stret")
    assert refused.code == 2
    assert "checkpoint=stret: no such file. The networks that come with the project are named" in refused.err


def test_what_is_shipped_of_a_run(trained_run, tmp_path, monkeypatch):
    """The same logits from a smaller file, which does not say where the data lay."""
    from scripts import ship as script

    monkeypatch.setattr(script, "FOLDER", tmp_path)
    last = trained_run / "checkpoints/last.ckpt"
    path = ship(str(last), "mine")
    assert path.stat().st_size < last.stat().st_size / 2
    image = torch.from_numpy(IMAGE).permute(2, 0, 1)[None]
    one, other = restore(str(last)), restore(str(path))
    assert torch.equal(one.segmenter()(image), other.segmenter()(image))
    assert one.provenance == other.provenance | {"checkpoint": str(last)}
    assert str(one.data["root"]).encode() not in path.read_bytes()


@pytest.fixture
def trained_run(module_doors):
    run = module_doors("train", *TINY, "callbacks.pictures=null", name="ship")
    assert run.code == 0, run.err
    return run.directory


@pytest.mark.slow
def test_the_street_s_network_gives_the_miou_of_its_card(doors):
    judged = doors("eval", "checkpoint=street", "trainer.accelerator=cpu")
    assert judged.code == 0, judged.err
    assert f"{judged.metrics['mIoU']:.4f}" in (FOLDER / "street.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["camvid", "camvid_train"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_camvid_s_networks_give_the_miou_of_their_cards(doors, real_data, name, precision):
    """To three digits: in 16 bits, other processors round in another order."""
    keys = (f"data.root={real_data}/camvid", "data.split=val", "trainer.accelerator=cpu", "latency=0")
    judged = doors("eval", f"checkpoint={name}", *keys, f"trainer.precision={precision}")
    assert judged.code == 0, judged.err
    result = " ".join((FOLDER / f"{name}.md").read_text().partition("## Result")[2].split())
    said = re.search(r"(0\.\d{4}) in bf16-mixed, in which it was trained, and (0\.\d{4}) with", result)
    assert abs(judged.metrics["mIoU"] - float(said[["bf16-mixed", "32-true"].index(precision) + 1])) < 5e-4


@pytest.mark.slow
def test_fine_tuning_begins_with_a_name(doors):
    keys = [key for key in TINY if not key.startswith("model.")]
    run = doors(
        "train",
        *keys,
        "checkpoint=street",
        "optimizer.lr=1e-9",
        "schedule.min_lr=0",
        "callbacks.pictures=null",
        name="tuned",
    )
    assert run.code == 0, run.err
    kept = restore(f"{run.directory}/checkpoints/last.ckpt").weights["network.classifier.weight"]
    before = restore("street").weights["network.classifier.weight"]
    assert torch.allclose(kept, before, atol=1e-6)
