"""What a program of torch.export may hold before PyTorch loads it.

torch.export.load is not for files from others (seen with 2.13): it unpickles what a weight, a constant or an
example input asks for, loads compiled libraries, calls any function of torch that a node names, and gives
sizes and guards, which are texts, to Python's eval and exec. An export of ours needs none of that: raw
weights, ATen operators, and arithmetic on sizes. Whatever else is in a file, it is refused, and torch never
sees it. That does not cover errors in ATen's operators themselves, such as reading outside of a tensor.
"""

import json
import re
import zipfile
from io import BytesIO
from typing import Any

from src.weights.checkpoint_files import check_archive

_ENTRIES = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json|extra/\w+|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)|\.format_version"
)
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem|and_|or_)"
    r"|torch\.sym_(max|min|not|int|float|ite)|math\.(ceil|floor|trunc)"
)
_NAME = re.compile(r"[\w.+]*", re.ASCII)
# Arithmetic on sizes, in the functions of SymPy and torch.utils._sympy, and in Python.
_EXPRESSION = re.compile(
    r"(Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Integer|Symbol|Rational"
    r"|FloorToInt|CeilToInt|TruncToInt|IntTrueDiv|ToFloat|Eq|Ne|Equality|Unequality|StrictLessThan|LessThan"
    r"|StrictGreaterThan|GreaterThan|And|Or|Not|Where|positive=True|integer=True|nonnegative=True"
    r"|'[su]\d+'|\d|[-,() ])*"
)
_GUARD = re.compile(r"(L\['image'\]\.size\(\)\[[0-3]\]|\d|and|or|not|max|min|[-+*/%<>=!(), ])*")
_TEXT = re.compile(r"[\w,.> -]*", re.ASCII)  # an operator's argument, such as that of einsum
_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
_RULES = {"target": _OPERATORS, "expr_str": _EXPRESSION, "guards_code": _GUARD, "as_string": _TEXT}
_LONGEST = 10**5  # letters of one text


def check_program(content: bytes) -> dict[str, str]:
    """The texts that the file has beside its program. Raises ValueError for what no export of ours has."""
    check_archive(content, ValueError)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        files = {name.partition("/")[2]: name for name in archive.namelist()}
        if odd := [name for name in files if not _ENTRIES.fullmatch(name)]:
            raise ValueError(f"it holds {odd[0]!r}")
        if archive.read(files["data/sample_inputs/model.pt"]):
            raise ValueError("it holds a pickle")
        for kind in ("weights", "constants"):
            config = json.loads(archive.read(files[f"data/{kind}/model_{kind}_config.json"]))
            for name, entry in config["config"].items():
                if entry["use_pickle"] is not False:
                    raise ValueError(f"{name} is a pickle")
                _check(entry, name)
        _check(json.loads(archive.read(files["models/model.json"])), "")
        extra = {name.removeprefix("extra/"): files[name] for name in files if name.startswith("extra/")}
        return {key: archive.read(name).decode() for key, name in extra.items()}


def _check(node: Any, key: str) -> None:
    """Of every text in the program. Raises ValueError."""
    if isinstance(node, dict):
        for name, value in node.items():
            if not _NAME.fullmatch(name) or (name == "metadata" and value):
                raise ValueError(f"{name!r} in {key!r}")
            _check(value, name)
    elif isinstance(node, list):
        for value in node:
            _check(value, key)
    elif isinstance(node, str):
        if key in ("in_spec", "out_spec"):
            _check_spec(json.loads(node)[1])
            return
        rule = _RULES.get(key, _NAME)
        if len(node) > _LONGEST or not rule.fullmatch(node):
            raise ValueError(f"{key}: {node[:80]!r}")


def _check_spec(spec: Any) -> None:
    if spec["type"] not in _TYPES or spec["context"] not in (None, "null", "[]"):
        raise ValueError(f"a {spec['type']!r} of {spec['context']!r}")
    for inner in spec["children_spec"]:
        _check_spec(inner)
