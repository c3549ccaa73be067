"""Files on disk: what was wrong with one in words, and how to be sure that it is there. Imports nothing heavy."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcauxvae.types import InputError

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_OF_PROCESSES = (ChildProcessError, ProcessLookupError, InterruptedError)
_OF_CONNECTIONS = (ConnectionError, TimeoutError, BlockingIOError)


def file_fault(error: OSError) -> str | None:
    """What is wrong with the file that the user named, or with the disk, in one line.

    None for another failure: of a connection, of a process, or of the program itself.
    """
    if error.errno is None or isinstance(error, _OF_PROCESSES + _OF_CONNECTIONS):
        return None
    if error.filename is not None:
        return f"{error.filename}: {os.strerror(error.errno)}"
    return os.strerror(error.errno) if error.errno in _OF_THE_DISK else None


def sync(path: Path) -> None:
    """Forces a file, or a folder's entries, to disk. Raises OSError where the disk does not take them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; the file written there becomes `path` in one step, if the block ends well.

    It is forced to disk first, so that a reader finds the old file or the new one, also after a kill. Raises InputError
    where the disk does not take it.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        sync(part)
        part.rename(path)
        sync(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno) if error.errno else error}") from error
    finally:
        part.unlink(missing_ok=True)
