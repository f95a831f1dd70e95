"""A W&B logger whose failure does not end the training."""

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
