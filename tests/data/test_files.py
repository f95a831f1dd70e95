import os

import cv2
import numpy as np
import pytest

from src.data.files import png_size, read_image, read_label

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (37, 53), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)


def png(path, pixels):
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("pixels", [GREY, COLOR, GREY.astype(np.uint16) * 257, np.dstack([COLOR, GREY])])
def test_size_from_the_header(tmp_path, pixels):
    assert png_size(png(tmp_path / "a.png", pixels)) == (37, 53)


def test_images_are_rgb(tmp_path):
    bgr = np.zeros((2, 2, 3), np.uint8)
    bgr[0, 0] = 10, 20, 30
    image = read_image(png(tmp_path / "a.png", bgr))
    assert image[0, 0].tolist() == [30, 20, 10]
    assert np.array_equal(read_image(png(tmp_path / "b.png", COLOR)), COLOR[..., ::-1])


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (GREY, np.dstack([GREY] * 3)),
        (np.dstack([COLOR, GREY]), COLOR[..., ::-1]),
        (COLOR.astype(np.uint16) * 257, COLOR[..., ::-1]),
    ],
    ids=["grey", "with alpha", "16 bit"],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, stored, expected):
    image = read_image(png(tmp_path / "a.png", stored))
    assert image.dtype == np.uint8
    assert np.array_equal(image, expected)


def test_labels_are_read_as_stored(tmp_path):
    every_id = np.arange(256, dtype=np.uint8).reshape(16, 16)
    label = read_label(png(tmp_path / "a.png", every_id))
    assert label.dtype == np.uint8
    assert np.array_equal(label, every_id)


@pytest.mark.parametrize(
    ("pixels", "found"),
    [(COLOR, "(37, 53, 3)"), (np.dstack([COLOR, GREY]), "(37, 53, 4)"), (GREY.astype(np.uint16), "uint16")],
    ids=["colour", "alpha", "16 bit"],
)
def test_refuses_what_is_no_label(tmp_path, refused, pixels, found):
    path = png(tmp_path / "aachen_gtFine_color.png", pixels)
    with refused(path, "8-bit PNG of one channel", found, "instanceIds"):
        read_label(path)


def half(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def without_its_last_bytes(path):
    path.write_bytes(path.read_bytes()[:-3])


def without_its_last_chunk(path):
    path.write_bytes(path.read_bytes()[:-12])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n")


def missing(path):
    path.unlink()


def dangling_link(path):
    path.unlink()
    path.symlink_to(path.with_name("not-fetched"))


def folder(path):
    path.unlink()
    path.mkdir()


def forbidden(path):
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    path.chmod(0)


DAMAGE = [half, without_its_last_bytes, without_its_last_chunk, empty, text]
UNREADABLE = [missing, dangling_link, folder, forbidden]


@pytest.mark.parametrize("read", [png_size, read_image, read_label])
@pytest.mark.parametrize("damage", DAMAGE + UNREADABLE)
def test_names_a_bad_file_and_the_fix(tmp_path, refused, read, damage):
    path = png(tmp_path / "aachen_000000.png", GREY)
    damage(path)
    fix = "Download or extract it again" if damage in DAMAGE else "Check the path and its permissions"
    with refused(path, fix):
        read(path)


def test_truncated_files_are_called_so(tmp_path, refused):
    path = png(tmp_path / "a.png", GREY)
    without_its_last_bytes(path)
    with refused("truncated"):
        png_size(path)


def test_refuses_another_format_under_the_name_of_png(tmp_path, refused):
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".jpg", COLOR)[1].tobytes())
    with refused(path, "not a PNG file"):
        png_size(path)


@pytest.mark.parametrize("pixels", [GREY, COLOR])
def test_a_damaged_byte_never_becomes_wrong_pixels(tmp_path, refused, pixels):
    path = png(tmp_path / "a.png", pixels)
    intact = path.read_bytes()
    for position in RNG.integers(41, len(intact) - 12, 20):  # after the header, before the end
        damaged = bytearray(intact)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with refused(path, "damaged"):
            read_image(path)
