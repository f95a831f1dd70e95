"""JSON Schemas of conf/ for editors, which then complete keys, show ranges and mark errors.

    python -m scripts.conf_schema

writes .vscode/conf/<group>.json and .vscode/settings.json, from the table that checks a run's config
(src/schema/keys.py). VS Code needs the extension redhat.vscode-yaml; other editors with yaml-language-server
take the same "yaml.schemas".
"""

import json
from collections.abc import Mapping
from typing import Any

from src.config import CONF_DIR
from src.runs.atomic_files import write_text
from src.schema.keys import KEYS, OF_TASK, OPEN, PARTS, TARGETED, TARGETS
from src.schema.kinds import AnyOf, Choice, Group, Integer, Kind, ListOf, Null, Number, Switch, Table, Text

FOLDER = CONF_DIR.parent / ".vscode"
Schema = dict[str, Any]
TASKS = ("train", "eval", "predict", "export", "doctor", "benchmark")
# Allowed in place of any value: an interpolation, and the mark of a value that must be given.
_LATER = [{"type": "string", "pattern": r"\$\{"}, {"const": "???"}]
# Prefixes of the `_target_`s that belong in a group.
_CLASSES: dict[str, tuple[str, ...]] = {
    "model": ("src.network.",),
    "loss": ("src.training.losses.",),
    "optimizer": ("torch.optim.Adam", "torch.optim.SGD"),
    "schedule": ("src.training.schedules.", "torch.optim.lr_scheduler."),
    "augment": ("src.data.augment.", "albumentations."),
    "callbacks": ("src.training.callbacks.", "pytorch_lightning.callbacks."),
    "logger": ("src.training.loggers.", "pytorch_lightning.loggers."),
}
_HYDRA: dict[str, Schema] = {"defaults": {"type": "array"}, "hydra": {"type": "object"}}


def of_kind(kind: Kind) -> Schema:
    """What the kind allows, without rules that JSON Schema cannot express, such as ascending order."""
    if isinstance(kind, AnyOf):
        return {"anyOf": [of_kind(one) for one in kind.kinds]}
    if isinstance(kind, Null):
        return {"type": "null"}
    if isinstance(kind, Switch):
        return {"type": "boolean"} if kind.only is None else {"const": kind.only}
    if isinstance(kind, Integer):
        return {"type": "integer", "minimum": kind.low, "maximum": kind.high}
    if isinstance(kind, Number):
        low = "exclusiveMinimum" if kind.above else "minimum"
        high = "exclusiveMaximum" if kind.below else "maximum"
        return {"type": "number", low: kind.low, high: kind.high}
    if isinstance(kind, Choice):
        return {"enum": list(kind.values)}
    if isinstance(kind, ListOf):
        least = kind.length or (0 if kind.may_be_empty else 1)
        most = {"maxItems": kind.length} if kind.length else {}
        return {"type": "array", "items": _or_later(kind.item), "minItems": least, **most}
    if isinstance(kind, Table):
        columns = {name: _or_later(column) for name, column in kind.columns.items()}
        return _object({}, more=_object(columns) | {"minProperties": 1})
    if isinstance(kind, Text) and not kind.pattern.startswith("(?"):
        return {"type": "string", "pattern": f"^({kind.pattern})$"}
    return {"type": "object" if isinstance(kind, Group) else "string"}


def _or_later(kind: Kind) -> Schema:
    return {"description": kind.expected, "anyOf": [of_kind(kind), *_LATER]}


def _object(properties: Mapping[str, Schema], more: bool | Schema = False) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": more}


def of_keys(prefix: str, keys: Mapping[str, Kind]) -> Schema:
    """The keys right below a prefix such as "data.", with those below them."""
    properties: dict[str, Schema] = {}
    for key, kind in keys.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or "." in name:
            continue
        below = any(other.startswith(f"{key}.") for other in keys)
        either = [of_keys(f"{key}.", keys)] if below else [of_kind(kind)]
        if below and kind.allows(None):
            either.append({"type": "null"})
        properties[name] = {"description": kind.expected, "anyOf": [*either, *_LATER]}
    return _object(properties)


def of_targets(group: str) -> Schema:
    """An object with a `_target_`: the arguments of a class of the table, or of any other class."""
    known = {target: keys for target, keys in TARGETS.items() if target.startswith(_CLASSES[group])}
    hydras = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_", "defaults")
    own: dict[str, Schema] = {name: {} for name in hydras}
    own |= {
        key.removeprefix(f"{group}."): _object({name: _or_later(kind) for name, kind in keys.items()})
        for key, keys in PARTS.items()
        if key.startswith(f"{group}.")
    }
    own |= {
        key.removeprefix(f"{group}."): _or_later(kind)
        for key, kind in KEYS.items()
        if group in TARGETED and key.startswith(f"{group}.")
    }
    cases = [
        {
            "if": {"properties": {"_target_": {"const": target}}, "required": ["_target_"]},
            "then": _object({name: _or_later(kind) for name, kind in keys.items()} | own),
        }
        for target, keys in known.items()
    ]
    names = {"anyOf": [{"enum": list(known)}, {"type": "string"}]} if known else {"type": "string"}
    return {"type": "object", "properties": {"_target_": names}} | ({"allOf": cases} if cases else {})


def of_group(group: str) -> Schema:
    """What a file of conf/<group> may hold."""
    if group in TARGETED:
        return of_targets(group)
    found = of_keys(f"{group}.", KEYS)
    if group in OPEN:
        found["additionalProperties"] = {"anyOf": [{"type": "null"}, of_targets(group)]}
    found["properties"]["defaults"] = _HYDRA["defaults"]
    return found


def schemas() -> dict[str, Schema]:
    """By group, and by task: for the file of the task, that of `train` also for experiments."""
    groups = sorted(key for key in KEYS if "." not in key and (CONF_DIR / key).is_dir())
    found = {group: of_group(group) for group in groups}
    for task in TASKS:
        whole = of_keys("", KEYS | OF_TASK[task])
        for group in groups:
            if not any(key.startswith(f"{group}.") for key in OF_TASK[task]):
                either = [{"$ref": f"{group}.json"}, {"type": "null"}, *_LATER]
                whole["properties"][group] = {"anyOf": either}
        whole["properties"] |= _HYDRA | {"experiment": {}, "sweep": {}}
        found[task] = whole
    return found


def main() -> None:
    found = schemas()
    (FOLDER / "conf").mkdir(parents=True, exist_ok=True)
    for name, schema in found.items():
        head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": f"conf: {name}"}
        write_text(FOLDER / "conf" / f"{name}.json", json.dumps(head | schema, indent=1) + "\n")
    files = {name: f"conf/{name}.yaml" if name in TASKS else f"conf/{name}/*.yaml" for name in found}
    places: dict[str, Any] = {f"./.vscode/conf/{name}.json": place for name, place in files.items()}
    places["./.vscode/conf/train.json"] = [files["train"], "conf/experiment/*.yaml"]
    settings = {"yaml.schemas": places}
    write_text(FOLDER / "settings.json", json.dumps(settings, indent=2) + "\n")
    print(f"{FOLDER}: {len(found)} schemas")


if __name__ == "__main__":
    main()
