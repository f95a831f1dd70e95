"""Signals that end a sweep: they end its running jobs first, which save what they have."""

import signal
import subprocess

from src.runs.machine import let_go_of_closed_terminal

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


class Signals:
    """In its `with` block, signals end the jobs instead of this process. For the main thread only.

    told: the signals that have come; no further job may start after the first. A job that was interrupted
    on its own counts as one.
    """

    def __init__(self) -> None:
        self.told: list[int] = []
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Signals":
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, *_PASSED_ON)
            if signal.getsignal(number) != signal.SIG_IGN  # nohup sets this for SIGHUP
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_on_to(self, process: "subprocess.Popen[str]") -> None:
        """All signals but SIGINT, also those that came before: Ctrl-C reaches a job anyway, and twice would
        end it uncleanly."""
        self._processes.append(process)
        for number in self.told:
            if number in _PASSED_ON:
                process.send_signal(number)

    def end_if_told(self) -> None:
        """Raises SystemExit with a shell's exit code, or KeyboardInterrupt."""
        for number in _PASSED_ON:
            if number in self.told:
                raise SystemExit(128 + number)
        if self.told:
            raise KeyboardInterrupt

    def _handle(self, number: int, _: object) -> None:
        self.told.append(number)
        let_go_of_closed_terminal()
        if number in _PASSED_ON:
            for process in self._processes:
                process.send_signal(number)  # does nothing for one that has ended
