"""Finished chunks on their way into the set: each rank appends its own to a file, so nothing is written twice.

A record is a header (magic, chunk, CRC of the data, CRC of the header) and the chunk's stamps. A chunk that a kill, a
full disk or a crash of the machine cut short, or whose bits changed, fails its checksum and counts as not made.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcauxvae.types import InputError

_MAGIC = b"stmp"
_HEADER = struct.Struct("<4sQII")
SUFFIX = ".journal"


class Rows(NamedTuple):
    """How the rows of a set fall into chunks."""

    n: int
    """Rows of the set."""
    chunk: int
    """Rows in a chunk; the last chunk may have fewer."""
    row_bytes: int
    """Bytes of a row's stamps."""

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.n // self.chunk)

    def of(self, chunk: int) -> range:
        """The rows of a chunk."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.n))

    def count(self, runs: np.ndarray) -> int:
        """Rows in these runs of chunks, (M, 2)."""
        first, end = np.minimum(runs * self.chunk, self.n).T
        return int((end - first).sum())

    def bytes_of(self, chunk: int) -> int:
        """How long its data are."""
        return len(self.of(chunk)) * self.row_bytes


class Stored(NamedTuple):
    """Whole chunks in journals."""

    chunk: np.ndarray
    """(M,) int64"""
    file: np.ndarray
    """(M,) int64, the number of the journal in the order of their names"""
    offset: np.ndarray
    """(M,) int64, of the data, in bytes"""
    crc: np.ndarray
    """(M,) int64"""

    @classmethod
    def none(cls) -> "Stored":
        """Of no chunk."""
        return cls(*(np.empty(0, np.int64) for _ in cls._fields))

    def part(self, low: int, high: int) -> "Stored":
        """Chunks low to high - 1 of these."""
        return Stored(*(column[low:high] for column in self))

    def shares(self, count: int) -> list["Stored"]:
        """As many parts, about equally long, in order."""
        edges = [number * len(self.chunk) // count for number in range(count + 1)]
        return [self.part(*edge) for edge in pairwise(edges)]


class Journal:
    """The file of a rank in this start, open for appending."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        self._end = 0
        self.records: list[tuple[int, int, int]] = []
        """(chunk, offset of the data, CRC) of what was stored."""

    def append(self, chunk: int, data: bytes) -> None:
        """Stores a whole chunk, or nothing. Raises InputError where the disk does not take it."""
        crc = zlib.crc32(data)
        record = memoryview(_header(chunk, crc) + data)
        written = 0
        try:
            while written < len(record):
                written += os.write(self._descriptor, record[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self.records.append((chunk, self._end + _HEADER.size, crc))
        self._end += len(record)

    def close(self) -> None:
        """Nothing can be added after it."""
        os.close(self._descriptor)


def _header(chunk: int, crc: int) -> bytes:
    return _HEADER.pack(_MAGIC, chunk, crc, zlib.crc32(struct.pack("<QI", chunk, crc)))


def scan(path: Path, number: int, rows: Rows) -> Stored:
    """The chunks of a journal that are whole; the rest of it is passed over. Reads all of it."""
    found = list(_records(path, rows))
    columns = np.array(found, np.int64).reshape(-1, 3).T
    return Stored(columns[0], np.full(len(found), number, np.int64), columns[1], columns[2])


def _records(path: Path, rows: Rows) -> Iterator[tuple[int, int, int]]:
    with open(path, "rb", buffering=1 << 20) as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            magic, chunk, crc, _ = _HEADER.unpack(header)
            if magic != _MAGIC or header != _header(chunk, crc) or chunk >= rows.chunks:
                return  # where the next record begins is not known
            offset, data = file.tell(), file.read(rows.bytes_of(chunk))
            if len(data) == rows.bytes_of(chunk) and zlib.crc32(data) == crc:
                yield chunk, offset, crc


def distinct(parts: list[Stored]) -> Stored:
    """All of them in the order of chunks, each chunk once."""
    together = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    chunk, first = np.unique(together[0], return_index=True)
    return Stored(chunk, *(column[first] for column in together[1:]))


class Reader:
    """Reads chunks from the journals of a folder."""

    def __init__(self, paths: list[Path], rows: Rows) -> None:
        self._paths, self._rows = paths, rows
        self._open: dict[int, int] = {}

    def read(self, chunk: int, file: int, offset: int, crc: int) -> bytes:
        """The data of a chunk. Raises InputError where they have changed since they were found."""
        descriptor = self._open.get(file)
        if descriptor is None:
            if len(self._open) > 100:
                self.close()
            descriptor = self._open[file] = os.open(self._paths[file], os.O_RDONLY)
        data = os.pread(descriptor, self._rows.bytes_of(chunk), offset)
        if zlib.crc32(data) != crc:
            raise InputError(f"{self._paths[file]}: chunk {chunk} is damaged; start again to make it anew")
        return data

    def close(self) -> None:
        """Closes the files; reading opens them again."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open = {}
