"""Commands as processes, a few at a time, their output in log files; on Linux none outlives this process."""

import contextlib
import ctypes
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from hpcauxvae.runtime.stop_requests import FAILED
from hpcauxvae.types import InputError

_SHOWN = "$ "
"""Comes before each command in the output (cli.py)."""
_BAD_INPUT = 2
"""Exit code of a command that found its input bad, or the disk full (cli.run)."""
_PATIENCE_S = 60.0
"""For processes that were asked to stop: training writes a checkpoint."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Job(NamedTuple):
    """Commands that follow one another in one process."""

    name: str
    """Of the log file, and in what is said."""
    commands: list[list[str]]
    """[command of hpcauxvae, argument, ...] each, up to the first that fails; a launcher takes one only."""
    launcher: tuple[str, ...] = ()
    """What stands before `python`, as mpirun -n 4."""

    def lines(self) -> list[str]:
        """What a user would type."""
        launcher = f"{shlex.join(self.launcher)} " if self.launcher else ""
        return [f"{launcher}hpcauxvae {shlex.join(command)}" for command in self.commands]


class Failed(Exception):
    """Commands did not end with 0; the message says which and why, in a line for each."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(at_once: int) -> dict[str, str]:
    """Environment of each of so many processes that share the cores."""
    return dict.fromkeys(_THREADS, str(max(1, cores() // at_once)))


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[int]:
    """Waits until no other command, nor what a killed one left running, makes anything in a folder.

    Yields a descriptor for `run`: each process holds it as long as it lives, and with it the folder.
    """
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: waiting for another start of this command to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some cluster file systems have no flock
            pass
        yield file.fileno()


def run(jobs: Sequence[Job], at_once: int, logs: Path, lock: int) -> None:
    """Runs them, `at_once` at a time, in order; cores are shared out among these. lock: of `alone_in`.

    A job that fails does not end the others, and those that wait have their turn; but after exit code 2, bad input or a
    full disk, which the next would find too, no more are begun. Once the last has ended, raises Failed, or InputError
    where all failures had exit code 2, which names each of them. Warnings of jobs are printed. When this process is
    interrupted or asked to end, it asks all jobs to end first.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running = list(jobs), dict[subprocess.Popen[str], tuple[Job, float, int]]()
    env, failures, not_begun = os.environ | threads(at_once), list[Failed | InputError](), 0
    with _asked_to_end():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    for line in job.lines():
                        print(line, flush=True)
                    log = _log(logs, job)
                    said_before = log.stat().st_size if log.exists() else 0
                    running[_start(job, env, log, lock)] = job, time.monotonic(), said_before
                for process in [process for process in running if process.poll() is not None]:
                    job, began, said_before = running.pop(process)
                    for line in _log(logs, job).read_bytes()[said_before:].decode(errors="replace").splitlines():
                        if line.startswith("warning: "):
                            print(line, file=sys.stderr, flush=True)
                    said = f"done: {job.name}, {time.monotonic() - began:.0f} s"
                    if process.returncode:
                        failures.append(_failure(job, process.returncode, _log(logs, job)))
                        said = f"failed: {failures[-1]}"
                    if process.returncode == _BAD_INPUT:
                        not_begun, waiting = not_begun + len(waiting), []
                    print(f"{said}; {len(waiting)} to go", flush=True)
                time.sleep(0.05)
        finally:
            _end(list(running))
    if failures:
        raise _together(failures, len(jobs), not_begun)


def _log(logs: Path, job: Job) -> Path:
    return logs / f"{job.name.replace('/', '-')}.txt"


def _start(job: Job, env: dict[str, str], log: Path, lock: int) -> subprocess.Popen[str]:
    if job.launcher:
        (command,) = job.commands
        argv, said = [*job.launcher, sys.executable, "-m", "hpcauxvae", *command], ""
    else:
        argv, said = [sys.executable, "-m", "hpcauxvae", "-"], json.dumps(job.commands)
    with open(log, "a") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            pass_fds=(lock,),
            start_new_session=True,
            preexec_fn=_die_too if _prctl else None,
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(said)
    return process


_prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


def _die_too() -> None:
    """Asks Linux to send SIGTERM when the parent is gone, however it went: nothing trains on behind its back."""
    assert _prctl is not None
    _prctl(1, signal.SIGTERM)


@contextlib.contextmanager
def _asked_to_end() -> Iterator[None]:
    """SIGTERM as an exception, so that `finally` is reached."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + _PATIENCE_S
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _failure(job: Job, code: int, log: Path) -> Failed | InputError:
    """Says which command it was, how it ended, and the last line that it said."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    shown = [number for number, line in enumerate(lines) if line.startswith(_SHOWN)]
    command = lines[shown[-1]].removeprefix(_SHOWN) if shown and not job.launcher else job.lines()[0]
    said = lines[-1] if lines and (not shown or shown[-1] < len(lines) - 1) else "it said nothing"
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    message = f"{command}: {how}: {said.removeprefix('error: ')} (all of it in {log})"
    return InputError(message) if code == _BAD_INPUT else Failed(message, code if code > 0 else FAILED)


def _together(failures: list[Failed | InputError], jobs: int, not_begun: int) -> Failed | InputError:
    """All failures of a run as one, with the exit code of the first that is not one of bad input."""
    message = "\n".join(map(str, failures))
    if len(failures) > 1:
        message = f"{len(failures)} of {jobs} jobs failed:\n{message}"
    if not_begun:
        message += f"\n{not_begun} more were not begun after exit code {_BAD_INPUT}"
    codes = [failure.code for failure in failures if isinstance(failure, Failed)]
    return Failed(message, codes[0]) if codes else InputError(message)
