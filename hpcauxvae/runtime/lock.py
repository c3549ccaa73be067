"""Keeps a second run out of a folder."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcauxvae.runtime.files import file_fault
from hpcauxvae.runtime.launchers import find_job
from hpcauxvae.types import InputError

_PATIENCE_S = 5.0  # a folder is taken in milliseconds


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
        own = self.path.with_name(f".lock.{self.owner['host']}.{self.owner['pid']}")
        try:
            own.write_text(json.dumps(self.owner))
            with _one_at_a_time(self.path.parent):
                holder = self._holder()
                if not self._is_gone(holder):
                    raise InputError(
                        f"{self.path.parent}: in use by process {holder.get('pid')} on {holder.get('host')} "
                        f"(job {holder.get('job')}); choose another folder, or remove {self.path} if it is dead"
                    )
                self.path.unlink(missing_ok=True)
                self._create(own)
        except FileExistsError:  # only where flock is of a host alone
            raise InputError(f"{self.path.parent}: another run took the folder just now; choose another") from None
        finally:
            own.unlink(missing_ok=True)

    def _create(self, own: Path) -> None:
        """Whole or not there, and never over another's. Raises FileExistsError."""
        try:
            os.link(own, self.path)
        except FileExistsError:
            raise
        except OSError:  # the file system has no hard links
            with open(self.path, "x") as file:
                json.dump(self.owner, file)

    def release(self) -> None:
        """Frees the folder, if this process holds it; a folder without anything else goes too."""
        with contextlib.suppress(OSError):  # it may be gone, and why it is, is said elsewhere
            if self._holder() == self.owner:
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()

    def _holder(self) -> dict[str, Any]:
        """Who is inside; {} where nobody is, or where a crash of the machine left an empty file."""
        try:
            return json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}

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


def held_elsewhere(folder: Path) -> bool:
    """Whether the lock of a folder names a process of another host, of which nobody here can say whether it lives."""
    lock = RunLock(folder)
    return lock._holder().get("host", lock.owner["host"]) != lock.owner["host"]


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


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two processes that find a dead holder must not both take its place. A crash frees flock by itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # some cluster file systems have none
            with _alone(folder / ".lock.taking"):
                yield
        else:
            yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Exclusive creation of a file in place of flock; one that a kill left there goes after a while."""
    began = time.monotonic()
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            if time.monotonic() - began > _PATIENCE_S:
                path.unlink(missing_ok=True)
                began = time.monotonic()
            time.sleep(0.02)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
