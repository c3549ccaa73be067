"""NPZ: arrays by name; NPY: one array."""

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from hpcauxvae.data.importing.members import Member, Members, reading, taken


def members(path: Path) -> Members:
    """The arrays of an NPZ file; each is held in memory once it is read."""
    with reading(path, "NPZ", zipfile.BadZipFile):
        archive = np.load(path, allow_pickle=False)
        names = list(archive.files)

    @lru_cache(maxsize=4)
    def load(name: str) -> np.ndarray:
        with reading(path, "NPZ", zipfile.BadZipFile, zlib.error):
            return np.asarray(archive[name])

    return Members(path, names, lambda name: _member(load(name)))


def member(path: Path) -> Members:
    """The array of an NPY file, mapped into memory, by the name of the file."""
    with reading(path, "NPY"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Members(path, [path.stem], lambda name: _member(array))


def _member(array: np.ndarray) -> Member:
    return Member(array.shape, lambda rows, axis: taken(array, rows, axis), is_column=array.ndim == 1)
