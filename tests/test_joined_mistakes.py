"""Wrong YAML files of a joined dataset: each has a message with the fix."""

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from test_joined import YAML

from src.config import CONF_DIR, register_resolvers
from src.errors import UserError
from src.schema.check import check_values

WRONG = {
    "no parts": ({"parts": None}, "data.parts is not set"),
    "no classes": ({"classes": None}, "data.classes is not set"),
    "one class": ({"classes": [{"name": "road"}]}, "data.classes has a single class"),
    "ids in the joined classes": ({"classes.0.ids": [3]}, "data.classes[0].ids", "stand in the parts"),
    "masks beside the parts": ({"masks": "x"}, "data.masks has no effect in a joined dataset"),
    "another table": ({"labels": "cityscapes", "num_classes": 3}, "data.labels=cityscapes: a joined dataset"),
    "a class of no part": ({"classes.2.name": "sea"}, "data.parts.town.classes: plant is not one of"),
    "a class that no part has": ({"classes.3": {"name": "sea"}}, "data.classes: no part has sea."),
    "a label with a typo": ({"parts.town.classes.1.labels": ["caar"]}, "no label 'caar'. Did you mean car?"),
    "a label of two classes": ({"parts.town.classes.1.labels": ["road"]}, "the label road is listed twice"),
    "ids for a known table": (
        {"parts.town.classes.0": {"name": "road", "ids": [7]}},
        "data.parts.town.classes[0]=", "{name: car, labels: [car, truck]}",
    ),
    "labels for ids": (
        {"parts.fields.classes.0": {"name": "road", "labels": ["road"]}},
        "data.parts.fields.classes[0].labels: there is no such key", "data.parts.fields.classes[0] (road)",
    ),
    "ignored for a known table": (
        {"parts.town.ignored": {"ids": [255]}}, "data.parts.town.ignored has no effect",
    ),
    "an id twice": ({"parts.fields.classes.1.ids": [0]}, "0 is listed for 'road' and for 'plant' (ids)"),
    "no root": ({"parts.town.root": None}, "data.parts.town.root is missing"),
    "no layout": ({"parts.town.layout": "town"}, "data.parts.town.layout=town", "camvid or folder"),
    "a part in a part": ({"parts.town.layout": "joined"}, "data.parts.town.layout=joined"),
    "an unknown key": ({"parts.town.rooot": "x"}, "data.parts.town.rooot. The nearest one is root"),
    "an unknown split": ({"parts.town.only": ["tain"]}, "data.parts.town.only=[tain]", "trai"),
    "a part as a list": ({"parts.town": [1]}, "data.parts.town=[1]", "keys with values"),
    "an odd name": ({"parts": {"a b": {"layout": "folder"}}}, "data.parts: 'a b' is no name"),
    "an unknown table": ({"parts.fields.labels": "mine"}, "data.parts.fields.labels=mine: unknown"),
    "a split as a number": ({"parts.fields.splits": {"train": 3}}, "data.parts.fields.splits.train=3"),
}  # fmt: skip


@pytest.fixture(scope="module")
def config():
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", ["data=joined"])
    own = yaml.safe_load(YAML)
    del own["defaults"]
    return OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(config)), {"data": own})


def test_the_yaml_is_right(config):
    check_values(config, "train")
    assert config.data.num_classes == 3


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_yaml_has_a_message_with_the_fix(config, kind):
    changes, *said = WRONG[kind]
    changed = OmegaConf.to_container(config)
    for key, value in changes.items():
        *place, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        node = changed["data"]
        for part in place:
            node = node[part]
        if isinstance(node, list) and last == len(node):
            node.append(value)
        else:
            node[last] = value
    with pytest.raises(UserError) as error:
        check_values(OmegaConf.create(changed), "train")
    for part in said:
        assert part in error.value.text
    assert len(error.value.text.splitlines()) <= 2, "and nothing else"
