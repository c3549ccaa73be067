"""Hears the signals by which a user, a launcher or a batch system asks a process to end, and names the exit codes.

Imports the standard library alone; the ranks of a run agree on what they heard in agreed_requests.py.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

FINISHED = 0
FAILED = 1
MORE_TO_DO = 75
"""Stopped on request, and the same command goes on (EX_TEMPFAIL of sysexits.h: try again later)."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_SAME_PRESS_S = 3.0


class StopListener:
    """Listens, inside its `with`, for SIGTERM, SIGUSR1 and Ctrl-C.

    Ctrl-C pressed again later is a KeyboardInterrupt; within three seconds it counts as the same, because torchrun
    passes on to its workers the press that the terminal has sent them already. A listener that is `patient` takes every
    press as the same request.
    """

    def __init__(self, when_asked: Callable[[], None] | None = None, *, patient: bool = False) -> None:
        """when_asked: called once, inside the handler of the first signal; patient: Ctrl-C never is an exception."""
        self.reason = ""
        """Why this process was asked to stop, such as SIGTERM; empty if it was not."""
        self._when_asked, self._patient = when_asked, patient
        self._interrupted_at: float | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python lets no other set handlers
            self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and not self._patient:
            if self._interrupted_at is not None and now - self._interrupted_at > _SAME_PRESS_S:
                raise KeyboardInterrupt
            self._interrupted_at = now
        first, self.reason = not self.reason, self.reason or signal.Signals(number).name
        if first and self._when_asked is not None:
            self._when_asked()
