"""Which samples are for training, validation and test: at random, by groups or blocks, as the file says, in folds."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.beside import PARTS
from hpcauxvae.data.hdf5 import ImageSet, order, split
from hpcauxvae.types import By, Fold, InputError

Parts: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

_BLOCKS = 20
"""Neighbours in a series are dealt to the parts in so many blocks."""
_ENDS = (0.7, 0.9)
"""Shares of the samples at which training and validation end."""
_SHARES = (7, 2)
"""Of training and validation in the samples that a fold does not test."""
_TESTED = 2
"""Samples of a test part, at least: the fewest images that have scores."""


def resolved(data: ImageSet, by: By) -> By:
    """What `auto` comes to: the file's own parts, else its groups, else at random. Raises InputError without these."""
    if by == "auto":
        return "given" if data.split is not None else "group" if data.group is not None else "random"
    for name, needed in (("split", "given"), ("group", "group")):
        if by == needed and getattr(data, name) is None:
            raise InputError(f"{data.path}: --split {by}: the file has no data set {name}; allowed: random, blocks")
    return by


def parts(data: ImageSet, seed: int, by: By = "auto", fold: Fold | None = None) -> Parts:
    """Training, validation and test indices, each (.,) int64.

    random: `hpcauxvae.data.hdf5.split`. group: whole groups, in an order that the seed decides, until a part has its
    share, 7 : 2 : 1; blocks: the same with 20 blocks of neighbours. given: the data set `split` of the file. fold: each
    sample, group or block is in the test part of one of the folds, and the others are dealt 7 : 2. Within a part the
    samples are in random order. Raises InputError where a part would be empty, and for folds of a given split.
    """
    by = resolved(data, by)
    if by == "given":
        if fold is not None:
            raise InputError(
                f"{data.path}: folds = {fold.of} with the parts of the file (--split given); allowed: --split random, "
                "group or blocks"
            )
        assert data.split is not None
        part_N = np.argmax(data.split[:, None] == np.array(PARTS), 1)
    elif by == "random" and fold is None:
        return split(len(data), seed)
    else:
        group_N = np.unique(_groups(data, by), return_inverse=True)[1].reshape(-1)
        part_N = _dealt(group_N, seed) if fold is None else _folded(group_N, seed, fold, data, by)
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


def _groups(data: ImageSet, by: By) -> NDArray[Any]:
    """What stays together, (N,): blocks, the groups of the file, or each sample by itself."""
    if by == "blocks":
        return np.arange(len(data)) * _BLOCKS // len(data)
    return data.group if by == "group" and data.group is not None else np.arange(len(data))


def _folded(group_N: NDArray[np.int64], seed: int, fold: Fold, data: ImageSet, by: By) -> NDArray[np.int64]:
    """The part of each sample in a fold. Raises InputError where a fold tests too little, or leaves too little."""
    sizes_G = np.bincount(group_N)
    row_G = order(len(sizes_G), seed)
    fold_R = _filled(sizes_G[row_G], [1] * fold.of)
    groups_K, samples_K = (np.bincount(fold_R, weights, fold.of) for weights in (None, sizes_G[row_G]))
    if samples_K.min() < _TESTED or len(sizes_G) - groups_K.max() < len(_SHARES):
        what = {"random": "samples", "blocks": "blocks"}.get(by, "groups")
        whole = "" if by == "random" else f"whole {what}, "
        raise InputError(
            f"{data.path}: folds = {fold.of} for {len(sizes_G)} {what}; allowed: 2 or more, with {_TESTED} or more "
            f"samples for each to test, {whole}and {len(_SHARES)} {what} or more besides"
        )
    rest_G = row_G[fold_R != fold.number]
    part_G = np.full(len(sizes_G), PARTS.index("test"))
    part_G[rest_G] = _filled(sizes_G[rest_G], _SHARES)
    return part_G[group_N]


def _filled(sizes_G: NDArray[np.int64], shares: Sequence[int]) -> NDArray[np.int64]:
    """The part that each group falls into when they come one after the other: that which lacks most of its share."""
    filled, found_G = [0.0] * len(shares), np.empty(len(sizes_G), np.int64)
    for number, size in enumerate(sizes_G.tolist()):
        found_G[number] = part = filled.index(min(filled))
        filled[part] += size / shares[part]
    return found_G


def described(data: ImageSet, seed: int, by: By = "auto", fold: Fold | None = None) -> str:
    """One line: how the samples are split, and into how many."""
    found, kind = parts(data, seed, by, fold), resolved(data, by)
    how = {"random": f"at random (seed {seed})", "given": "as the file says"}.get(kind)
    if how is None:
        groups = _BLOCKS if kind == "blocks" or data.group is None else len(np.unique(data.group))
        what = "blocks of neighbours" if kind == "blocks" else "groups, each in one part"
        how = f"by {min(groups, len(data))} {what} (seed {seed})"
    sizes = ", ".join(
        f"{len(part)} {name}" for part, name in zip(found, ("training", "validation", "test"), strict=True)
    )
    of = "" if fold is None else f", fold {fold.number} of {fold.of}"
    return f"split {how}{of}: {sizes} samples{_torn(data, found)}"


def _torn(data: ImageSet, found: Parts) -> str:
    """How many groups of the file lie in several parts, in words; nothing where none does."""
    if data.group is None:
        return ""
    groups, times = np.unique(np.concatenate([np.unique(data.group[part]) for part in found]), return_counts=True)
    if not (torn := np.count_nonzero(times > 1)):
        return ""
    return f" ({torn} of the file's {len(groups)} groups are torn apart: scores reward what was learned by heart)"
