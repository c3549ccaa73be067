"""Images where they lie: files opened for reading, images read through h5py, in pieces."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.types import InputError

_OF_H5PY = (OSError, RuntimeError, ValueError, TypeError, KeyError)
MADE_BY = "`hpcauxvae data import` makes a set of images in other forms"
_PIECE_BYTES = 32 << 20  # of images looked at, or copied, at once, in float32


class _Opened(h5py.File):
    """Of damaged files h5py raises whatever it likes; behind `with` that is an InputError."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        path = self.filename if self.id else ""
        super().__exit__(kind, error, trace)
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if isinstance(error, _OF_H5PY) and "h5py" in Path(trace.tb_frame.f_code.co_filename).parts:
            if memory_fault(error):
                return
            raise InputError(f"{path}: cannot be read, the file is damaged: {error}") from error


def open_file(path: Path) -> h5py.File:
    """Opened for reading, without file locks: some cluster file systems lack them, and no finished file changes."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; allowed: an HDF5 file of docs/data-format.md; {MADE_BY}")
    try:
        try:
            return _Opened(path, "r", locking=False)
        except OSError as error:
            if "locking flag" not in str(error):
                raise
            return _Opened(path, "r")  # as this process has it open already
    except OSError as error:
        if not memory_fault(error) and not h5py.is_hdf5(path):
            raise InputError(f"{path}: cannot be read as HDF5: it is no such file; {MADE_BY}") from error
        raise InputError(f"{path}: cannot be read as HDF5: {error}") from error


def plain(value: Any) -> Any:
    """An attribute, or one of a list, as a Python value, an array as text. Text that is not UTF-8 is taken for Latin-1.

    h5py gives text of fixed length, as C writes it, as bytes, and the bytes of other text that it cannot decode as
    surrogates.
    """
    if isinstance(value, np.ndarray):
        return ", ".join(str(plain(part)) for part in value.ravel()) if value.dtype.kind in "OS" else str(value)
    value = value.item() if isinstance(value, np.generic) else value
    text = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    if not isinstance(text, bytes):
        return value
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def read_rows(stored: h5py.Dataset, index: Any) -> np.ndarray:
    """These rows of a data set, in this machine's byte order.

    Raises InputError, naming file and rows, where they are damaged on the disk.
    """
    try:
        return np.asarray(stored[index], stored.dtype.newbyteorder("="))
    except OSError as error:
        rows = np.arange(len(stored))[index].reshape(-1)
        where = f"sample {rows[0]}" if len(rows) == 1 else f"samples {rows[0]} to {rows[-1]}"
        name = f"{stored.file.filename}: {stored.name.removeprefix('/')}"
        raise InputError(f"{name}: {where} cannot be read, the file is damaged: {error}") from error


def images_in(n_bytes: int, shape: Sequence[int]) -> int:
    """How many images (C, H, W) of 4 bytes a pixel take so many bytes: at least 1."""
    return max(1, n_bytes // (4 * int(np.prod(shape))))


def in_pieces(
    images: "np.ndarray | StoredImages | Clipped | h5py.Dataset", samples: "range | np.ndarray | None" = None
) -> Iterator[tuple[Any, np.ndarray]]:
    """The images (., C, H, W) of these samples, or of all, piece after piece of 32 MiB in float32, each with the
    numbers of its samples.

    samples: neighbours, or an index in any order, which a StoredImages and an array take. Raises InputError where the
    file is damaged.
    """
    samples = range(len(images)) if samples is None else samples
    step = images_in(_PIECE_BYTES, images.shape[1:])
    for start in range(0, len(samples), step):
        piece = samples[start : start + step]
        rows = slice(piece.start, piece.stop) if isinstance(piece, range) else piece
        yield piece, rows_of(images, rows)


def rows_of(stored: Any, index: Any) -> np.ndarray:
    """These rows (..., C, H, W) of images or weights; of weights that are those of every image, the only row."""
    if len(stored) == 1 and not isinstance(index, int | np.integer):
        index = slice(0, 1)
    elif len(stored) == 1:
        index = 0
    return read_rows(stored, index) if isinstance(stored, h5py.Dataset) else np.asarray(stored[index])


class StoredImages:
    """(N, C, H, W) read through h5py, for files whose images, or weights, are chunked, compressed or virtual.

    Takes an index, a slice or an array of indices in any order; raises InputError where the file is damaged there. It
    is opened by the process that reads, so an object made before a fork serves the children too.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, name: str = "images") -> None:
        self.path, self.name = path, name
        self.shape = shape
        self.dtype = dtype
        self._opened_by = 0
        self._file: h5py.File | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if self._file is None or self._opened_by != os.getpid():
            self._file, self._opened_by = open_file(self.path), os.getpid()
        stored = self._file[self.name]
        if isinstance(index, int | np.integer | slice):
            return read_rows(stored, index)
        wanted = np.arange(len(self))[np.asarray(index)]
        distinct, place = np.unique(wanted, return_inverse=True)  # h5py reads in increasing order only
        return read_rows(stored, distinct)[place]


class Clipped:
    """(N, C, H, W) images whose pixels beyond these bounds count as the bounds, read as the images themselves are."""

    def __init__(self, images: Any, low: float, high: "float | np.ndarray") -> None:
        """The bounds are values of the images' type; `high` may be one for each pixel, (C, H, W)."""
        self._images, self.shape, self.dtype = images, images.shape, images.dtype
        self._low, self._high = self.dtype.type(low), np.broadcast_to(np.asarray(high, self.dtype), self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.clip(self._images[index], self._low, self._high[index])
