"""CRC-32 of every block of images, in the data set `checksums` (docs/data-format.md)."""

import zlib
from collections.abc import Iterator

import h5py
import numpy as np

from hpcauxvae.data.shards import shard_of
from hpcauxvae.data.stored import read_rows

_CHECKSUMS = "checksums"
_ROWS = "rows"
"""Attribute of `checksums`: how many samples a block has; the last one may have fewer."""


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
    if not isinstance(stored, h5py.Dataset):
        yield f"{_CHECKSUMS}: is no data set; allowed: a number for each block of samples"
        return
    rows, n = stored.attrs.get(_ROWS, 0), len(images)
    if np.shape(rows) != () or rows < 1 or stored.shape != (-(-n // int(rows)),):
        yield f"{_CHECKSUMS}: shape {stored.shape}, {_ROWS} = {rows}: not a number for each block of {n} samples"
        return
    blocks = (slice(first, min(first + int(rows), n)) for first in range(0, n, int(rows)))
    pairs = zip(blocks, read_rows(stored, slice(None)), strict=True)
    wrong = [block for block, crc in pairs if checksum(read_rows(images, block)) != crc]
    if wrong:
        first = wrong[0]
        where = f" (shard {shard_of(images, first.start)})" if images.is_virtual else ""
        yield (
            f"images: samples {first.start} to {first.stop - 1}{where} do not match their checksum: "
            f"the file was damaged ({len(wrong)} such blocks)"
        )
