import shutil

import cv2
import numpy as np
import pytest

from src.data.files import read_image, read_label
from src.data.layouts import find_pairs, list_split

IMAGES, LABELS = "leftImg8bit", "gtFine"


def names(pairs):
    return [pair.name for pair in pairs]


def numbers(count, split):
    return [f"{split}stadt_{index:06d}_000000" for index in range(count)]


@pytest.mark.parametrize("layout", ["cityscapes", "camvid"])
def test_splits(layout, street_root, camvid_root):
    root = street_root if layout == "cityscapes" else camvid_root
    train, val, both = (find_pairs(layout, root, split) for split in ("train", "val", "trainval"))
    assert names(train) == numbers(12, "train")
    assert names(val) == numbers(7, "val")
    assert both == train + val


def test_cityscapes_pairs_belong_together(street_root):
    for pair in find_pairs("cityscapes", str(street_root), "val"):
        assert pair.image == street_root / IMAGES / "val" / "valstadt" / f"{pair.name}_leftImg8bit.png"
        assert pair.label == street_root / LABELS / "val" / "valstadt" / f"{pair.name}_gtFine_labelIds.png"
        assert read_image(pair.image).shape[:2] == read_label(pair.label).shape == (64, 128)


def test_cityscapes_test_split_has_labels_where_they_say_something(street):
    (street / IMAGES / "train").rename(street / IMAGES / "test")
    assert {pair.label for pair in find_pairs("cityscapes", street, "test")} == {None}
    (street / LABELS / "train").rename(street / LABELS / "test")  # of another dataset in this layout
    pairs = find_pairs("cityscapes", street, "test")
    assert [pair.label for pair in pairs] == sorted((street / LABELS / "test").glob("*/*labelIds.png"))
    for path in (street / LABELS / "test").glob("*/*labelIds.png"):  # Cityscapes' download
        cv2.imwrite(str(path), np.full((64, 128), 3, np.uint8))
    pairs = find_pairs("cityscapes", street, "test")
    assert len(pairs) == 12
    assert {pair.label for pair in pairs} == {None}


def test_camvid_test_split_has_labels_where_the_release_has_them(camvid):
    (camvid / "val").rename(camvid / "test")
    assert {pair.label for pair in find_pairs("camvid", camvid, "test")} == {None}
    (camvid / "valannot").rename(camvid / "testannot")
    pairs = find_pairs("camvid", camvid, "test")
    assert [pair.label for pair in pairs] == [
        camvid / "testannot" / f"{name}.png" for name in numbers(7, "val")
    ]


def test_half_of_the_camvid_test_labels(camvid, refused):
    (camvid / "val").rename(camvid / "test")
    (camvid / "valannot").rename(camvid / "testannot")
    label = next((camvid / "testannot").iterdir())
    label.unlink()
    with refused(label, "7 images, 6 labels"):
        find_pairs("camvid", camvid, "test")


def test_root_with_a_tilde(street_root, monkeypatch):
    monkeypatch.setenv("HOME", str(street_root.parent))
    assert len(find_pairs("cityscapes", "~/street", "train")) == 12


@pytest.mark.parametrize("root", [None, ""])  # "": an environment variable that is set to nothing
@pytest.mark.parametrize("layout", ["cityscapes", "camvid"])
def test_no_root(layout, root, refused):
    with refused("data.root is not set", "data.root=/path/to/", "experiment=demo"):
        find_pairs(layout, root, "train")


def test_no_cityscapes_at_the_root(tmp_path, refused):
    three_ways = "data.root=", "CITYSCAPES_DATASET", "cityscapes-dataset.com", "experiment=demo"
    for root in (tmp_path, tmp_path / "nowhere"):
        with refused(root, "neither leftImg8bit/ nor leftImg8bit_trainvaltest.zip", *three_ways):
            find_pairs("cityscapes", root, "train")


def test_no_camvid_at_the_root(tmp_path, refused):
    with refused(tmp_path / "nowhere", "no CamVid here", "data.root=", "experiment=demo"):
        find_pairs("camvid", tmp_path / "nowhere", "train")
    with refused(tmp_path / "train", "no such folder", "trainannot", "experiment=demo"):
        find_pairs("camvid", tmp_path, "train")


def test_empty_split(street, camvid, refused):
    for root, layout, folder in (
        (street, "cityscapes", street / IMAGES / "val"),
        (camvid, "camvid", camvid / "val"),
    ):
        for image in folder.rglob("*.png"):
            image.unlink()
        with refused(folder, "no images of the split 'val'", "complete", "data.root"):
            find_pairs(layout, root, "trainval")


def test_images_without_labels(street, refused):
    gone = find_pairs("cityscapes", street, "train")[2].label
    gone.unlink()
    with refused(f"{gone}: missing label", "12 images, 11 labels", "Download or extract"):
        find_pairs("cityscapes", street, "train")


def test_labels_without_images(street, refused):
    gone = find_pairs("cityscapes", street, "train")[2]
    gone.image.unlink()
    image = street / IMAGES / "train" / "trainstadt" / gone.name
    with refused(image, "missing image", "11 images, 12 labels", "Download or extract"):
        find_pairs("cityscapes", street, "train")


def test_a_half_downloaded_split_names_the_first_files(street, refused):
    shutil.rmtree(street / LABELS / "train")
    with refused("12 images, 0 labels", *numbers(5, "train"), "... and 7 more") as shown:
        find_pairs("cityscapes", street, "train")
    assert numbers(6, "train")[-1] not in shown.text


def test_no_labels_at_all(street, refused):
    shutil.rmtree(street / LABELS)
    with refused(street, "neither gtFine/ nor gtFine_trainvaltest.zip", "241 MB"):
        find_pairs("cityscapes", street, "train")
    (street / IMAGES / "val").rename(street / IMAGES / "test")
    assert len(find_pairs("cityscapes", street, "test")) == 7, "which needs none"


def test_half_downloaded_camvid(camvid, refused):
    label = camvid / "valannot" / "valstadt_000003_000000.png"
    label.unlink()
    with refused(label, "7 images, 6 labels", "Download or extract"):
        find_pairs("camvid", camvid, "val")


def test_label_train_ids_alone_are_not_enough(street, refused):
    for label in (street / LABELS / "train").rglob("*_labelIds.png"):
        label.rename(label.with_name(label.name.replace("labelIds", "labelTrainIds")))
    with refused(
        "_gtFine_labelTrainIds.png", "*_gtFine_labelIds.png files are needed", "gtFine_trainvaltest.zip"
    ):
        find_pairs("cityscapes", street, "train")


def test_unknown_layout_and_split(street_root, refused):
    with refused("data.layout=kitti", "cityscapes, camvid"):
        find_pairs("kitti", street_root, "train")
    with refused("'training'", "train, val, test, trainval"):
        find_pairs("cityscapes", street_root, "training")


def test_real_datasets(real_data):
    assert len(find_pairs("camvid", real_data / "camvid", "trainval")) == 367 + 101
    assert len(find_pairs("cityscapes", real_data / "kitti", "trainval")) == 80 + 20


def test_a_half_in_another_folder_is_found(street, refused):
    pair = find_pairs("cityscapes", street, "train")[1]
    (pair.image.parent.parent / "bochum").mkdir()
    moved = pair.image.rename(pair.image.parent.parent / "bochum" / pair.image.name)
    with refused(f"{pair.image}: missing image of a label; it lies in {moved}"):
        find_pairs("cityscapes", street, "train")


def test_hidden_files_are_no_frames(street):
    pair = find_pairs("cityscapes", street, "val")[0]
    for path in (pair.image, pair.label):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    assert len(find_pairs("cityscapes", street, "val")) == 7


def test_strays(street, camvid):
    strays = [
        street / IMAGES / "val" / "valstadt" / "frame_leftImg8bit.jpg",
        street / IMAGES / "val" / "frame_leftImg8bit.png",
        street / LABELS / "val" / "valstadt" / "notes.txt",
    ]
    for path in strays:
        path.write_text("")
    assert set(list_split("cityscapes", street, "val")["val"].strays()) == set(strays)
    city = street / IMAGES / "val" / "valstadt"
    city.rename(street / "elsewhere")
    city.symlink_to(street / "elsewhere")
    assert set(list_split("cityscapes", street, "val")["val"].strays()) == set(strays), "through a link"
    assert list_split("camvid", camvid, "val")["val"].strays() == []
    (camvid / "valannot" / "deeper").mkdir()
    deeper = camvid / "valannot" / "deeper" / "a.png"
    deeper.write_text("")
    assert list_split("camvid", camvid, "val")["val"].strays() == [deeper]
