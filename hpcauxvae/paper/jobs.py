"""Commands as processes, a few at a time, their output in log files; on Linux none outlives this process."""

import contextlib
import fcntl
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcauxvae.runtime.children import GRACE_SECONDS, Child, Minder, end_all, environment, new_mark, threads_each
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.runtime.stop_requests import FAILED, StopListener
from hpcauxvae.types import InputError

_BAD_INPUT = 2
"""Exit code of a command that found its input bad, or the disk full (cli.run)."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Job(NamedTuple):
    """Commands that follow one another in one process."""

    name: str
    """Of the log file, and in what is said."""
    commands: list[list[str]]
    """[command of hpcauxvae, argument, ...] each, up to the first that fails; a launcher takes a single command."""
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


def threads(at_once: int) -> dict[str, str]:
    """Environment of each of so many processes that share the cores."""
    return dict.fromkeys(_THREADS, str(threads_each(at_once)))


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[int]:
    """Waits until no other command, nor what a killed command left running, makes anything in a folder.

    Yields a descriptor for `run`: each process holds it as long as it lives, and with it the folder. On a file system
    without flock another command is refused instead of waiting.
    """
    with open(folder / ".lock", "w") as file, contextlib.ExitStack() as stack:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: waiting for another start of this command to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some cluster file systems have no flock
            lock = RunLock(folder / ".alone")
            lock.acquire()
            stack.callback(lock.release)
        yield file.fileno()


def run(jobs: Sequence[Job], at_once: int, logs: Path, lock: int) -> None:
    """Runs them, `at_once` at a time, in order; cores are shared out among these. lock: of `alone_in`.

    A job that fails does not end the others, and those that wait have their turn; but after exit code 2, bad input or a
    full disk, which the next would find too, no more are begun. Once the last has ended, raises Failed, or InputError
    where all failures had exit code 2, which names each of them. Warnings of jobs are printed. When this process is
    asked to end, it asks all jobs to end first, and then raises what Python raises for Ctrl-C, or SystemExit.
    """
    waiting, running, mark = list(jobs), list[tuple[Job, Child, float]](), new_mark()
    failures, not_begun = list[Failed | InputError](), 0
    with StopListener() as listener, Minder(mark, GRACE_SECONDS):
        try:
            while (waiting or running) and not listener.reason:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running.append((job, _start(job, mark, at_once, logs, lock), time.monotonic()))
                for job, child, began in [each for each in running if each[1].code is not None]:
                    running.remove((job, child, began))
                    child.end()
                    warnings = [line for line in child.said() if line.startswith("warning: ")]
                    print("".join(f"{line}\n" for line in warnings), end="", file=sys.stderr, flush=True)
                    said = f"done: {job.name}, {time.monotonic() - began:.0f} s"
                    if child.code:
                        failures.append(_failure(job, child))
                        said = f"failed: {failures[-1]}"
                    if child.code == _BAD_INPUT:
                        not_begun, waiting = not_begun + len(waiting), []
                    print(f"{said}; {len(waiting)} to go", flush=True)
                time.sleep(0.05)
        finally:
            end_all([child for _, child, _ in running])
    if listener.reason == "SIGINT":
        raise KeyboardInterrupt
    if listener.reason:
        raise SystemExit(128 + signal.Signals[listener.reason])
    if failures:
        raise _together(failures, len(jobs), not_begun)


def _start(job: Job, mark: str, at_once: int, logs: Path, lock: int) -> Child:
    for line in job.lines():
        print(line, flush=True)
    python = [sys.executable, "-m", "hpcauxvae"]
    command, shown, given = [*python, "-"], "", json.dumps(job.commands)  # which shows each command as it begins
    if job.launcher:
        command, shown, given = [*job.launcher, *python, *job.commands[0]], job.lines()[0], ""
    log = logs / f"{job.name.replace('/', '-')}.txt"
    env = environment(f"{mark}{job.name}/", launched=bool(job.launcher)) | threads(at_once)
    return Child(command, log, env, shown=shown, given=given, keep=lock)


def _failure(job: Job, child: Child) -> Failed | InputError:
    message = f"{child.shown() or job.lines()[0]}: {child.why()} (all of it in {child.log})"
    assert child.code is not None
    return InputError(message) if child.code == _BAD_INPUT else Failed(message, max(child.code, FAILED))


def _together(failures: list[Failed | InputError], jobs: int, not_begun: int) -> Failed | InputError:
    """Joins all failures of a run, with the exit code of the first that is not bad input."""
    message = "\n".join(map(str, failures))
    if len(failures) > 1:
        message = f"{len(failures)} of {jobs} jobs failed:\n{message}"
    if not_begun:
        message += f"\n{not_begun} more were not begun after exit code {_BAD_INPUT}"
    codes = [failure.code for failure in failures if isinstance(failure, Failed)]
    return Failed(message, codes[0]) if codes else InputError(message)
