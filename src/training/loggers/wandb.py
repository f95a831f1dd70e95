"""A W&B logger whose failure does not end the training, and which never asks for a login."""

import logging
import netrc
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlparse
from uuid import uuid4

import yaml
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from src.errors import UserError
from src.masking import hide_secrets
from src.training.loggers.enduring import Enduring
from src.training.loggers.wandb_file import last_step
from src.weights.shipped import weights_path

log = logging.getLogger(__name__)

_BY_EPOCH = "val_IoU/"  # curves over epochs: of each class, as the tables in papers


class EnduringWandbLogger(Enduring, WandbLogger):
    """Logs offline if the server cannot be reached or refuses the login; `wandb sync` uploads the run later.

    Once a run has begun, W&B's own process keeps what an unreachable server did not receive, and tries again.
    If that process itself is gone, nothing more is sent.
    """

    service = "W&B"
    _logged = -1

    def __init__(self, *, log_model: bool = False, **kwargs: Any):
        # By default W&B waits 90 s at the start, and at the end for as long as the server is unreachable.
        os.environ.setdefault("WANDB_INIT_TIMEOUT", "20")
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "60")
        os.environ.setdefault("WANDB_FINISH_TIMEOUT_RAISES", "true")  # else nobody would learn of it
        super().__init__(**kwargs)
        self._wandb_init.pop("anonymous", None)  # Lightning passes it on; W&B warns that it has no effect
        self.log_best_model = log_model
        self._defined: set[str] = set()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        import wandb  # imported here and below: only a run that uses W&B should wait a second for it

        if self._experiment is not None:
            return self._experiment
        # W&B keeps the command line: passwords and keys in it would be uploaded.
        with mock.patch.object(sys, "argv", [hide_secrets(argument) for argument in sys.argv]):
            try:
                run = super().experiment
            except wandb.errors.Error as error:
                log.warning(
                    "W&B cannot be used (%s): the training continues, and its W&B run is kept offline. The "
                    "end of the log says how to upload it.",
                    " ".join(str(error).split()),
                )
                wandb.teardown()  # ends the attempts that are still under way
                os.environ["WANDB_MODE"] = "offline"
                self.log_best_model = False  # nothing that could be sent later
                run = super().experiment
        if "WANDB_SWEEP_ID" not in os.environ:  # a sweep of W&B cannot search by a metric with two summaries
            # A table of runs then has both the best and the last mIoU; without this, the last alone.
            steps = {"step_metric": "trainer/global_step", "step_sync": True}
            run.define_metric("val/mIoU", summary="max,last", **steps)
        run.define_metric("epoch", hidden=True)
        return run

    @rank_zero_only
    def resume_from(self, step: int) -> None:
        """Leaves out what W&B has already: steps after the checkpoint of a run that was killed, which are
        trained again with the same values, or all of them if there was none yet. What else belongs to the
        last of them may be missing, and is logged.
        """
        self._logged = last_step(Path(str(self.save_dir)), str(self.version))

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if step is not None and step < self._logged:
            return
        for key in metrics:
            if key.startswith(_BY_EPOCH) and key not in self._defined:
                # One by one: of two patterns that fit a key, W&B takes any, and Lightning has defined `*`.
                self.attempt(self.experiment.define_metric, key, step_metric="epoch", step_sync=True)
                self._defined.add(key)
        self.attempt(super().log_metrics, metrics, step)

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        self.attempt(super().log_image, *args, **kwargs)

    def finish(self, exit_code: int) -> None:
        """Ends the W&B run with its exit code: without it a crash would look like success on the dashboard.

        Logs how to upload what W&B has kept in files: each start of a run that was resumed has left one.
        """
        import wandb

        run: Any = self._experiment
        offline = getattr(run, "offline", False)
        self.attempt(wandb.finish, exit_code=exit_code)
        if run is None or not (offline or self.gone):
            return
        folder = Path(run.dir).parent.parent
        kept = sorted(folder.glob(f"*run-*-{run.id}"))
        online = any(not path.name.startswith("offline-") for path in kept)
        if kept:
            log.info(
                "W&B kept the run here; to upload it: wandb sync %s%s",
                "--include-online " if online else "",
                " ".join(shlex.quote(str(path)) for path in kept),
            )

    def give_up(self) -> None:
        import wandb

        with suppress(Exception):  # without teardown, W&B would try again at exit, with a traceback
            wandb.teardown()


def wandb_logger(
    save_dir: str | Path,
    name: str | None = None,
    offline: bool | str = "auto",
    id: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    checkpoint: str | None = None,
    tags: Sequence[str] = (),
    notes: str | None = None,
    log_model: bool = False,
    **arguments: Any,
) -> EnduringWandbLogger:
    """A W&B logger for a run directory; a run that resumes continues its W&B run.

    Args:
        save_dir: the run directory.
        name: of the W&B run. The environment variable WANDB_NAME, which a sweep sets for its jobs, precedes.
        offline: True, False, or "auto": offline without a login.
        id: of the W&B run; None = that of the agent of a W&B sweep, the one kept in the run directory, or a
            new one.
        group: None = the sweep of a job; of an evaluation, the group of the training that wrote the
            checkpoint; else the name of the run.
        job_type: train or eval.
        checkpoint: that an evaluation evaluates.
        tags, notes: of the W&B run; the name of the experiment is a tag in any case.
        log_model: whether best.ckpt is sent at the end, as an artifact with the aliases `latest`, `best` and
            `miou-` with the mIoU in percent.
        arguments: any other argument of Lightning's WandbLogger and of wandb.init.

    Raises UserError for log_model=True offline: an artifact is nothing that `wandb sync` could send later.
    """
    if offline == "auto":
        mode = os.environ.get("WANDB_MODE")
        offline = mode == "offline" or (mode != "disabled" and not _logged_in())
    if log_model and offline:
        raise UserError(
            "logger.wandb.log_model=true: an offline run cannot send a model. Log in (wandb login) or set "
            "logger.wandb.log_model=false; the checkpoint is in the run directory in any case."
        )
    if offline:
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    agents = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    return EnduringWandbLogger(
        save_dir=save_dir,
        name=os.environ.get("WANDB_NAME") or name,
        offline=bool(offline),
        id=id or agents or _kept_id(Path(save_dir)),
        group=group
        or os.environ.get("WANDB_RUN_GROUP")
        or _group(name, checkpoint if job_type == "eval" else None),
        job_type=job_type,
        tags=[*_experiment(), *tags],
        notes=notes and hide_secrets(notes),
        log_model=log_model,
        resume="allow",
        **arguments,
    )


def _group(name: str | None, checkpoint: str | None) -> str | None:
    """The first part of the name: that of the sweep, of a job `sweep/3`. An evaluation takes the name of the
    run whose checkpoint it evaluates; None where no run directory is around the checkpoint."""
    if checkpoint is None:
        return name and name.partition("/")[0]
    try:
        config = yaml.safe_load((weights_path(checkpoint).parent.parent / "config.yaml").read_text())
        wandb = (config.get("logger") or {}).get("wandb") or {}
        return wandb.get("group") or str(config["name"]).partition("/")[0]
    except (OSError, ValueError, LookupError, AttributeError, yaml.YAMLError):
        return None


def _experiment() -> list[str]:
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return [choices["experiment"]] if choices.get("experiment") else []


def _kept_id(run_dir: Path) -> str:
    """The id of the W&B run, kept in the run directory once that exists (see Run.open)."""
    kept = run_dir / "wandb_id.txt"
    if not kept.exists():
        return uuid4().hex[:8]
    found = kept.read_bytes().decode(errors="replace").strip()
    if not re.fullmatch(r"[\w-]{1,64}", found):
        raise UserError(
            f"{kept}: damaged, not the id of a W&B run. Write the id into it (the end of the address of the "
            f"run's page), or delete the file: then W&B begins a new run."
        )
    return found


def _logged_in() -> bool:
    """Whether W&B would find an API key where it documents to look: WANDB_API_KEY and the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
