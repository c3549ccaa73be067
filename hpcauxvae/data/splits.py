"""Which samples are for training, validation and test: at random, by groups, by blocks, or as the file says."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.beside import PARTS
from hpcauxvae.data.hdf5 import ImageSet, order, split
from hpcauxvae.types import By, InputError

Parts: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

_BLOCKS = 20
"""Neighbours in a series are dealt to the parts in so many blocks."""
_ENDS = (0.7, 0.9)
"""Shares of the samples at which training and validation end."""


def resolved(data: ImageSet, by: By) -> By:
    """What `auto` comes to: the file's own parts, else its groups, else at random. Raises InputError without these."""
    if by == "auto":
        return "given" if data.split is not None else "group" if data.group is not None else "random"
    for name, needed in (("split", "given"), ("group", "group")):
        if by == needed and getattr(data, name) is None:
            raise InputError(f"{data.path}: --split {by}: the file has no data set {name}; allowed: random, blocks")
    return by


def parts(data: ImageSet, seed: int, by: By = "auto") -> Parts:
    """Training, validation and test indices, each (.,) int64.

    random: `hpcauxvae.data.hdf5.split`. group: whole groups, in an order that the seed decides, until a part has its
    share, 7 : 2 : 1; blocks: the same with 20 blocks of neighbours. given: the data set `split` of the file. Within a
    part the samples are in random order. Raises InputError where a part would be empty.
    """
    by = resolved(data, by)
    if by == "random":
        return split(len(data), seed)
    if by == "given":
        assert data.split is not None
        part_N = np.argmax(data.split[:, None] == np.array(PARTS), 1)
    else:
        group_N = np.arange(len(data)) * _BLOCKS // len(data) if data.group is None or by == "blocks" else data.group
        part_N = _dealt(np.unique(group_N, return_inverse=True)[1].reshape(-1), seed)
    samples = order(len(data), seed)
    train, validation, test = (samples[part_N[samples] == part] for part in range(len(PARTS)))
    for name, found in zip(PARTS, (train, validation, test), strict=True):
        if len(found) == 0:
            allowed = "samples of each part" if by == "given" else "more groups, of more equal size, or another seed"
            raise InputError(f"{data.path}: --split {by} (seed {seed}) leaves no {name} samples; allowed: {allowed}")
    return train, validation, test


def _dealt(group_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The part of each sample: that in which the middle of its group lies when all groups stand in a row."""
    sizes_G = np.bincount(group_N)
    row_G = order(len(sizes_G), seed)
    middle = (np.cumsum(sizes_G[row_G]) - sizes_G[row_G] / 2) / len(group_N)
    part_G = np.empty(len(sizes_G), np.int64)
    part_G[row_G] = np.searchsorted(_ENDS, middle, side="right")
    return part_G[group_N]


def described(data: ImageSet, seed: int, by: By = "auto") -> str:
    """One line: how the samples are split, and into how many."""
    found, kind = parts(data, seed, by), resolved(data, by)
    how = {"random": f"at random (seed {seed})", "given": "as the file says"}.get(kind)
    if how is None:
        groups = _BLOCKS if kind == "blocks" or data.group is None else len(np.unique(data.group))
        what = "blocks of neighbours" if kind == "blocks" else "groups, each in one part"
        how = f"by {min(groups, len(data))} {what} (seed {seed})"
    torn = (
        " (the file has groups, which are torn apart)"
        if kind in ("random", "blocks") and data.group is not None
        else ""
    )
    sizes = ", ".join(
        f"{len(part)} {name}" for part, name in zip(found, ("training", "validation", "test"), strict=True)
    )
    return f"split {how}: {sizes} samples{torn}"
