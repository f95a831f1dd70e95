"""A W&B logger that a training does not depend on."""

import logging
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

log = logging.getLogger(__name__)


class EnduringWandbLogger(WandbLogger):
    """Continues offline where the server cannot be reached or refuses the login; `wandb sync` sends it later.

    Once a run has begun, W&B's own process keeps what a server that went away did not take, and tries again.
    Where that process itself is gone, nothing more is sent.
    """

    _gone = False

    def __init__(self, **kwargs: Any):
        # W&B's defaults wait 90 s at the start, and at the end for as long as the server is away.
        os.environ.setdefault("WANDB_INIT_TIMEOUT", "20")
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "60")
        super().__init__(**kwargs)
        self._wandb_init.pop("anonymous", None)  # Lightning passes it on; W&B warns that it has no effect

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        import wandb  # here and below: it takes a second, which only a run that uses it should wait for

        try:
            return super().experiment
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
        log.warning(
            "W&B cannot be used (%s): the training continues, and its W&B run is kept offline. The log "
            "says at its end how to upload it.",
            reason,
        )
        wandb.teardown()  # of what is still trying
        os.environ["WANDB_MODE"] = "offline"
        return super().experiment

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        self._attempt(super().log_metrics, *args, **kwargs)

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        self._attempt(super().log_image, *args, **kwargs)

    def finish(self, exit_code: int) -> None:
        """Without it a crash looks like success on the dashboard. Says where an offline run lies."""
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
            with suppress(OSError):  # else W&B would try at exit, and end with a traceback
                wandb.teardown()
