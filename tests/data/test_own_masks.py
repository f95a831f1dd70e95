"""Images and masks of a dataset of one's own, in every format: pixels, ids, and what is refused."""

import io

import cv2
import numpy as np
import pytest
from own_data import CLASSES, COLORS, IGNORED, RGB_CLASSES, RGB_IGNORED, ids_of, image_of, rgb_of, save
from PIL import Image

from src.data.checks.pairs import check_pairs
from src.data.dataset import read_pair
from src.data.files import read_image
from src.data.layouts import Pair
from src.data.masks.decoding import read_mask
from src.data.masks.formats import header_of
from src.label_tables import own_table
from src.labels import IGNORE

BY_ID, BY_COLOR = own_table(CLASSES, IGNORED), own_table(RGB_CLASSES, RGB_IGNORED)
IDS = ids_of(1)
TRAIN_IDS = np.select([IDS == 0, (IDS == 1) | (IDS == 2), IDS == 3], [0, 1, 2], IGNORE).astype(np.uint8)
LOSSLESS = {
    "png": (),
    "webp": (cv2.IMWRITE_WEBP_QUALITY, 101),
    "tif": (),
    "tiff": (cv2.IMWRITE_TIFF_COMPRESSION, 5),
}


def palette(ids, bits=8, **options):
    image = Image.fromarray(ids).convert("L")
    image = Image.frombytes("P", image.size, ids.tobytes())
    image.putpalette([level for number in range(256) for level in COLORS.get(number, (7, 7, 7))])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=bits, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_images_without_loss(tmp_path, suffix):
    image = image_of(IDS, 0)
    path = save(tmp_path / f"a.{suffix}", image, *LOSSLESS[suffix])
    header = header_of(path)
    assert (header.size, header.bits, header.mode) == ((64, 96), 8, "RGB")
    assert np.array_equal(read_image(path), image)


def test_jpeg_images(tmp_path):
    image = cv2.GaussianBlur(image_of(IDS, 0), (0, 0), 3)
    path = save(tmp_path / "a.JPG", image, cv2.IMWRITE_JPEG_QUALITY, 95)
    assert (header_of(path).size, header_of(path).format) == ((64, 96), "JPEG")
    difference = np.abs(read_image(path).astype(int) - image)
    assert difference.mean() < 2, "red and blue would differ by far more if they were swapped"


def test_an_orientation_tag_turns_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image_of(IDS, 0)).save(tmp_path / "a.jpg", exif=exif)
    assert header_of(tmp_path / "a.jpg").size == read_image(tmp_path / "a.jpg").shape[:2] == (64, 96)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_grey_images_have_three_equal_channels(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a.{suffix}", IDS))
    assert image.shape == (64, 96, 3)
    assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_cut_off_images(tmp_path, refused, suffix):
    path = save(tmp_path / f"a.{suffix}", image_of(IDS, 0))
    path.write_bytes(path.read_bytes()[:-200])
    with refused(path, "damaged or truncated"):
        read_image(path)


def test_a_cut_off_image_with_a_thumbnail(tmp_path, refused):
    path = save(tmp_path / "a.jpg", image_of(IDS, 0))
    data = path.read_bytes()
    thumbnail = b"\xff\xe1" + (2 + len(data)).to_bytes(2, "big") + data
    path.write_bytes(data[:2] + thumbnail + data[2:-200])
    with refused(path, "its end is missing"):
        read_image(path)
    path.write_bytes(data[:2] + thumbnail + data[2:])
    assert read_image(path).shape == (64, 96, 3)


def test_what_follows_an_image_may_contain_any_mark(tmp_path):
    """A phone writes a film behind a motion photo."""
    path = save(tmp_path / "a.jpg", image_of(IDS, 0))
    expected = read_image(path)
    path.write_bytes(path.read_bytes() + b"film\xff\xd9\xff\xda")
    assert np.array_equal(read_image(path), expected)


def test_a_tiff_is_refused_that_only_one_of_two_would_be_turned_by(tmp_path, refused):
    Image.fromarray(image_of(IDS, 0)).save(tmp_path / "a.tif", tiffinfo={274: 3})
    with refused("a.tif", "its orientation tag"):
        header_of(tmp_path / "a.tif")


def test_a_large_image_of_any_format_is_read_up_to_the_same_limit(tmp_path):
    Image.new("1", (14000, 13000)).save(tmp_path / "a.tif", compression="group4")
    assert header_of(tmp_path / "a.tif").size == (13000, 14000)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff" + bytes(50), b"II*\0" + bytes(4)])
def test_what_is_no_image(tmp_path, refused, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with refused(path, "not an image, or damaged", "PNG, JPEG, WebP or TIFF"):
        header_of(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_of_16_bits(tmp_path, refused, suffix):
    image = save(tmp_path / f"a.{suffix}", image_of(IDS, 0).astype(np.uint16) * 257)
    with refused(image, "16-bit", "8 bits per channel", "cv2.normalize"):
        check_pairs([Pair("a", image, save(tmp_path / "m.png", IDS))], BY_ID)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_ids(tmp_path, suffix):
    pair = Pair("a", save(tmp_path / "i.jpg", image_of(IDS, 0)), save(tmp_path / f"m.{suffix}", IDS))
    assert check_pairs([pair], BY_ID) == [(64, 96)]
    assert np.array_equal(read_pair(pair, BY_ID)[1], TRAIN_IDS)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_the_ids_of_a_palette_are_its_indices(tmp_path, bits):
    ids = IDS if bits == 8 else np.where(IDS == 255, 0, IDS)
    (tmp_path / "m.png").write_bytes(palette(ids, bits))
    assert header_of(tmp_path / "m.png").mode == "palette"
    assert header_of(tmp_path / "m.png").bits == bits
    assert np.array_equal(read_mask(tmp_path / "m.png", BY_ID), ids)


def test_the_colours_of_a_palette_count_if_colours_are_listed(tmp_path):
    (tmp_path / "m.png").write_bytes(palette(IDS))
    assert np.array_equal(BY_COLOR.to_train_id[read_mask(tmp_path / "m.png", BY_COLOR)], TRAIN_IDS)


def test_a_damaged_palette(tmp_path, refused):
    data = bytearray(palette(IDS))
    data[-40] ^= 255
    (tmp_path / "m.png").write_bytes(data)
    with refused("m.png", "damaged or truncated", "wrong checksum"):
        read_mask(tmp_path / "m.png", BY_ID)


def test_black_and_white_of_one_bit(tmp_path):
    Image.fromarray(IDS > 1).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", BY_ID), IDS > 1)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_colours(tmp_path, suffix):
    mask = save(tmp_path / f"m.{suffix}", rgb_of(IDS), *LOSSLESS[suffix])
    pair = Pair("a", save(tmp_path / "i.jpg", image_of(IDS, 0)), mask)
    assert check_pairs([pair], BY_COLOR) == [(64, 96)]
    assert np.array_equal(read_pair(pair, BY_COLOR)[1], TRAIN_IDS)


def test_red_is_not_blue(tmp_path):
    table = own_table([{"name": "r", "colors": [[255, 0, 1]]}, {"name": "b", "colors": [[1, 0, 255]]}], None)
    mask = save(tmp_path / "m.png", np.array([[[255, 0, 1], [1, 0, 255]]], np.uint8))
    assert read_mask(mask, table).tolist() == [[0, 1]]


# ---- mistakes


@pytest.mark.parametrize(
    ("name", "pixels", "options", "table", "said"),
    [
        ("m.jpg", rgb_of(IDS), (), BY_COLOR, ("must not be a JPEG", "lossy", "PNG")),
        ("m.webp", rgb_of(IDS), (cv2.IMWRITE_WEBP_QUALITY, 90), BY_COLOR, ("lossy WEBP", "PNG")),
        ("m.png", IDS.astype(np.uint16), (), BY_ID, ("16-bit grey", "0 to 255")),
        ("m.png", rgb_of(IDS), (), BY_ID, ("has colours (8-bit RGB)", "lists ids", "colors: [[")),
        ("m.png", IDS, (), BY_COLOR, ("has ids (8-bit grey)", "lists colors", "ids: [7]")),
    ],
    ids=["jpeg", "lossy webp", "16 bits", "colours for ids", "ids for colours"],
)
def test_files_that_are_no_masks(tmp_path, refused, name, pixels, options, table, said):
    mask = save(tmp_path / name, pixels, *options)
    image = save(tmp_path / "i.png", image_of(IDS, 0))
    with refused(mask, *said):
        check_pairs([Pair("a", image, mask)], table)
    with refused(mask, *said):
        read_mask(mask, table)


TWO = own_table([{"name": "back", "ids": [0]}, {"name": "cell", "ids": [1]}], None)
FROM_ONE = own_table([{"name": "a", "ids": [1]}, {"name": "b", "ids": [2]}, {"name": "c", "ids": [3]}], None)
FROM_ZERO = own_table([{"name": "a", "ids": [0]}, {"name": "b", "ids": [1]}, {"name": "c", "ids": [2]}], None)


@pytest.mark.parametrize(
    ("values", "table", "said"),
    [
        ([0, 1, 2, 255], FROM_ZERO, ("[255]", "add 255 to data.ignored.ids")),
        ([0, 255], TWO, ("[255]", "scaled to 0 and 255", "ids: [255]")),
        ([1, 2, 3], FROM_ZERO, ("[3]", "count from 1 to 3", "add 1")),
        ([0, 1, 2], FROM_ONE, ("[0]", "counts from 1", "background", "subtract 1")),
        ([0, 1, 2, 9], FROM_ZERO, ("[9]", "list [0, 1, 2]", "data.ignored.ids")),
    ],
    ids=["255", "0 and 255", "from 1", "from 0", "one more"],
)
def test_ids_that_are_not_listed(tmp_path, refused, values, table, said):
    mask = save(tmp_path / "m.png", np.tile(np.array(values, np.uint8), (64, 20)))
    image = save(tmp_path / "i.png", np.zeros((64, 20 * len(values), 3), np.uint8))
    with refused(mask, *said):
        check_pairs([Pair("a", image, mask)], table)


def test_colours_that_are_not_listed(tmp_path, refused):
    rgb = rgb_of(IDS)
    rgb[:16, :3] = 255, 250, 10
    with refused(
        "m.png", "[255, 250, 10] on 0.781%", "nearest one listed is [255, 255, 0]", "data.ignored.colors"
    ):
        read_mask(save(tmp_path / "m.png", rgb), BY_COLOR)


def test_smoothed_edges(tmp_path, refused):
    with refused("m.png", "more colours", "anti-aliasing", "nearest neighbour"):
        read_mask(save(tmp_path / "m.png", cv2.GaussianBlur(rgb_of(IDS), (0, 0), 2)), BY_COLOR)


def test_another_size(tmp_path, refused):
    image = save(tmp_path / "i.jpg", image_of(IDS, 0))
    mask = save(tmp_path / "m.png", np.ascontiguousarray(IDS.T))
    with refused(mask, "64x96 pixels, but its image i.jpg has 96x64", "EXIF", "nearest neighbour"):
        check_pairs([Pair("a", image, mask)], BY_ID)
