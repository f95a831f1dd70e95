"""Where the files of a dataset of one's own are: patterns, lists, and what is missing."""

import shutil

import pytest
from own_data import ids_of, image_of, save, write_folders

from src.data.layouts import find_pairs
from src.data.layouts.search import find_folders

PATTERNS = {"images": "images/{split}/**/*.*", "masks": "masks/{split}/{name}.*", "lists": None}


@pytest.fixture
def root(tmp_path):
    return write_folders(tmp_path / "own")


def pairs(root, split="train", **changes):
    return find_pairs("folder", root, split, PATTERNS | changes)


def inside(root, found):
    return [(str(pair.image.relative_to(root)), str(pair.label.relative_to(root))) for pair in found]


def test_subfolders_are_kept(root):
    train = pairs(root)
    assert inside(root, train)[3:5] == [
        ("images/train/town/001.jpg", "masks/train/town/001.png"),
        ("images/train/town/003.jpg", "masks/train/town/003.png"),
    ]
    assert [pair.name for pair in train] == ["000", "002", "004", "town_001", "town_003", "town_005"]
    assert len(pairs(root, "trainval")) == 9


def test_links_to_folders_are_followed_but_not_in_a_circle(root, tmp_path):
    for kind in ("images", "masks"):
        (root / kind / "train/town").rename(tmp_path / kind)
        (root / kind / "train/town").symlink_to(tmp_path / kind)
        (tmp_path / kind / "back").symlink_to(root / kind / "train")
    assert len(pairs(root)) == 6


def test_a_pattern_without_subfolders(root, refused):
    assert len(pairs(root, images="images/{split}/town/*.jpg", masks="masks/{split}/town/{name}.png")) == 3
    with refused(
        f"{root}/masks/train/000.png: no image"
    ):  # of which the pattern has only those in subfolders
        pairs(root, images="images/{split}/*/*.jpg", masks="masks/{split}/{name}.png")


def test_names_within_file_names(tmp_path):
    for name in ("a/x_1", "a/x_2", "b/y_1"):
        save(tmp_path / f"train/{name}_left.png", image_of(ids_of(0), 0))
        save(tmp_path / f"train/{name}_ids.png", ids_of(0))
    found = pairs(tmp_path, images="{split}/**/*_left.png", masks="{split}/{name}_ids.png")
    assert inside(tmp_path, found)[2] == ("train/b/y_1_left.png", "train/b/y_1_ids.png")
    assert len(found) == 3


def test_other_names_of_splits(root):
    (root / "images/train").rename(root / "images/training")
    (root / "masks/train").rename(root / "masks/training")
    assert len(pairs(root, splits={"train": "training", "val": "val", "test": "test"})) == 6


def test_each_pair_has_a_name_of_its_own(root):
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (root / kind / "train/a").mkdir()
        for name in ("a/001", "a_001"):  # beside val/001
            shutil.copyfile(root / kind / f"train/000.{suffix}", root / kind / f"train/{name}.{suffix}")
        shutil.copyfile(root / kind / f"train/000.{suffix}", root / kind / f"val/000.{suffix}")
    names = [pair.name for pair in pairs(root, "trainval")]
    assert {"000", "000_2", "a_001", "a_001_2"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_test_split_may_have_no_masks(root):
    shutil.copytree(root / "images/val", root / "images/test")
    assert {pair.label for pair in pairs(root, "test")} == {None}


def test_halves_of_pairs(root, refused):
    (root / "masks/train/000.png").unlink()
    (root / "images/train/town/001.jpg").unlink()
    with refused(
        f"{root}/images/train/000.jpg: no mask, expected {root}/masks/train/000.*",
        f"{root}/masks/train/town/001.png: no image, expected {root}/images/train/town/001.*",
        "data.masks",
    ):
        pairs(root)


def test_two_images_of_one_name(root, refused):
    save(root / "images/train/000.png", image_of(ids_of(0), 0))
    with refused("images/train/000.png: the same name as 000.jpg", "Remove one"):
        pairs(root)


@pytest.mark.parametrize("separator", ["\t", ",", " "], ids=["tab", "comma", "space"])
def test_lists_of_pairs(root, separator):
    lines = [f"{one}{separator}{other}" for one, other in inside(root, pairs(root))[:4]]
    (root / "train.txt").write_text("\n".join(["", *lines, ""]))
    found = pairs(root, lists="{split}.txt", images=None, masks=None)
    assert inside(root, found) == inside(root, pairs(root))[:4]


def test_names_with_spaces_in_a_list(root):
    (root / "images/train/000.jpg").rename(root / "images/train/a b.jpg")
    (root / "train.txt").write_text("images/train/a b.jpg\tmasks/train/000.png\n")
    assert inside(root, pairs(root, lists="{split}.txt")) == [("images/train/a b.jpg", "masks/train/000.png")]


def test_lists_of_names(root):
    (root / "train.txt").write_text("000\ntown/001\n")
    found = pairs(root, lists="{split}.txt", images="images/train/{name}.jpg", masks="masks/train/{name}.*")
    assert inside(root, found) == inside(root, pairs(root))[::3][:2]


def test_lists_of_several_datasets(root, tmp_path):
    other = write_folders(tmp_path / "other")
    lines = [f"{pair.image}\t{pair.label}" for place in (root, other) for pair in pairs(place)]
    (root / "train.txt").write_text("\n".join(lines))
    assert len(pairs(root, lists="{split}.txt")) == 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, ("train.txt: no such file", "data.lists")),
        ("", ("empty", "'train'")),
        ("a b c d\n", ("line 1 has 4 parts", "tab")),
        ("images/train/000.jpg\n", ("without a mask",)),
        ("images/train/000.jpg nope.png\n", ("nope.png: missing", "line 1")),
        ("images/train/000.jpg masks/train/000.png\n" * 2, ("line 2 has the image of an earlier line",)),
    ],
)
def test_wrong_lists(root, refused, text, said):
    if text is not None:
        (root / "train.txt").write_text(text)
    with refused("train.txt", *said):
        pairs(root, lists="{split}.txt")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": "images/*.jpg"}, ("data.images=images/*.jpg", "{split}", "data.lists")),
        ({"masks": "masks/{name}.png"}, ("data.masks=masks/{name}.png", "{split}")),
        ({"images": "images/{split}/a.jpg"}, ("data.images", "has no *", "images/{split}/**/*.jpg")),
        ({"masks": "masks/{split}/{name}/mask.png"}, ("data.masks", "beginning of the file name")),
        ({"masks": "masks/{split}/m_{name}.png"}, ("data.masks", "beginning of the file name", "data.lists")),
        ({"masks": "masks/{city}/{split}/{name}.png"}, ("data.masks", "cannot be read as a pattern")),
        ({"images": "**/**/{split}/*.jpg"}, ("data.images", "** once")),
        ({"images": "images/{split}/a*b*/*.jpg"}, ("data.images", "one * between slashes")),
        ({"images": "images/{split}/**"}, ("data.images", "cannot be read as a pattern")),
        ({"images": "images/{split}/{name}.jpg"}, ("data.images", "data.lists")),
        ({"images": None}, ("data.images is not set", "python -m src.doctor")),
        (
            {"images": "pictures/{split}/*.jpg"},
            ("pictures/train: no images", "has images, masks", "data.images"),
        ),
        ({"images": "images/{split}/*.tif"}, ("no images", "such as", "000.jpg")),
        ({"masks": "masks/{split}/{name}_x.png"}, ("not one of the 6 images", "000_x.png", "data.masks")),
    ],
)
def test_patterns_that_find_nothing(root, refused, changes, said):
    with refused(*said):
        pairs(root, **changes)


def test_no_root(tmp_path, refused):
    with refused("nowhere: no such folder", "data.images", "python -m src.doctor data=folder") as shown:
        pairs(tmp_path / "nowhere")
    assert "CamVid" not in shown.text
    with refused("data.root is not set", "data=folder") as shown:
        pairs(None)
    assert "CamVid" not in shown.text


# ---- folders that the doctor finds


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (("images/{}", "masks/{}"), ("images/{split}/**/*.*", "masks/{split}/{name}.*")),
        (("{}/pictures", "{}/truth"), ("{split}/pictures/**/*.*", "{split}/truth/{name}.*")),
        (("deep/a/{}", "deep/b/{}"), ("deep/a/{split}/**/*.*", "deep/b/{split}/{name}.*")),
    ],
)
def test_folders_with_the_same_names(root, tmp_path, before, expected):
    for split in ("train", "val"):
        for kind, place in zip(("images", "masks"), before, strict=True):
            target = tmp_path / "other" / place.format(split)
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / kind / split).rename(target)
    found = find_folders(tmp_path / "other")
    assert (found.images, found.masks) == expected
    assert found.splits == {"train": "train", "val": "val"}


def test_masks_to_look_at_are_neither_images_nor_masks(root, refused):
    shutil.copytree(root / "masks", root / "masks_color")
    found = find_folders(root)
    assert (found.images, found.masks) == ("images/{split}/**/*.*", "masks/{split}/{name}.*")
    shutil.copytree(root / "masks", root / "truth")
    with refused("masks_color/{split}", "truth/{split}", "Say which are the images"):
        find_folders(root)


@pytest.mark.parametrize("names", [("color", "depth", "label"), ("Visible", "Infrared", "Label")])
def test_two_kinds_of_images_are_a_question(root, refused, names):
    """Not the one whose name says least."""
    for name, source in zip(names, ("images", "images", "masks"), strict=True):
        shutil.copytree(root / source, root / name)
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "masks")
    with refused("Say which are the images"):
        find_folders(root)


def test_folders_with_other_names(root, tmp_path):
    (root / "images/train").rename(tmp_path / "other")
    for mask in (root / "masks/train").rglob("*.png"):
        mask.rename(mask.with_name(f"{mask.stem}_mask.png"))
    (root / "masks/train").rename(root / "x")
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "masks")
    (tmp_path / "other").rename(root / "y")
    found = find_folders(root)
    assert (found.images, found.masks, found.splits) == ("y/**/*.*", "x/{name}_mask.*", {})


def test_no_folders_that_fit(root, refused):
    shutil.rmtree(root / "masks")
    with refused("no folders of images and masks", "images/{split}/ (5)", "data.images="):
        find_folders(root)
