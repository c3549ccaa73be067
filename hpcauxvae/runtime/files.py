"""Files on disk: written whole or not at all, and what was wrong with a file in words. Imports nothing heavy."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.types import InputError

T = TypeVar("T")

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_OF_PROCESSES = (ChildProcessError, ProcessLookupError, InterruptedError)
_OF_CONNECTIONS = (ConnectionError, TimeoutError, BlockingIOError)
_POINTER = b"link to "
_LONGEST = 4096  # bytes of a path


def file_fault(error: OSError) -> str | None:
    """What is wrong with the file that the user named, or with the disk, in one line.

    None for another failure: of a connection, of a process, or of the program itself.
    """
    if error.errno is None or isinstance(error, _OF_PROCESSES + _OF_CONNECTIONS):
        return None
    if error.filename is not None:
        return f"{error.filename}: {os.strerror(error.errno)}"
    return os.strerror(error.errno) if error.errno in _OF_THE_DISK else None


def attempt(action: Callable[[], T]) -> tuple[T | None, str | None]:
    """What `action` returned, and in words what was wrong with its input, a file, the disk or memory: for other ranks.

    Any other failure is raised.
    """
    try:
        return action(), None
    except InputError as error:
        return None, memory_fault(error) or str(error)
    except (OSError, MemoryError, RuntimeError) as error:
        fault = memory_fault(error) or (file_fault(error) if isinstance(error, OSError) else None)
        if fault is None:
            raise
        return None, fault


def sync(path: Path) -> None:
    """Forces a file, or a folder's entries, to disk. Raises OSError where the disk does not take them.

    The entries of a folder are left to the system where that is all it offers.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; the file written there becomes `path` in one step, if the block ends well.

    It is forced to disk first, so that a reader finds the old file or the new one, also after a kill; the umask alone
    says who may read it. Raises InputError where the disk does not take it.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch()
        mode = part.stat().st_mode
        part.unlink()
        yield part
        if not part.is_symlink():
            with contextlib.suppress(OSError):  # of a file system without modes
                part.chmod(mode)
        sync(part)
        part.rename(path)
        sync(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno) if error.errno else error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def refuse_unwritable(folder: Path, way_out: str = "") -> None:
    """Raises InputError where no file can be made in a folder: before the work whose result should lie there."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {os.strerror(error.errno or 0)}{way_out}") from error


def refuse_full(folder: Path, n_bytes: int, what: str) -> None:
    """Raises InputError where the disk of a folder has no room for so many bytes of `what`."""
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < n_bytes:  # some file systems do not say
        raise InputError(
            f"{folder}: {disk.free / 1e6:.1f} MB are free on its disk; {what} takes {n_bytes / 1e6:.1f} MB"
        )


def write_text(path: Path, text: str) -> None:
    """Replaces a file as `whole` does."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replaces a file as `whole` does, by this value as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def point(link: Path, target: Path) -> None:
    """Lets a link name a target that is there, relative to the link's folder, as `whole` replaces a file.

    On a file system without symbolic links it is a file, which `followed` reads.
    """
    name = target.relative_to(link.parent)
    with whole(link) as part:
        try:
            part.symlink_to(name)
        except OSError as error:  # as many errors as file systems
            if error.errno in _OF_THE_DISK:
                raise
            part.write_bytes(_POINTER + os.fsencode(name))


def followed(link: Path) -> Path:
    """The target of a link of `point` that had to be a file; any other path as it is. Raises OSError."""
    with open(link, "rb") as file:
        start = file.read(len(_POINTER) + _LONGEST)
    return link.parent / os.fsdecode(start[len(_POINTER) :]) if start.startswith(_POINTER) else link
