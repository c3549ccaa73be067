"""Tells the user by a command of his own (`--notify`) how a training ended. Imports nothing heavy."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from hpcauxvae.runtime.launchers import is_of_a_launcher
from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO, StopListener

SECONDS = 10.0
"""The command's time: what stops a training leaves it some thirty seconds, and the checkpoint comes first."""
_EVENTS = {FINISHED: "finished", MORE_TO_DO: "stopped"}
_LONGEST = 500  # characters of a message


def one_line(text: str) -> str:
    """Without control characters, and not for ever."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:_LONGEST]


def in_a_line(error: BaseException) -> str:
    """Why a training failed."""
    return one_line(memory_fault(error) or str(error)) or type(error).__name__


class Notice:
    """Runs the command once, on one rank, as its `with` ends: by `ended`, or by an exception, which is then raised.

    The command finds HPCAUXVAE_RUN (the folder, absolute), HPCAUXVAE_EVENT (finished, failed or stopped) and
    HPCAUXVAE_MESSAGE (a line) in its environment, and nothing of the launcher that started the ranks. What it does
    never fails the training.
    """

    def __init__(self, command: str | None = None, run: Path = Path(), *, speaks: bool = True) -> None:
        """command: for the shell; None: nothing is told. speaks: whether this is the rank that tells."""
        self.command, self.run = command if speaks else None, Path(os.path.abspath(run)) if command else run
        self.message = ""
        """How the training ended, in a line."""
        self._once = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.failed(in_a_line(error))

    def ended(self, code: int) -> int:
        """Told the exit code of the training, which it returns."""
        self._tell(_EVENTS.get(code, "failed"))
        return code

    def failed(self, why: str) -> None:
        """Told that the training ends now, in whatever thread."""
        self.message = one_line(why)
        self._tell("failed")

    def _tell(self, event: str) -> None:
        if self.command is None or not self._once.acquire(blocking=False):
            return
        told = {"RUN": str(self.run), "EVENT": event, "MESSAGE": self.message}
        env = {name: value for name, value in os.environ.items() if not is_of_a_launcher(name)}
        env |= {f"HPCAUXVAE_{name}": value for name, value in told.items()}
        with StopListener(patient=True):  # a further signal shall not change the exit code
            try:
                if fault := _done(self.command, env):
                    print(f"warning: notify = {self.command}: {fault}", file=sys.stderr, flush=True)
            except (OSError, ValueError) as error:
                print(f"warning: notify = {self.command}: {error}", file=sys.stderr, flush=True)


def _done(command: str, env: dict[str, str]) -> str | None:
    """Runs it; what was wrong, in words."""
    child = subprocess.Popen(command, shell=True, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = child.wait(SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"has not ended within {SECONDS:g} s, and is killed"
    return f"ended with exit code {code}" if code else None
