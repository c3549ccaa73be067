"""Trials with two objectives that are both to be small: the Pareto front, a choice from it, and the paper's rule.

Shape suffixes: N trials, 2 objectives.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def dominated_by(values_N2: NDArray) -> NDArray:
    """By how many of N points each is dominated: no worse in both objectives, better in at least one. (N,) int.

    The rank of Fonseca & Fleming 1993; 0 is the Pareto front.
    """
    no_worse_NN = (values_N2[:, None] <= values_N2[None]).all(-1)
    better_NN = (values_N2[:, None] < values_N2[None]).any(-1)
    return (no_worse_NN & better_NN).sum(0)


def hypervolume(values_N2: NDArray, reference_2: Sequence[float] | NDArray) -> float:
    """Area that N points dominate below and left of the reference point."""
    area, ceiling = 0.0, reference_2[1]
    inside = values_N2[(values_N2 < np.asarray(reference_2)).all(-1)]
    for x, y in inside[np.lexsort((inside[:, 1], inside[:, 0]))]:
        if y < ceiling:
            area += (reference_2[0] - x) * (ceiling - y)
            ceiling = y
    return float(area)


def choose(values_N2: NDArray) -> int:
    """Our choice: the point of the front that is nearest to the ideal, each objective scaled to [0, 1] over the front.

    Compromise programming (Zeleny 1973) with Euclidean distance. The scale is the front's, so that bad trials
    cannot move the choice. Both ends of a front are equally far; where no point between them is nearer, the end with
    the better second objective (LDS) is taken. Returns the number of the point.
    """
    front = np.flatnonzero(dominated_by(values_N2) == 0)
    low, high = values_N2[front].min(0), values_N2[front].max(0)
    distance = np.linalg.norm((values_N2[front] - low) / np.where(high > low, high - low, 1), axis=1)
    nearest = front[distance <= distance.min() + 1e-9]
    return int(nearest[values_N2[nearest, 1].argmin()])


def standardised(values_N: NDArray) -> NDArray:
    """(values - mean) / standard deviation over the trials; 0 where all are equal."""
    return (values_N - values_N.mean()) / (values_N.std() or 1)


def paper_products(mse_N: NDArray, gap_N: NDArray) -> NDArray:
    """|Z_MSE| |Z_(1-LDS)| of the values standardised over all trials, (N,): the paper chooses the smallest.

    For comparison only: it favours whatever is average in either objective.
    """
    return np.abs(standardised(mse_N) * standardised(gap_N))
