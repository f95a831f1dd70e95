"""The JSON Schemas for editors: they are those of the table of keys, take conf/, and mark what is wrong."""

import json

import pytest
from front_doors import REPOSITORY
from jsonschema import Draft7Validator
from omegaconf import OmegaConf
from referencing import Registry, Resource

from scripts import conf_schema

SCHEMAS = {path.name: json.loads(path.read_text()) for path in (conf_schema.FOLDER / "conf").glob("*.json")}
PLACES = {
    place.removeprefix("./.vscode/conf/"): [files] if isinstance(files, str) else files
    for place, files in json.loads((conf_schema.FOLDER / "settings.json").read_text())["yaml.schemas"].items()
}
FILES = [(name, path) for name, globs in PLACES.items() for glob in globs for path in REPOSITORY.glob(glob)]


def problems(name, content):
    resources = [(key, Resource.from_contents(schema)) for key, schema in SCHEMAS.items()]
    validator = Draft7Validator(SCHEMAS[name], registry=Registry().with_resources(resources))
    return [error.message for error in validator.iter_errors(content)]


def test_they_are_up_to_date(monkeypatch, tmp_path):
    kept = (conf_schema.FOLDER / "settings.json").read_text()
    monkeypatch.setattr(conf_schema, "FOLDER", tmp_path)
    conf_schema.main()
    made = {path.name: json.loads(path.read_text()) for path in (tmp_path / "conf").glob("*.json")}
    assert made == SCHEMAS, "python -m scripts.conf_schema makes them anew"
    assert (tmp_path / "settings.json").read_text() == kept


@pytest.mark.parametrize(("name", "path"), FILES, ids=lambda v: getattr(v, "stem", ""))
def test_conf_is_allowed(name, path):
    assert problems(name, OmegaConf.to_container(OmegaConf.load(path)) or {}) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("trainer.json", "max_epoch: 3"),
        ("trainer.json", "precision: 16"),
        ("data.json", "batch_size: 0"),
        ("data.json", "street: {train: many}"),
        ("optimizer.json", "{_target_: torch.optim.Adam, learning_rate: 1e-3}"),
        ("optimizer.json", "{_target_: torch.optim.Adam, lr: -1}"),
        ("model.json", "{_target_: src.network.cgnet.CGNet, preprocessing: {mean: [1, 2]}}"),
        ("callbacks.json", "ema: {_target_: src.training.callbacks.ema.WarmedUpEMA, decay: 2}"),
        ("train.json", "seed: x"),
        ("train.json", "trainer: {max_epochs: 0}"),
        ("eval.json", "tta: {scales: []}"),
    ],
)
def test_what_is_wrong_is_marked(name, text):
    assert problems(name, OmegaConf.to_container(OmegaConf.create(text)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("callbacks.json", "mine: {_target_: mylab.Callback, anything: 1}"),
        ("optimizer.json", "{_target_: mylab.Lion, rate: 1}"),
        ("train.json", "seed: ${oc.env:SEED}"),
        ("data.json", "root: ???"),
    ],
)
def test_what_is_the_user_s_own_is_not(name, text):
    assert problems(name, OmegaConf.to_container(OmegaConf.create(text))) == []
