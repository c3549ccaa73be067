"""Checksums of a set's images: CRC-32 of every block of rows, in the data set `checksums` (docs/data-format.md)."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from hpcauxvae.data.stored import read_rows

NAME = "checksums"
ROWS = "rows"
"""Attribute of `checksums`: how many samples a block has; the last one may have fewer."""


def create_checksums(file: h5py.File, n: int, rows: int) -> h5py.Dataset:
    """An empty data set for the checksums of n samples, one for each block of so many rows."""
    stored = file.create_dataset(NAME, (-(-n // rows),), "<u4", fillvalue=0)
    stored.attrs[ROWS] = rows
    return stored


def checksum(images: np.ndarray) -> int:
    """Of a block of images (., C, H, W): of its bytes, little-endian, in C order."""
    return zlib.crc32(np.ascontiguousarray(images, images.dtype.newbyteorder("<")).tobytes())


def blocks(file: h5py.File) -> Iterator[tuple[slice, int]]:
    """The rows and the stored checksum of every block; none where the file has no checksums."""
    if NAME in file:
        rows, n = int(file[NAME].attrs[ROWS]), len(file["images"])
        for block, stored in enumerate(file[NAME][:]):
            yield slice(block * rows, min((block + 1) * rows, n)), int(stored)


def checksum_errors(file: h5py.File) -> Iterator[str]:
    """The blocks whose images have changed since they were written: the first, and how many. Reads all images.

    Raises InputError where a block cannot be read at all.
    """
    images, wrong = file["images"], []
    for rows, stored in blocks(file):
        if checksum(read_rows(images, rows)) != stored:
            wrong.append(rows)
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
