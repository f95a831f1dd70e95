"""`--help`: examples first, then every choice and every key with its value and what conf/ says of it."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.config import CONF_DIR, files_of, flatten, own_folder
from src.schema.check import kind_of
from src.schema.comments import comments
from src.schema.kinds import shown

_KEY_COLUMNS = 46


def help_text(task: str, overrides: Sequence[str]) -> str:
    """The help of a command, with the values that result from these overrides."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(task, [*own_folder()[1], *overrides], return_hydra_config=True)
    choices = {
        group: choice
        for group, choice in config.hydra.runtime.choices.items()
        if not group.startswith("hydra")
    }
    about: Any = OmegaConf.to_container(config.hydra.help)
    values: Any = OmegaConf.to_container(config)
    del values["hydra"]
    title = f"== python -m src.{task} =="
    return "\n".join(
        [
            title, about["header"].strip(), "",
            "Choices, each a file of conf/ (the one in brackets is in use here):",
            *(_choice(group, choice) for group, choice in reversed(choices.items())), "",
            "Keys, with the values that they have here:",
            *_keys(values, choices, task), "", about["footer"].strip(),
        ]
    )  # fmt: skip


def _choice(group: str, taken: str | None) -> str:
    return f"  {group}=" + " | ".join(f"[{name}]" if name == taken else name for name in files_of(group))


def _keys(values: Mapping[str, Any], choices: Mapping[str, str | None], task: str) -> list[str]:
    width = max(80, min(shutil.get_terminal_size().columns, 140))
    lines = []
    flat = dict(sorted(flatten(values), key=lambda item: "." in item[0]))  # the command's own keys first
    for key, value in flat.items():
        name = f"  {key}={shown(value, 60)}"
        kind = kind_of(key, flat, task)
        text = _comment(key, choices, task) or (kind.expected if kind else "")
        about = textwrap.wrap(text, width - _KEY_COLUMNS)
        beside = len(name) < _KEY_COLUMNS
        first = f"{name:<{_KEY_COLUMNS}}{about.pop(0)}" if about and beside else name
        lines += [first.rstrip(), *(" " * _KEY_COLUMNS + line for line in about)]
    return lines


def _comment(key: str, choices: Mapping[str, str | None], task: str) -> str:
    """A key's comment in the command's own config or train.yaml; else in its group, the chosen file first."""
    group, _, inner = key.partition(".")
    places = [(CONF_DIR / f"{task}.yaml", key), (CONF_DIR / "train.yaml", key)]
    if inner:
        ours = [CONF_DIR / group / f"{choices.get(group)}.yaml", *sorted((CONF_DIR / group).glob("*.yaml"))]
        places += [(path, inner) for path in ours if path.is_file()]
    return next((text for path, name in places if (text := comments(path).get(name))), "")
