"""Columns that are cosine and sine of an angle: one of them alone cannot be chosen freely.

N samples, F factors.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-3  # of the sum of squares: labels may be rounded
_FEWEST = 3


def angles(values_NF: NDArray) -> list[tuple[int, int]]:
    """Pairs of columns (physical units) whose squares add up to 1 in every sample in which both are measured."""
    pairs, squares_NF = [], np.square(values_NF)
    for one in range(values_NF.shape[1]):
        for other in range(one + 1, values_NF.shape[1]):
            both_N2 = squares_NF[:, [one, other]]
            both_N2 = both_N2[np.isfinite(both_N2).all(1)]
            of_angle = len(both_N2) >= _FEWEST and np.abs(both_N2.sum(1) - 1).max() < _TOLERANCE
            if of_angle and np.ptp(both_N2[:, 0]) > _TOLERANCE:
                pairs.append((one, other))
    return pairs


def partner(values_N: NDArray, side: float) -> NDArray[np.float64]:
    """What belongs to these cosines, or sines: the root of 1 less their squares, of the sign of `side`."""
    return np.copysign(np.sqrt(np.clip(1 - np.square(values_N), 0, None)), side)


def typical(values_NF: NDArray, pairs: Iterable[tuple[int, int]]) -> NDArray[np.float64]:
    """The median of each column (F,); of an angle, cosine and sine of the sample nearest to both medians."""
    middle_F = np.nanmedian(values_NF, 0)
    for pair in map(list, pairs):
        middle_F[pair] = values_NF[np.nanargmin(np.square(values_NF[:, pair] - middle_F[pair]).sum(1))][pair]
    return middle_F
