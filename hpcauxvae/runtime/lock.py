"""Keeps a second run out of a folder."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hpcauxvae.runtime.files import file_fault, sync
from hpcauxvae.runtime.launchers import find_job
from hpcauxvae.types import InputError

_NAMED = {"host", "pid", "started", "job"}
"""What a lock says at least; one that says less was not written whole."""
_OWNER = "owner"
"""The file in a claim, which is a folder: only a folder with something in it cannot be renamed over."""


class RunLock:
    """The file `lock` of a folder names host, process and job of the run inside.

    The same job requeued on another host takes over, so does its successor (PREDECESSOR names the job it goes on for),
    and so does anyone on the same host once that process is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        job = find_job()
        self.owner: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_time(os.getpid()),
            "job": job.number,
            "restart": job.restarts,
        }

    def acquire(self) -> None:
        """Raises InputError if another run holds the folder, or if it cannot be made or written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            why = file_fault(error) or error
            raise InputError(f"{self.path.parent}: cannot be the folder of a run ({why})") from error

    def _take(self) -> None:
        """Writes the lock under a claim on the place of whoever held it: no other process can have the same claim."""
        claim = self.path.with_name(f".lock.{self.owner['host']}.{self.owner['pid']}")
        passed = []
        try:
            claim.mkdir(exist_ok=True)
            (claim / _OWNER).write_text(json.dumps(self.owner))
            sync(claim / _OWNER)
            at = self.path
            while True:
                holder = _owner(at)
                self._refuse(at, holder)
                passed.append((at, holder))
                place = self.path.with_name(f".lock.after.{_digest(holder)}")
                if _moved(claim, place):
                    claim = place
                    break
                at = place / _OWNER  # of a process that is gone, it is claimed in turn
            if any(_owner(path) != holder for path, holder in passed):
                raise InputError(f"{self.path.parent}: another run took the folder just now; choose another")
            (claim / _OWNER).rename(self.path)
        except BaseException:
            shutil.rmtree(claim, ignore_errors=True)
            raise
        with contextlib.suppress(OSError):  # a process that came too late may be in it
            claim.rmdir()
        for old, _ in passed[1:]:
            shutil.rmtree(old.parent, ignore_errors=True)

    def _refuse(self, path: Path, holder: dict[str, Any]) -> None:
        if not holder and path != self.path:
            raise InputError(
                f"{self.path.parent}: another run takes the folder just now; choose another, or remove {path.parent} "
                "if none is there"
            )
        if not self._is_gone(holder):
            job = f" (job {holder['job']})" if holder.get("job") else ""
            raise InputError(
                f"{self.path.parent}: in use by process {holder.get('pid')} on {holder.get('host')}{job}; choose "
                f"another folder, or remove {path} if it is dead"
            )

    def release(self) -> None:
        """Frees the folder, if this process holds it; a folder without anything else goes too."""
        with contextlib.suppress(OSError):  # it may be gone, and why it is, is said elsewhere
            if _owner(self.path) == self.owner:
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()

    def _is_gone(self, holder: dict[str, Any]) -> bool:
        if not holder:
            return True
        if holder["host"] != self.owner["host"]:
            if holder["job"] is None or holder["job"] != self.owner["job"]:
                # A job names itself to its successor when its own processes have ended (jobs/lib.sh).
                return holder["job"] is not None and holder["job"] == os.environ.get("PREDECESSOR")
            # Where restarts are counted, a job that runs on two hosts at once was not requeued.
            return self.owner["restart"] is None or self.owner["restart"] > (holder.get("restart") or 0)
        return _start_time(holder["pid"]) != holder["started"]


@contextlib.contextmanager
def freed_by_signals(locks: Sequence[RunLock]) -> Iterator[None]:
    """A signal, such as a batch system sends at the time limit, frees the locks and then ends the process as always."""

    def end(number: int, frame: Any) -> None:
        for lock in locks:
            lock.release()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if not locks or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def held_elsewhere(folder: Path) -> bool:
    """Whether the lock of a folder names a process of another host, of which nobody here can say whether it lives."""
    lock = RunLock(folder)
    return _owner(lock.path).get("host", lock.owner["host"]) != lock.owner["host"]


def inside(folder: Path, taken_over: bool = True) -> str | None:
    """The process that holds a folder, in words; None where nobody does, or where it is of this host and gone.

    taken_over: nor where this job might take the folder over from it.
    """
    lock = RunLock(folder)
    holder = _owner(lock.path)
    if not taken_over and holder and holder["host"] != lock.owner["host"]:
        return f"process {holder['pid']} on {holder['host']}"
    return None if lock._is_gone(holder) else f"process {holder['pid']} on {holder['host']}"


def _start_time(pid: int) -> int | None:
    """When a process of this machine started, in clock ticks since the machine did; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            state, *fields = stat.read().rpartition(")")[2].split()
            return None if state == "Z" else int(fields[18])  # a zombie is dead
    except FileNotFoundError:
        pass
    try:  # where there is no /proc: whether it is there at all
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def _owner(path: Path) -> dict[str, Any]:
    """Who is inside, or claims to be next; {} where nobody is, or where a crash of the machine left an empty file."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.keys() >= _NAMED else {}


def _digest(owner: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(owner, sort_keys=True).encode()).hexdigest()[:16]


def _moved(folder: Path, to: Path) -> bool:
    """Renames a folder with a file in it; False where one is there already. In one step on any file system."""
    try:
        folder.rename(to)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
