"""Columns that are cosine and sine of an angle: one of them alone cannot be chosen freely.

N samples, F factors.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.types import Kind

_TOLERANCE = 1e-3  # of the sum of squares: labels may be rounded
_APART = 0.01  # of two directions, and of one from an axis
_FEWEST = 3  # directions


def angles(values_NF: NDArray) -> list[tuple[int, int]]:
    """Pairs of columns (physical units) whose squares add up to 1 in every sample in which both are measured.

    Not all may lie along an axis: so do the columns of 0 and 1 of two classes, which are no angle.
    """
    pairs = []
    for one in range(values_NF.shape[1]):
        for other in range(one + 1, values_NF.shape[1]):
            both_N2 = values_NF[:, [one, other]]
            both_N2 = both_N2[np.isfinite(both_N2).all(1)]
            oblique = (np.abs(both_N2).min(1) > _APART).any()
            directions = np.unique(np.round(np.arctan2(*both_N2.T) / _APART))
            of_angle = (np.abs(np.square(both_N2).sum(1) - 1) < _TOLERANCE).all()
            if of_angle and oblique and len(directions) >= _FEWEST:
                pairs.append((one, other))
    return pairs


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
