"""`python -m src.eval submission=true` and `python -m scripts.check_submission`, on a handmade test split."""

import importlib
import io
import math
import shutil
import struct
import sys
import zipfile
import zlib

import cv2
import numpy as np
import pytest
from front_doors import TINY

from scripts.check_submission import main
from src.data.layouts import CITYSCAPES_IMAGES
from src.errors import UserError
from src.evaluation.submission import check_can_submit
from src.evaluation.submission_check import MOST_BYTES, check_submission
from src.labels import CAMVID, CITYSCAPES

NAMES = [f"{city}_{i:06d}_000019" for city, count in (("berlin", 3), ("ulm", 2)) for i in range(count)]


@pytest.fixture(scope="module")
def cityscapes(street_root, tmp_path_factory):
    """Cityscapes' layout with 5 images of 128x64 in `test`, whose label files say nothing, and 7 in `val`."""
    root = shutil.copytree(street_root, tmp_path_factory.mktemp("data") / "cityscapes")
    (root / "street.json").unlink()
    for name, image in zip(NAMES, sorted(root.glob("leftImg8bit/val/*/*.png")), strict=False):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / "test" / name.split("_")[0]).mkdir(parents=True, exist_ok=True)
        place = f"test/{name.split('_')[0]}/{name}"
        shutil.copyfile(image, root / f"leftImg8bit/{place}_leftImg8bit.png")
        cv2.imwrite(str(root / f"gtFine/{place}_gtFine_labelIds.png"), np.full((64, 128), 3, np.uint8))
    return root


@pytest.fixture(scope="module")
def submit(module_doors, cityscapes):
    trained = module_doors("train", *TINY, "callbacks.pictures=null", name="trained")
    checkpoint = f"checkpoint={trained.directory}/checkpoints/best.ckpt"
    data = ("data.street=null", f"data.root={cityscapes}", "trainer.accelerator=cpu")

    def run(name, *keys, **how):
        keys = ("submission=true", *keys) if not any(k.startswith("submission=") for k in keys) else keys
        return module_doors("eval", checkpoint, *data, *keys, name=name, **how)

    return run


@pytest.fixture(scope="module")
def submitted(submit):
    return submit("test", "data.split=test")


@pytest.fixture
def check(monkeypatch, capsys, cityscapes):
    def run(place, *arguments, root=True):
        where = ["--root", str(cityscapes)] if root else []
        monkeypatch.setattr(sys, "argv", ["check_submission", str(place), *where, *arguments])
        code = main()
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def png(label_ids):
    return cv2.imencode(".png", label_ids)[1].tobytes()


def road(height=64, width=128):
    return np.full((height, width), 7, np.uint8)


def pack(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def good(changed=()):
    """Files of a submission that is right, but for those that are `changed`: bytes, or None for no file."""
    files = {f"{name}_labelIds.png": png(road()) for name in NAMES} | dict(changed)
    return [(name, data) for name, data in files.items() if data is not None]


def test_the_test_split_becomes_an_archive_for_the_server(submitted, check):
    assert submitted.code == 0, submitted.err
    assert submitted.files == {
        *(f"submission/{name}_labelIds.png" for name in NAMES),
        *("submission.zip", "config.yaml", "record.json", "eval.log", ".lock", "pictures/panel.png"),
    } | {name for name in submitted.files if name.startswith("code-")}
    assert "5 class maps, checked" in submitted.out
    assert "WARNING: the server wants all 1525 images of 'test'" in submitted.out
    code, said = check(submitted.directory / "submission.zip")
    assert code == 0, said
    assert "fine, 5 predictions" in said
    assert "5 of the 1525 images" in said
    assert check(submitted.directory / "submission") == (
        0,
        said.replace("submission.zip", "submission"),
    )


def test_the_official_script_scores_the_files_as_the_evaluation_does(submit, cityscapes, monkeypatch):
    judged = submit("val", "data.split=val", "tta=flip")
    assert judged.code == 0, judged.err
    pytest.importorskip("cityscapesscripts")
    monkeypatch.setenv("CITYSCAPES_DATASET", str(cityscapes))
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(judged.directory / "submission"))
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    tool = importlib.reload(importlib.import_module(name))
    tool.args.quiet, tool.args.JSONOutput, tool.args.evalInstLevelScore = True, False, False
    labels = [str(path) for path in sorted(cityscapes.glob("gtFine/val/*/*_labelIds.png"))]
    official = tool.evaluateImgLists(
        [tool.getPrediction(tool.args, path) for path in labels], labels, tool.args
    )
    assert len(labels) == judged.metrics["num_images"] == 7
    assert official["averageScoreClasses"] == pytest.approx(judged.metrics["mIoU"], abs=1e-12)
    for name, score in judged.metrics["IoU"].items():
        assert official["classScores"][name] == pytest.approx(
            math.nan if score is None else score, nan_ok=True
        )


def test_the_same_command_begins_anew_and_gives_the_same_archive(submit, submitted):
    before = (submitted.directory / "submission.zip").read_bytes()
    (submitted.directory / "submission/berlin_000099_000019_labelIds.png").write_bytes(b"of an earlier try")
    (submitted.directory / "submission/.berlin_000001_000019_labelIds.png.123.tmp").write_bytes(b"half")
    (submitted.directory / "submission.zip").write_bytes(b"half")
    (submitted.directory / "metrics.json").write_text('{"mIoU": 0.9}')
    again = submit("test", "data.split=test")
    assert again.code == 0, again.err
    assert (again.directory / "submission.zip").read_bytes() == before
    assert len(list((again.directory / "submission").iterdir())) == 5
    assert not (again.directory / "metrics.json").exists(), "these figures were of other images"


@pytest.mark.slow
def test_two_devices_write_the_same_archive(submit, submitted):
    two = submit("two", "data.split=test", "trainer.devices=2", "data.val_batch_size=2", own_process=True)
    assert two.code == 0, two.err
    one = submit("one", "data.split=test", "data.val_batch_size=2")
    archives = [(run.directory / "submission.zip").read_bytes() for run in (one, two)]
    assert archives[0] == archives[1]


def test_the_panel_has_no_ground_truth(submit, submitted):
    wide = submit("val", "data.split=val")
    shapes = [cv2.imread(str(run.directory / "pictures/panel.png")).shape[1] for run in (submitted, wide)]
    assert shapes[0] < 0.75 * shapes[1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("submission=false", "data.split=test"), "no public labels: nothing to compare. python -m src.eval"),
        (("submission=maybe", "data.split=test"), "submission=maybe: give true or false."),
    ],
    ids=str,
)
def test_what_cannot_be_submitted_is_refused_first(submit, keys, message):
    refused = submit("refused", *keys)
    assert refused.code == 2
    assert message in refused.err
    assert not refused.directory.exists()


def test_other_classes_and_names_are_refused():
    check_can_submit(CITYSCAPES, NAMES)
    with pytest.raises(UserError, match=r"data\.labels=camvid has no ids that Cityscapes' server knows"):
        check_can_submit(CAMVID, NAMES)
    for strange in ("000008_10", "0001TP_006690", "berlin_000000_00001", "a/berlin_000000_000019"):
        with pytest.raises(UserError, match=rf"1 images have other names than .* such as\n{strange}"):
            check_can_submit(CITYSCAPES, [*NAMES, strange])


def test_a_part_of_the_split_is_no_submission(submit):
    part = submit("part", "data.split=test", "trainer.limit_val_batches=1", "data.val_batch_size=2")
    assert part.code == 2
    assert "ulm_000001_000019: no prediction." in part.err
    assert "limit_val_batches" in part.err


def test_a_good_archive_is_taken_in_any_form(tmp_path, check):
    folders = [(f"results/{name.split('_')[0]}/{name}", data) for name, data in good()]
    other_ending = [(name.replace("_labelIds", "_leftImg8bit_pred"), data) for name, data in good()]
    for number, files in enumerate((good(), folders, other_ending)):
        for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            code, said = check(pack(tmp_path / f"{number}.zip", files, compression))
            assert code == 0, said


BERLIN = "berlin_000000_000019_labelIds.png"
TRAIN_IDS = np.arange(19, dtype=np.uint8).repeat(512)[: 64 * 128].reshape(64, 128)


def broken(data):
    """With another pixel than the checksum says."""
    return data[:-40] + bytes(255 - b for b in data[-40:-20]) + data[-20:]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({BERLIN: None}, "berlin_000000_000019: no prediction."),
        ({"berlin_000000_000019_again.png": png(road())}, "berlin_000000_000019: 2 predictions"),
        ({"a/" + BERLIN: png(road())}, f"2 predictions, '{BERLIN}', 'a/{BERLIN}'."),
        ({"bonn_000000_000019.png": png(road())}, "the name is not that of an image of 'test'"),
        ({"notes.txt": b"hello"}, "'notes.txt': the name is not <city>_123456_123456*.png."),
        ({"__MACOSX/._" + BERLIN: b"x"}, "the name is not"),
        ({"../../" + BERLIN: png(road())}, "leads out of the archive"),
        ({"/tmp/" + BERLIN: png(road())}, "leads out of the archive"),
        ({"..\\" + BERLIN: png(road())}, "leads out of the archive"),
        ({BERLIN: png(road(32, 64))}, f"'{BERLIN}': 64x32 pixels, but its image has 128x64."),
        ({BERLIN: png(np.zeros((64, 128, 3), np.uint8))}, "8-bit RGB, but a class map has one channel"),
        ({BERLIN: png(road().astype(np.uint16))}, "16-bit grey, but a class map"),
        ({BERLIN: png(road() + 248)}, f"'{BERLIN}': ids [255] are none of the 19"),
        ({BERLIN: png(road() - 7)}, "ids [0] are none of the 19"),
        ({BERLIN: png(road() + 27)}, "ids [34] are none of the 19"),
        ({BERLIN: png(TRAIN_IDS)}, "these are train ids (0-18). Submit label ids (7-33)"),
        ({BERLIN: b""}, f"'{BERLIN}': no PNG, or a damaged one."),
        ({BERLIN: png(road())[:-30]}, "no PNG, or a damaged one."),
        ({BERLIN: broken(png(TRAIN_IDS))}, "no PNG, or a damaged one."),
        ({BERLIN: b"\xff\xd8\xff" + bytes(100)}, "no PNG, or a damaged one."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_server_would_refuse_is_named(tmp_path, check, changed, message):
    code, said = check(pack(tmp_path / "submission.zip", good(changed)))
    assert code == 2
    assert message in said
    assert "refuse it or score it wrongly" in said
    assert len(said.splitlines()) <= 3, "nothing else is wrong"


def test_ids_of_all_files_together_tell_train_ids(tmp_path, check):
    """Files with road and building alone look right by themselves, sky in another one does not."""
    high = {BERLIN: png(TRAIN_IDS), "ulm_000000_000019_labelIds.png": png(road() + 16)}
    code, said = check(pack(tmp_path / "submission.zip", good(high)))
    assert code == 2
    assert "train ids" not in said


def test_duplicates_damage_and_bombs_in_the_archive_itself(tmp_path, check):
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = pack(tmp_path / "twice.zip", [*good(), (BERLIN, png(road()))])
    assert "2 predictions" in check(twice)[1]

    whole = pack(tmp_path / "whole.zip", good()).read_bytes()
    flipped = tmp_path / "flipped.zip"
    flipped.write_bytes(whole[:80] + bytes([whole[80] ^ 255]) + whole[81:])
    code, said = check(flipped)
    assert (code, "cannot be read (Bad CRC-32" in said) == (2, True)

    bomb = pack(tmp_path / "bomb.zip", good({BERLIN: bytes(MOST_BYTES + 1)}), zipfile.ZIP_DEFLATED)
    assert "67 MB, no class map" in check(bomb)[1]

    for content in (b"", b"no zip at all", whole[:-30]):
        (tmp_path / "no.zip").write_bytes(content)
        code, said = check(tmp_path / "no.zip")
        assert (code, "no zip archive, or a damaged one" in said) == (2, True)
    code, said = check(tmp_path / "nowhere.zip")
    assert (code, "no such file or folder" in said) == (2, True)
    assert not list(tmp_path.glob("**/*.png")), "nothing is unpacked"


def test_a_png_that_unpacks_to_gigabytes_is_not_decoded(tmp_path, check):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    code, said = check(pack(tmp_path / "submission.zip", good({BERLIN: data})))
    assert (code, "no PNG, or a damaged one" in said) == (2, True)


def test_without_the_dataset_numbers_are_those_of_cityscapes(tmp_path, check, monkeypatch):
    code, said = check(pack(tmp_path / "small.zip", good()), root=False)
    assert code == 2
    assert "Predictions for 5 images, but the split 'test' has 1525." in said
    assert "128x64 pixels, but its image has 2048x1024" in said
    monkeypatch.setitem(CITYSCAPES_IMAGES, "val", 5)  # 500 of full size take seconds
    full = [(name, png(road(1024, 2048))) for name, _ in good()]
    code, said = check(pack(tmp_path / "full.zip", full), "--split", "val", root=False)
    assert (code, "fine, 5 predictions for the split 'val'" in said) == (0, True), said


def test_an_archive_of_too_much_is_not_looked_into(tmp_path):
    """Headers that promise 10 TB; what they say is the most that zipfile unpacks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(3):
            archive.writestr(f"berlin_{i:06d}_000019.png", b"x")
        for entry in archive.filelist:
            entry.file_size = 2**32
    (tmp_path / "huge.zip").write_bytes(buffer.getvalue())
    (problem,) = check_submission(tmp_path / "huge.zip")
    assert "3 files of 13 GB, unpacked: no class maps, not looked into." in problem
