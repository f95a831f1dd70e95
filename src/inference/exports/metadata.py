"""What an exported file says about itself: texts by key, each of them JSON, the same in every format.

provenance  what the network is and where it comes from, see RecordedNetwork.provenance
classes     [{"name", "train_id", "label_id", "color": [red, green, blue]}, ...] in the order of the train ids
model       the network's class, its arguments and its preprocessing, which is a part of the graph
data        the data group that it was trained on, without its place; null for published weights
export      {"format", "output", "precision", "size", "min_size", "versions"}
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from src.errors import UserError, brief
from src.inference.engines.program import OUTPUTS
from src.labels import LabelTable
from src.weights.checkpoint_schema import check_schema
from src.weights.trained_network import TrainedNetwork

KEYS = ("provenance", "classes", "model", "data", "export")
PRECISIONS = ("float32", "fp16", "int8")


def metadata(trained: TrainedNetwork, table: LabelTable, how: Mapping[str, Any]) -> dict[str, str]:
    """
    Args:
        how: the values of "export".
    """
    values = {
        "provenance": trained.provenance | {"checkpoint": trained.path.rpartition("/")[2]},
        "classes": [
            {"name": e.name, "train_id": e.train_id, "label_id": e.id, "color": list(e.color)}
            for e in table.train_labels
        ],
        "model": trained.model,
        # Its place is that of another machine, and of nobody's business where the file is shipped to.
        "data": None if trained.data is None else {k: v for k, v in trained.data.items() if k != "root"},
        "export": dict(how),
    }
    return {key: json.dumps(values[key]) for key in KEYS}


def parsed(texts: Mapping[str, str], path: str) -> dict[str, Any]:
    """The values of a file's metadata. Raises UserError where they are not those of an export of ours."""
    if not set(KEYS) & texts.keys():
        raise UserError(
            f"checkpoint={path}: not exported here, it lacks the metadata that says which classes its "
            f"outputs are. Give a file that python -m src.export has made, or the checkpoint itself."
        )
    try:
        values = {key: json.loads(texts[key]) for key in KEYS}
        problem = _problem(values)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise UserError(
            f"checkpoint={path}: its metadata is damaged, or not from an export of ours ({problem}). "
            f"Export the checkpoint again."
        )
    if values["data"] is not None:
        names = [entry["name"] for entry in values["classes"]]
        recorded = {"model": values["model"], "data": values["data"], "classes": names}
        check_schema({"hyper_parameters": recorded, "epoch": 0, "state_dict": {}}, f"checkpoint={path}")
    return values


def _problem(values: Mapping[str, Any]) -> str:
    """What is wrong; empty if nothing is. Raises where a value is of another kind altogether."""
    how, classes, provenance = values["export"], values["classes"], values["provenance"]
    if how["output"] not in OUTPUTS or how["precision"] not in PRECISIONS or type(how["min_size"]) is not int:
        return f"export={brief(how)}"
    if how["size"] is not None:
        height, width = how["size"]
        if not all(type(side) is int and 0 < side < 2**20 for side in (height, width)):
            return f"size={brief(how['size'])}"
    for number, entry in enumerate(classes):
        levels = [entry["train_id"], entry["label_id"], *entry["color"]]
        sound = isinstance(entry["name"], str) and all(type(e) is int and 0 <= e <= 255 for e in levels)
        if not sound or len(levels) != 5 or entry["train_id"] != number:
            return f"classes[{number}]={brief(entry)}"
    if not 0 < len(classes) < 256 or not isinstance(values["model"]["_target_"], str):
        return "no classes, or no network"
    seen = provenance["trained_on"]
    if seen is not None and not all(isinstance(e[key], str) for e in seen for key in ("data", "split")):
        return f"trained_on={brief(seen)}"
    odd = {
        key: value
        for key, value in provenance.items()
        if key != "trained_on" and not isinstance(value, str | int | float | None)
    }
    if odd or not all(math.isfinite(e) for e in provenance.values() if isinstance(e, float)):
        return f"provenance: {brief(odd)}"
    if not isinstance(provenance["family"], str) or not isinstance(provenance["parameters"], int | None):
        return "provenance: no family, or no parameters"
    return ""
