"""What all `python -m src.<task>` share: they check the config and print one clear message if it is wrong."""

import atexit
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from src.config import (
    CONF_DIR,
    USER_ERRORS,
    for_the_user,
    not_composed,
    quoted,
    register_resolvers,
)
from src.errors import UserError
from src.network.trust import forget, trust
from src.runs.directory import rank
from src.runs.log_handlers import Early, KeptWarnings
from src.runs.repeat import recorded_config
from src.schema.check import check_values
from src.schema.chosen_keys import check_keys
from src.schema.help import help_text
from src.sweep.child import run_job

# https://hydra.cc/docs/advanced/hydra-command-line-flags
_HELP = {"--help", "-h"}
_SHOW = (*_HELP, "--hydra-help", "--cfg", "-c", "--info", "-i", "--version")
_WITH_VALUE = {
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--package", "-p", "--cfg", "-c", "--info", "-i", "--experimental-rerun"),
}
_FLAGS = {
    *(*_SHOW, *_WITH_VALUE, "--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion", "-sc"),
}

_PATHS = ("source", "checkpoint", "data.root")

Task = Callable[[DictConfig], float | None]


def front_door(task: Task, config_name: str) -> Callable[[], int]:
    """A `main` for `task`; it returns 0 on success, 2 for an error that the user can fix, 1 if only a
    part could be done (IncompleteError), 130 on Ctrl-C."""

    def main() -> int:
        # Otherwise Hydra would print its errors in its own way and exit with 1.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        # OpenMP threads that spin while they wait take the cores from the data workers; those that sleep at
        # once are woken so late on some machines that a step takes twice as long. So they spin for a moment,
        # then sleep. This must be set before torch is imported.
        if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
            os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupted)
        register_resolvers()
        problems: list[UserError] = []
        composed: list[bool] = []

        def job(config: DictConfig) -> float | None:
            composed.append(True)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return run_job(config)
            try:
                if HydraConfig.get().runtime.choices.get("sweep"):
                    raise UserError("sweep=... varies keys over several jobs: add -m before the overrides.")
                _start_logging()
                check_values(config, config_name, needed=check_keys(config, config_name))
                _trust_what_is_named(config)
                return task(config)
            except USER_ERRORS as problem:  # if this were raised further, Hydra would add lines
                problems.append(for_the_user(problem, config_name))
                return None

        try:
            flags = _flags_first()
            _quote_paths()
            if _HELP & set(flags):
                print(help_text(config_name, sys.argv[1 + len(flags) :]))
                return 0
            primary = recorded_config(config_name) or config_name
            hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=primary)(job)()
            sys.stdout.flush()
        except USER_ERRORS as problem:
            problems.append(for_the_user(problem, config_name))
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # as in `--help | head`: the reader has closed the pipe
            if not any(argument.startswith(_SHOW) for argument in sys.argv[1:]):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as problem:
            if composed:
                raise
            problems.append(not_composed(problem, sys.argv[1:]))
        prefix = f"[rank {rank()}] " if rank() else ""
        for text in (problem.text for problem in problems):
            print(f"\n{prefix}{text}", file=sys.stderr)
            _write_to_log(text)
        code = problems[0].exit_code if problems else 0
        if problems and _is_one_of_several():
            _leave_at_once(code)
        return code

    return main


def _trust_what_is_named(config: DictConfig) -> None:
    """Lets `_target_`s of networks name what the user's own config names, and nothing else."""
    forget()
    named = config.get("trust") or []
    trust([named] if isinstance(named, str) else named)
    for model in (config.get("model"), (config.get("teacher") or {}).get("model")):
        if model:
            trust([model._target_])


def _interrupted(*_: object) -> NoReturn:
    """Handles Ctrl-C outside of a training. The first KeyboardInterrupt may be lost in a destructor, for
    example during an import; a second Ctrl-C ends the process at once, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _is_one_of_several() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _leave_at_once(code: int) -> NoReturn:
    """End the process without the interpreter's shutdown, in which a thread of the process group that still
    holds a Python object aborts the process once in a hundred times: exit code 134, without a message."""
    atexit._run_exitfuncs()  # shared memory, workers, loggers
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _flags_first() -> list[str]:
    """Puts the flags of the command before its keys, since argparse refuses keys on both sides of a flag.

    Raises UserError for an unknown flag: Hydra would take `--experiment=x` for an abbreviation of
    `--experimental-rerun`. The jobs of a sweep are separate commands; only --config-dir is passed on to
    them.
    """
    flags, keys = [], []
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if not flag.startswith("-"):
            keys.append(argument)
            continue
        if flag not in _FLAGS:
            key = flag.lstrip("-")
            raise UserError(f"{flag}: no such flag. Keys have no dashes before them: {key}={value or '...'}")
        flags.append(argument)
        if flag in _WITH_VALUE and not equals:
            flags += [value for value in [next(arguments, None)] if value is not None]
    folders = [a for a in flags if a.partition("=")[0] in ("--config-dir", "-cd")]
    if len(folders) > 1:
        raise UserError("--config-dir is given twice, and one folder can be used: copy the files into one.")
    other = [a for a in flags if a.startswith(("--config-name", "--config-path", "-cn", "-cp"))]
    if {"-m", "--multirun"} & set(flags) and other:
        raise UserError(f"{other[0]}: not allowed in a sweep. Use an experiment file in --config-dir=...")
    sys.argv[1:] = [*flags, *keys]
    return flags


def _quote_paths() -> None:
    """Lets paths be typed as they are: `source=/photos/a, b [1].jpg`, quoted for the shell alone.

    Hydra's grammar would take commas, brackets, numbers, ... for its own. Interpolations stay. So do null,
    lists, quoted values and the choices of a sweep (`-m checkpoint=a.ckpt,b.ckpt`), unless there is such a
    file.
    """
    sweep = {"-m", "--multirun"} & set(sys.argv)
    for number, argument in enumerate(sys.argv):
        key, _, value = argument.partition("=")
        if key not in _PATHS or not value or "${" in value:
            continue
        is_hydras = value == "null" or value[0] in "'\"[" or sweep
        if is_hydras and not _is_there(value):
            continue
        try:
            as_typed = OverridesParser.create().parse_override(argument).value() == value
        except HydraException:
            as_typed = False
        if not as_typed:
            sys.argv[number] = f"{key}={quoted(value)}"


def _is_there(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError):  # a list of many files is longer than a path; ~nobody
        return False


def _start_logging() -> None:
    """Prints this project's messages on rank 0; of other ranks and of libraries only warnings and errors."""
    from rich import get_console
    from rich.logging import RichHandler

    if sys.stdout.isatty():  # above the progress bar, not through it
        handler: logging.Handler = RichHandler(
            console=get_console(), show_time=False, show_level=False, show_path=False
        )
    else:
        handler = logging.StreamHandler(sys.stdout)
    early = Early()
    for place in (handler, early):
        place.addFilter(_worth_saying)
    handlers = [handler, KeptWarnings(), early]
    logging.basicConfig(format="%(message)s", level=logging.INFO, handlers=handlers, force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback
    for message in (
        ".*does not have many workers.*",  # Lightning's advice; conf/data decides, and says why
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6.6 uses a name that torch 2.13 deprecates
        ".*It is recommended to use .*sync_dist=True.*",  # logged validation values are already summed
        ".*in eval mode at the start of training.*",  # BatchNorm layers that optimizer.groups freezes
        ".*smaller than the logging interval.*",  # the epoch's mean is logged in any case
        ".*is not supported by the model summary.*",  # of a size in MB, which our summary does not show
        ".*AccumulateGrad node's stream does not match.*",  # Lightning makes DDP on a stream of its own
        # torch 2.13's new name for it does not exist in 2.8, the oldest allowed.
        ".*`broadcast_buffers` is deprecated.*",
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # TrainSampler resumes within it
        ".*Checkpoint directory .* exists and is not empty.*",  # normal on resume
    ):
        warnings.filterwarnings("ignore", message=message)


def _write_to_log(text: str) -> None:
    """Write an error into the run's log, so that it can be read after an unattended run."""
    record = logging.LogRecord("src", logging.ERROR, __file__, 0, text, None, None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _worth_saying(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or (record.name.startswith("src.") and rank() == 0)
