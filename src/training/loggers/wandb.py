"""A W&B logger whose failure does not end the training, and which never asks for a login."""

import logging
import netrc
import os
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from uuid import uuid4

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from src.errors import UserError

log = logging.getLogger(__name__)


class EnduringWandbLogger(WandbLogger):
    """Logs offline if the server cannot be reached or refuses the login; `wandb sync` uploads the run later.

    Once a run has begun, W&B's own process keeps what an unreachable server did not receive, and tries again.
    If that process itself is gone, nothing more is sent.
    """

    _gone = False

    def __init__(self, **kwargs: Any):
        # By default W&B waits 90 s at the start, and at the end for as long as the server is unreachable.
        os.environ.setdefault("WANDB_INIT_TIMEOUT", "20")
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "60")
        super().__init__(**kwargs)
        self._wandb_init.pop("anonymous", None)  # Lightning passes it on; W&B warns that it has no effect

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        import wandb  # imported here and below: only a run that uses W&B should wait a second for it

        try:
            return super().experiment
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
        log.warning(
            "W&B cannot be used (%s): the training continues, and its W&B run is kept offline. The end "
            "of the log says how to upload it.",
            reason,
        )
        wandb.teardown()  # ends the attempts that are still under way
        os.environ["WANDB_MODE"] = "offline"
        return super().experiment

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        self._attempt(super().log_metrics, *args, **kwargs)

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        self._attempt(super().log_image, *args, **kwargs)

    def finish(self, exit_code: int) -> None:
        """Ends the W&B run with its exit code: without it a crash would look like success on the dashboard.

        Logs where an offline run is kept.
        """
        import wandb

        run: Any = self._experiment
        kept = Path(run.dir).parent if getattr(run, "offline", False) else None
        self._attempt(wandb.finish, exit_code=exit_code)
        if kept is not None and kept.is_dir():
            log.info("W&B kept the run here; to upload it: wandb sync %s", shlex.quote(str(kept)))

    def _attempt(self, action: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        import wandb

        if self._gone:
            return
        try:
            action(*args, **kwargs)
        except (wandb.errors.Error, OSError) as error:
            self._gone = True
            log.warning("W&B has failed (%r): the training continues without it.", error)
            with suppress(OSError):  # without teardown, W&B would try again at exit, with a traceback
                wandb.teardown()


def wandb_logger(
    save_dir: str | Path, offline: bool | str = "auto", id: str | None = None, **arguments: Any
) -> EnduringWandbLogger:
    """A W&B logger for a run directory; a run that resumes continues its W&B run.

    Args:
        save_dir: the run directory.
        offline: True, False, or "auto": offline without a login.
        id: of the W&B run; None = that of a sweep's agent, the one kept in the run directory, or a new one.
        arguments: any other argument of Lightning's WandbLogger and of wandb.init.
    """
    offline = not _logged_in() if offline == "auto" else bool(offline)
    if offline:
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    agents = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    kept = id or agents or _kept_id(Path(save_dir))
    return EnduringWandbLogger(save_dir=save_dir, offline=offline, id=kept, resume="allow", **arguments)


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
