"""What of a data set is not there though it can be read: HDF5 puts fill values in its place, without a word.

A virtual data set lies in shards, which may be virtual themselves. Boxes are corners of a selection, both within it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcauxvae.data.stored import open_file, plain
from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.types import InputError


def shard_path(file: h5py.File, name: str) -> Path:
    """The file that a virtual data set of `file` means: itself (`.`), or where HDF5 looks for it."""
    opened, shard = Path(file.filename), Path(name)
    if name == ".":
        return opened
    folders = opened.parent, opened.resolve().parent
    places = [folder / part for part in (shard, shard.name) for folder in folders]
    return next((place for place in places if place.is_file()), opened.parent / shard)


def shard_of(images: h5py.Dataset, row: int) -> Path | None:
    """The file that holds this row of virtual images."""
    for source in images.virtual_sources():
        if any(low[0] <= row <= high[0] for low, high in _boxes(source.vspace)):
            return shard_path(images.file, source.file_name)
    return None


def lost_parts(stored: h5py.Dataset, above: tuple[tuple[str, str], ...] = ()) -> Iterator[str]:
    """What is lost of a data set, a sentence each: its own storage, or shards at any depth.

    above: file and name of the virtual data sets that this one is a shard of.
    """
    here = (str(Path(stored.file.filename).resolve()), stored.name)
    if here in above:
        yield "is a shard of itself"
    elif stored.is_virtual:
        try:
            yield from _lost_shards(stored, (*above, here))
        except (NotImplementedError, RuntimeError) as error:  # of h5py, for selections without an end
            if memory_fault(error):
                raise
            yield "is a virtual data set of no fixed size; allowed: one that says how many samples each shard has"
    elif stored.external:
        yield f"lies in raw files beside it ({stored.external[0][0]}), whose loss HDF5 hides; allowed: in HDF5 files"
    elif stored.chunks is not None:
        chunks = int(np.prod([-(-n // size) for n, size in zip(stored.shape, stored.chunks, strict=True)]))
        if (written := stored.id.get_num_chunks()) < chunks:
            yield f"{chunks - written} of {chunks} chunks were never written"
    elif stored.id.get_storage_size() == 0:
        yield "nothing was ever written"


def _lost_shards(stored: h5py.Dataset, above: tuple[tuple[str, str], ...]) -> Iterator[str]:
    values_N = np.zeros(len(stored) + 1, np.int64)  # how many more a sample has than the one before it
    for source in stored.virtual_sources():
        boxes = _boxes(source.vspace)
        sizes = np.prod(boxes[:, 1, 1:] - boxes[:, 0, 1:] + 1, axis=1)
        np.add.at(values_N, boxes[:, 0, 0], sizes)
        np.subtract.at(values_N, boxes[:, 1, 0] + 1, sizes)
        shard = shard_path(stored.file, source.file_name)
        if shard == Path(stored.file.filename):  # which may be open for writing
            yield from _lost_in(shard, stored.file, source, stored, above)
            continue
        try:
            with open_file(shard) as opened:
                yield from _lost_in(shard, opened, source, stored, above)
        except InputError as error:
            yield f"shard {error}"
    empty = np.flatnonzero(np.cumsum(values_N[:-1]) < np.prod(stored.shape[1:]))
    if len(empty):
        yield f"sample {empty[0]} is in no shard, or not all of it ({len(empty)} such samples)"


def _lost_in(
    shard: Path, file: h5py.File, source: Any, stored: h5py.Dataset, above: tuple[tuple[str, str], ...]
) -> Iterator[str]:
    """What is lost of a shard, an open file, where `stored` reads it: as its type, and whole rows as its columns."""
    held = file.get(source.dset_name)
    if not isinstance(held, h5py.Dataset):
        yield f"shard {shard}: has no data set {source.dset_name}"
        return
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:  # then its extent is not in the virtual data set
        first, *others = _shape(source.vspace, held.ndim)
        fits = held.shape[1:] == tuple(others) and held.shape[0] >= first
        needed = f"{(first, *others)}, more only in its first axis,"
    else:
        least = (_boxes(source.src_space)[:, 1].max(0) + 1).tolist()
        fits = held.ndim == len(least) and all(h >= n for h, n in zip(held.shape, least, strict=True))
        needed = f"at least {tuple(least)}"
    if not fits:
        yield f"shard {shard}: {source.dset_name} has shape {held.shape}; {needed} is needed"
    if not (np.can_cast(held.dtype, stored.dtype) or held.dtype.kind == stored.dtype.kind == "f"):
        yield f"shard {shard}: {source.dset_name} has type {held.dtype}, which {stored.dtype} would cut off"
    whole = held.shape[1:] == stored.shape[1:] == tuple(_shape(source.vspace, held.ndim)[1:])
    for field in ("name", "unit", "transform", "classes") if whole else ():
        of_shard, of_set = (plain(data.attrs.get(field)) for data in (held, stored))
        if None not in (of_shard, of_set) and of_shard != of_set:
            yield f"shard {shard}: {source.dset_name} has {field} {of_shard!r}; {of_set!r}, as in the set, is needed"
    for error in lost_parts(held, above):
        yield error if error.startswith("shard ") else f"shard {shard}: {source.dset_name} {error}"


def _shape(space: Any, axes: int) -> list[int]:
    """Of a selection; a shard with fewer axes leaves out some of length 1, such as that of the channels."""
    boxes = _boxes(space)
    shape = [int((boxes[:, 1, 0] - boxes[:, 0, 0] + 1).sum()), *(boxes[0, 1, 1:] - boxes[0, 0, 1:] + 1).tolist()]
    return shape if axes >= len(shape) else [n for n in shape if n != 1] or [1]


def _boxes(space: Any) -> np.ndarray:
    """(boxes, 2, axes) of a selection."""
    if space.get_select_type() == h5py.h5s.SEL_HYPERSLABS:
        return np.asarray(space.get_select_hyper_blocklist())
    return np.asarray(space.get_select_bounds())[None]
