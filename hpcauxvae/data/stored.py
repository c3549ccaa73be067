"""Images where they lie: files opened for reading, images read through h5py, their checksums, their shards.

Checksums are CRC-32 of every block of rows, in the data set `checksums` (docs/data-format.md).
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcauxvae.types import InputError

_PIECE_BYTES = 32 << 20  # of images looked at, or copied, at once
_CHECKSUMS = "checksums"
_ROWS = "rows"
"""Attribute of `checksums`: how many samples a block has; the last one may have fewer."""


def open_file(path: Path) -> h5py.File:
    """Opened for reading, without file locks: some cluster file systems lack them, and no finished file changes."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5: {error}") from error


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


def in_pieces(
    images: "np.ndarray | StoredImages | h5py.Dataset", samples: range | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The images of these samples, or of all, piece after piece of some megabytes, each with its first sample's number.

    Raises InputError where the file is damaged.
    """
    samples = range(len(images)) if samples is None else samples
    step = max(1, _PIECE_BYTES // (images.dtype.itemsize * int(np.prod(images.shape[1:]))))
    for start in samples[::step]:
        rows = slice(start, min(start + step, samples.stop))
        yield start, read_rows(images, rows) if isinstance(images, h5py.Dataset) else images[rows]


class StoredImages:
    """(N, C, H, W) read through h5py, for files whose images are chunked, compressed or virtual.

    Takes an index, a slice or an array of indices in any order; raises InputError where the file is damaged there. It
    is opened by the process that reads, so an object made before a fork serves the children too.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path = path
        self.shape = shape
        self.dtype = dtype
        self._opened_by = 0
        self._file: h5py.File | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if self._file is None or self._opened_by != os.getpid():
            self._file, self._opened_by = open_file(self.path), os.getpid()
        stored = self._file["images"]
        if isinstance(index, int | np.integer | slice):
            return read_rows(stored, index)
        wanted = np.arange(len(self))[np.asarray(index)]
        distinct, place = np.unique(wanted, return_inverse=True)  # h5py reads in increasing order only
        return read_rows(stored, distinct)[place]


def create_checksums(file: h5py.File, n: int, rows: int) -> h5py.Dataset:
    """An empty data set for the checksums of n samples, one for each block of so many rows."""
    stored = file.create_dataset(_CHECKSUMS, (-(-n // rows),), "<u4", fillvalue=0)
    stored.attrs[_ROWS] = rows
    return stored


def checksum(images: np.ndarray) -> int:
    """Of a block of images (., C, H, W): of its bytes, little-endian, in C order."""
    return zlib.crc32(np.ascontiguousarray(images, images.dtype.newbyteorder("<")).tobytes())


def checksum_errors(file: h5py.File) -> Iterator[str]:
    """The blocks whose images have changed since they were written: the first, and how many. Reads all images.

    Raises InputError where a block cannot be read at all.
    """
    if _CHECKSUMS not in file:
        return
    images, stored = file["images"], file[_CHECKSUMS]
    rows, n = int(stored.attrs[_ROWS]), len(images)
    blocks = ((slice(number * rows, min((number + 1) * rows, n)), crc) for number, crc in enumerate(stored[:]))
    wrong = [block for block, crc in blocks if checksum(read_rows(images, block)) != crc]
    if wrong:
        first = wrong[0]
        where = f" (shard {shard_of(images, first.start)})" if images.is_virtual else ""
        yield (
            f"images: samples {first.start} to {first.stop - 1}{where} do not match their checksum: "
            f"the file was damaged ({len(wrong)} such blocks)"
        )


def shard_of(images: h5py.Dataset, row: int) -> Path | None:
    """The file that holds this row of virtual images."""
    for source in images.virtual_sources():
        low, high = source.vspace.get_select_bounds()
        if low[0] <= row <= high[0]:
            return Path(images.file.filename).parent / source.file_name
    return None


def shard_errors(file: h5py.File) -> Iterator[str]:
    """Shards of virtual data sets that are missing or too small: HDF5 reads fill values there, without a word."""
    folder = Path(file.filename).parent
    for name in ("images", "factors"):
        for source in file[name].virtual_sources() if file[name].is_virtual else ():
            shard = folder / source.file_name
            whole = source.src_space.get_select_type() == h5py.h5s.SEL_ALL  # then its extent is not in this file
            first, last = (source.vspace if whole else source.src_space).get_select_bounds()
            needed = tuple((np.array(last) + 1 - (np.array(first) if whole else 0)).tolist())
            try:
                with open_file(shard) as opened:
                    held = getattr(opened.get(source.dset_name), "shape", None)
            except InputError as error:
                yield f"{name}, shard {error}"
                continue
            if held is None or len(held) != len(needed) or any(h < n for h, n in zip(held, needed, strict=True)):
                yield f"{name}, shard {shard}: {source.dset_name} has shape {held}; at least {needed} is needed"
