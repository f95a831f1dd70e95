"""What record.json keeps of each start of a run: its command, its packages, its machine and its code."""

import json
import os
import platform
import re
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from src.config import RECORDED, overrides
from src.masking import SECRET_NAME, hide_secrets
from src.runs.machine import hardware, installed_packages
from src.runs.revision import code_state
from src.schema.roles import MAY_CHANGE

# Environment variables that may change a result or explain one; any other may be a secret.
_VARIABLES = re.compile(
    r"(OMP|MKL|KMP|NCCL|GLOO|CUDA|CUDNN|CUBLAS|NVIDIA|PYTORCH|TORCH|TORCHINDUCTOR)_\w+"
    r"|SLURM_(JOB_ID|JOB_NAME|ARRAY_JOB_ID|ARRAY_TASK_ID|NNODES|NTASKS|JOB_NODELIST|RESTART_COUNT)"
    r"|WORLD_SIZE|LOCAL_WORLD_SIZE|PYTHONHASHSEED|LD_PRELOAD|WANDB_MODE"
)
ORIGIN = ("recipe", "seed", "revision")
"""What each checkpoint records of the start that wrote it."""
_NAMED = 8  # differences between two starts that one message lists


def this_start(config: Mapping[str, Any], world_size: int) -> tuple[dict[str, Any], bytes]:
    """The record of a start, and the patch that belongs to it (see `code_state`)."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    code, patch = code_state()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command(config["task"]),
        "overrides": [hide_secrets(override) for override in overrides()] if hydra else [],
        "choices": _choices(config, hydra.runtime.choices) if hydra else {},
        "repeats": _repeated(),
        "seed": config.get("seed"),
        "world_size": world_size,
        "host": socket.gethostname(),
        "hardware": hardware(),
        "code": code,
        "python": platform.python_version(),
        "packages": installed_packages(),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if _VARIABLES.fullmatch(name) and not SECRET_NAME.fullmatch(name)
        },
    }, patch


def origin(start: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ORIGIN: the experiment with the overrides that decide what is computed, as one types
    them, the seed, and the code's git revision, with a + if the code differed from it."""
    code = start["code"]
    given = [f"experiment={start['choices']['experiment']}"] if start["choices"].get("experiment") else []
    given += [o for o in start["overrides"] if decides(o) and o not in given]
    revision = code["revision"] and code["revision"] + ("+" if code["dirty"] else "")
    return {"recipe": " ".join(given), "seed": start["seed"], "revision": revision}


def decides(override: str) -> bool:
    """Whether an override may change the weights, and is not the place of a file."""
    key = override.lstrip("+~").partition("=")[0]
    return not f"{key}.".startswith((*MAY_CHANGE, "hydra.")) and not key.endswith(("checkpoint", ".root"))


def _choices(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> dict[str, str | None]:
    """The file of each group; for data the one in use, which an evaluation takes from the checkpoint. A
    prediction has none."""
    original = {
        group: choice and choice.removeprefix(RECORDED)
        for group, choice in choices.items()
        if group.partition("/")[0] != "hydra"
    }
    return original | ({"data": config["data"]["name"]} if "data" in config else {})


def _repeated() -> str | None:
    """The run directory that was given as `--config-dir`; None if none was."""
    if not HydraConfig.initialized():
        return None
    runtime = HydraConfig.get().runtime
    if not any(str(choice).startswith(RECORDED) for choice in runtime.choices.values()):
        return None
    return next((s.path for s in runtime.config_sources if s.provider == "command-line"), None)


def read_starts(directory: Path) -> list[dict[str, Any]]:
    """The recorded starts of a run; empty if there is no record, or if it is damaged."""
    try:
        starts = json.loads((directory / "record.json").read_text())["starts"]
        return starts if isinstance(starts, list) else []
    except (OSError, ValueError, LookupError, TypeError):
        return []


def packages_of(starts: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """The packages of the last start; an entry has them only if they differ from the start before."""
    return next((start["packages"] for start in reversed(starts) if "packages" in start), None)


def command(task: str) -> str:
    """The running command as it can be typed again, with secrets hidden."""
    return shlex.join(["python", "-m", f"src.{task}", *(hide_secrets(argument) for argument in sys.argv[1:])])


def differences(before: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
    """The differences between a start and the last one before it that may change results; else empty.

    Also empty if there is no earlier start, or if its record has been edited so that parts are missing.
    """
    if not before:
        return ""
    try:
        old, new = _facts({**before[-1], "packages": packages_of(before) or {}}), _facts(now)
    except (LookupError, TypeError, AttributeError):
        return ""
    changed = [key for key in old | new if old.get(key) != new.get(key)]
    more = f", and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return ", ".join(f"{key} ({old.get(key)} before, {new.get(key)} now)" for key in changed[:_NAMED]) + more


def _facts(start: Mapping[str, Any]) -> dict[str, Any]:
    code, machine = start["code"], start["hardware"]
    return {
        "code": code["revision"] and code["revision"][:12] + (f" + {code['patch']}" if code["patch"] else ""),
        "devices": start["world_size"],
        "GPUs": ", ".join(gpu["name"] for gpu in machine["gpus"]) or None,
        **{key: machine[key] for key in ("cpu", "threads", "nvidia_driver", "cuda", "cudnn")},
        "python": start["python"],
    } | start["packages"]
