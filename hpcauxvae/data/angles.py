"""Columns that are cosine and sine of an angle: one of them alone cannot be chosen freely.

N samples, F factors.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.types import Kind

_TOLERANCE = 1e-3  # of the sum of squares: labels may be rounded
_APART = 0.01  # of two directions, and of one from an axis
_FEWEST = 3  # directions
_FIRST = 1000  # samples that are looked at before all are


def angles(values_NF: NDArray) -> list[tuple[int, int]]:
    """Pairs of columns (physical units) whose squares add up to 1 in every sample in which both are measured.

    Not all may lie along an axis: so do the columns of 0 and 1 of two classes, which are no angle.
    """
    pairs = []
    small_F = ~(np.abs(values_NF) > 1 + _TOLERANCE).any(0)
    for one, other in combinations(np.flatnonzero(small_F).tolist(), 2):
        if not _of_angle(values_NF[:: max(1, len(values_NF) // _FIRST), [one, other]]):
            continue
        both_N2 = values_NF[:, [one, other]]
        both_N2 = both_N2[np.isfinite(both_N2).all(1)]
        oblique = (np.abs(both_N2).min(1) > _APART).any()
        directions = np.unique(np.round(np.arctan2(*both_N2.T) / _APART))
        if _of_angle(both_N2) and oblique and len(directions) >= _FEWEST:
            pairs.append((one, other))
    return pairs


def _of_angle(both_N2: NDArray) -> bool:
    """Whether no square sum of a sample with both is far from 1."""
    return not (np.abs(np.square(both_N2).sum(1) - 1) >= _TOLERANCE).any()


def themselves(values_NF: NDArray) -> dict[int, tuple[int, int]]:
    """Columns that are the angle itself of a pair that `angles` finds, in degrees or radians, with that pair.

    A half or a quarter of a turn may be a whole one of the angle, as of what looks the same then. Either of the pair
    may be the cosine.
    """
    found = {}
    for one, other in angles(values_NF):
        turns_N = np.exp(1j * np.arctan2(values_NF[:, other], values_NF[:, one]))
        for column in set(range(values_NF.shape[1])) - {one, other}:
            angle_N = values_NF[:, column]
            known = np.isfinite(angle_N) & np.isfinite(turns_N)
            if np.count_nonzero(known) < _FEWEST:
                continue
            units = (times * unit for unit in (np.pi / 180, 1.0) for times in (1, 2, 4))
            for of_N in (np.exp(1j * unit * angle_N[known]) for unit in units):
                if min(np.abs(of_N - turns_N[known]).max(), np.abs(1j * of_N.conj() - turns_N[known]).max()) < _APART:
                    found[column] = (one, other)
    return found


def partner(values_N: NDArray, side: float) -> NDArray[np.float64]:
    """What belongs to these cosines, or sines: the root of 1 less their squares, of the sign of `side`."""
    return np.copysign(np.sqrt(np.clip(1 - np.square(values_N), 0, None)), side)


def typical(values_NF: NDArray, pairs: Iterable[tuple[int, int]], kinds: Sequence[Kind]) -> NDArray[np.float64]:
    """The median of each column (F,), of an ordinal one a value that occurs; of a categorical one the class that occurs
    most; of an angle, cosine and sine of the sample nearest to both medians."""
    middle_F = np.nanmedian(values_NF, 0)
    for column, kind in enumerate(kinds):
        if kind == "ordinal":
            middle_F[column] = np.nanquantile(values_NF[:, column], 0.5, method="lower")
        elif kind == "categorical":
            classes, counts = np.unique(values_NF[:, column], return_counts=True)
            middle_F[column] = classes[np.argmax(np.where(np.isnan(classes), 0, counts))]
    for pair in map(list, pairs):
        middle_F[pair] = values_NF[np.nanargmin(np.square(values_NF[:, pair] - middle_F[pair]).sum(1))][pair]
    return middle_F
