"""The classes of a dataset of one's own: the table that they make, and 20 wrong YAML files."""

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from own_data import CLASSES, IGNORED, RGB_CLASSES, RGB_IGNORED

from src.config import CONF_DIR, register_resolvers
from src.errors import UserError
from src.label_tables import OWN, own_table, table_of
from src.labels import CITYSCAPES, IGNORE
from src.schema.check import check_values


def test_ids_become_classes():
    table = own_table(CLASSES, IGNORED)
    assert table.class_names == ("ground", "house", "car")
    assert table.to_train_id[[0, 1, 2, 3, 255]].tolist() == [0, 1, 1, 2, IGNORE]
    assert np.flatnonzero(table.is_known).tolist() == [0, 1, 2, 3, 255]
    assert table.colors[1].tolist() == [200, 0, 0]
    assert not table.has_categories
    assert not table.has_instances


def test_colours_become_classes():
    table = own_table(RGB_CLASSES, RGB_IGNORED)
    assert table.mask_colors == ((10, 20, 30), (128, 64, 128), (0, 0, 142), (255, 255, 0), (0, 0, 0))
    assert table.to_train_id[:5].tolist() == [0, 1, 1, 2, IGNORE]
    assert table.colors[:3].tolist() == [[10, 20, 30], [128, 64, 128], [255, 255, 0]]


def test_tables_that_read_a_file_differently_have_other_fingerprints():
    swapped = [RGB_CLASSES[0], RGB_CLASSES[2], RGB_CLASSES[1]]
    tables = [own_table(classes, RGB_IGNORED) for classes in (RGB_CLASSES, swapped)]
    tables += [own_table(CLASSES, IGNORED), own_table(CLASSES, None), CITYSCAPES]
    renamed = own_table([CLASSES[0] | {"name": "other"}, *CLASSES[1:]], IGNORED)
    assert len({table.fingerprint for table in tables}) == 5
    assert renamed.fingerprint == tables[2].fingerprint


def test_classes_without_a_colour_have_different_ones():
    table = own_table([{"name": str(number), "ids": [number]} for number in range(200)], None)
    assert len({tuple(color) for color in table.colors[:200].tolist()}) == 200


def test_other_data_groups_have_the_tables_of_old():
    assert table_of({"labels": "cityscapes"}) is CITYSCAPES


# ---- wrong YAML files

A, B = {"name": "a", "ids": [0]}, {"name": "b", "ids": [1]}
WRONG = {
    "no classes": ({"classes": None}, "data.classes is not set", "python -m src.doctor"),
    "no list": ({"classes": "road"}, "data.classes=road", "a list"),
    "no entry": ({"classes": []}, "data.classes=[]", "one or more"),
    "a name alone": ({"classes": ["road", "car"]}, "data.classes=[road, car]", "keys with values"),
    "one class": ({"classes": [A]}, "single class", "background"),
    "no name": ({"classes": [{"ids": [0]}, B]}, "data.classes[0].name=None", "a name"),
    "a name that is a number": ({"classes": [A | {"name": 7}, B]}, "data.classes[0].name=7", 'name: "7"'),
    "a name that is a switch": ({"classes": [A | {"name": False}, B]}, "data.classes[0].name=False", "Quote"),
    "no values": ({"classes": [{"name": "a"}, B]}, "data.classes[0] (a)", "ids: [7]", "colors:"),
    "an id without a list": ({"classes": [A | {"ids": 0}, B]}, "data.classes[0].ids=0", "Write ids: [0]"),
    "an id beyond a byte": ({"classes": [A | {"ids": [256]}, B]}, "data.classes[0].ids=[256]", "0 to 255"),
    "an id as a text": ({"classes": [A | {"ids": ["0"]}, B]}, "data.classes[0].ids=['0']", "whole numbers"),
    "an unknown key": ({"classes": [A | {"id": [3]}, B]}, "data.classes[0].id", "Did you mean ids?"),
    "an id of two classes": ({"classes": [A, B | {"ids": [0, 1]}]}, "0 is listed for 'a' and for 'b' (ids)"),
    "an id that is ignored, too": ({"ignored": {"ids": [1]}}, "for 'b' and for data.ignored"),
    "a name twice": ({"classes": [A, B | {"name": "a"}]}, "the name 'a'", "ids: [7, 8]"),
    "ids and colours": (
        {"classes": [A, {"name": "b", "colors": [[1, 2, 3]]}]}, "ids for 'a', but colors for 'b'",
    ),
    "a colour without a list": (
        {"classes": [{"name": "a", "colors": [1, 2, 3]}, B]}, "Write colors: [[1, 2, 3]]",
    ),
    "a colour of two values": ({"classes": [A | {"color": [1, 2]}, B]}, "data.classes[0].color=[1, 2]"),
    "ignored as a list": ({"ignored": [255]}, "data.ignored=[255]", "keys with values"),
    "ignored without a list": ({"ignored": {"ids": 255}}, "data.ignored.ids=255", "a list of"),
    "an unknown key of ignored": ({"ignored": {"id": [255]}}, "data.ignored.id", "Did you mean ids?"),
    "another table": ({"labels": "cityscapes"}, "data.classes would have no effect", "data.labels=classes"),
    "an unknown table": ({"labels": "mine"}, "data.labels=mine: unknown", "camvid, classes"),
    "an unknown layout": ({"layout": "folders"}, "data.layout=folders", "folder or joined"),
    "an unknown key of data": ({"clases": [A, B]}, "data.clases", "The nearest one is data.classes"),
    "another number of classes": ({"num_classes": 3}, "data.num_classes=3", "2 classes"),
    "weights for other classes": ({"class_weights": [1, 2, 3]}, "has 3 numbers, for 2 classes"),
    "a split without a name": ({"splits": {"train": None}}, "data.splits.train=null", "a folder"),
    "images as a list": ({"images": ["a", "b"]}, "data.images=[a, b]", "a pattern of paths"),
}  # fmt: skip


@pytest.fixture(scope="module")
def config():
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", ["data=folder", "data.root=/nowhere"])


def changed(config, **changes):
    result = OmegaConf.create(OmegaConf.to_container(config))
    for key, value in yaml.safe_load(yaml.safe_dump(changes)).items():  # as a user would have written it
        OmegaConf.update(result, f"data.{key}", value, merge=False)
    return result


def test_right_classes(config):
    check_values(changed(config, classes=[A, B]), "train")
    assert changed(config, classes=[A, B, B | {"name": "c"}]).data.num_classes == 3


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_yaml_has_a_message_with_the_fix(config, kind):
    changes, *said = WRONG[kind]
    with pytest.raises(UserError) as error:
        check_values(changed(config, **{"classes": [A, B], **changes}), "train")
    for part in said:
        assert part in error.value.text
    assert len(error.value.text.splitlines()) <= 2, "and nothing else"


def test_the_doctor_alone_needs_no_classes(config):
    for task in ("train", "doctor"):
        asked = changed(config, classes=None)
        asked.task = task
        asked.samples = 4 if task == "doctor" else 0
        if task == "doctor":
            check_values(asked, task)
        else:
            with pytest.raises(UserError, match=r"data\.classes is not set"):
                check_values(asked, task)


def test_all_problems_at_once():
    with pytest.raises(UserError) as error:
        own_table([{"name": 3, "ids": [0]}, {"name": "b", "ids": [999]}, {"nam": "c"}], {"ids": "x"})
    assert len(error.value.text.splitlines()) >= 5


def test_as_many_colours_as_a_byte_counts():
    many = [{"name": str(n), "colors": [[n, 0, 0]]} for n in range(255)]
    assert own_table(many, None).num_classes == 255
    with pytest.raises(UserError, match="at most 255"):
        own_table(many, {"colors": [[0, 1, 0]]})
    with pytest.raises(UserError, match="at most 255"):
        own_table(many * 1000, None)


def test_the_name_of_the_table_is_that_of_data_labels():
    assert own_table(CLASSES, IGNORED).name == OWN
