"""`python -m scripts.check_submission` on archives of all kinds."""

import io
import struct
import sys
import zipfile
import zlib

import cv2
import numpy as np
import pytest
from front_doors import TEST_NAMES

from scripts.check_submission import main
from src.data.layouts import CITYSCAPES_IMAGES
from src.errors import UserError
from src.evaluation.submission import check_can_submit
from src.evaluation.submission_check import MOST_BYTES, check_submission
from src.labels import CAMVID, CITYSCAPES


@pytest.fixture
def check(monkeypatch, capsys, cityscapes_root):
    def run(place, *arguments, root=True):
        where = ["--root", str(cityscapes_root)] if root else []
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
    files = {f"{name}_labelIds.png": png(road()) for name in TEST_NAMES} | dict(changed)
    return [(name, data) for name, data in files.items() if data is not None]


def test_other_classes_and_names_are_refused():
    check_can_submit(CITYSCAPES, TEST_NAMES)
    with pytest.raises(UserError, match=r"data\.labels=camvid has no ids that Cityscapes' server knows"):
        check_can_submit(CAMVID, TEST_NAMES)
    for strange in ("000008_10", "0001TP_006690", "berlin_000000_00001", "a/berlin_000000_000019"):
        with pytest.raises(UserError, match=rf"1 images have other names than .* such as\n{strange}"):
            check_can_submit(CITYSCAPES, [*TEST_NAMES, strange])


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
    assert "67 MB, too large for a class map" in check(bomb)[1]

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
    assert "3 files of 13 GB, unpacked: too large for class maps." in problem
