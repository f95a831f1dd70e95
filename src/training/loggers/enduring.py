"""Loggers whose server may fail in the middle of a training, which goes on."""

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Enduring:
    """Mixed into a Lightning logger."""

    service: str
    """As a message names it."""
    gone = False

    def attempt(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Does it; if the service fails, a warning is logged, and nothing more is sent."""
        if self.gone:
            return
        try:
            action(*args, **kwargs)
        except Exception as error:  # any: these are other people's servers and clients
            self.gone = True
            log.warning("%s has failed (%r): the training continues without it.", self.service, error)
            self.give_up()

    def give_up(self) -> None:
        """Ends what the client would still try."""
