"""Columns that follow from another one, as the cosine of an angle does from the angle, or a size from a class.

N samples, F factors.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.angles import themselves

_LEFT = 0.01
"""Share of the variance of a column that a neighbour leaves at most."""
_FEWEST, _MOST = 30, 20_000
"""Samples that tell, and are looked at."""


def functions_of(values_NF: NDArray, sources: Iterable[int], others: Iterable[int]) -> list[int]:
    """Which of the other columns follow from one of the sources, or are the angle of two of them; in their order."""
    sources, angles = set(sources), themselves(values_NF)
    some_NF = values_NF[:: -(-len(values_NF) // _MOST) or 1]
    return [
        other
        for other in others
        if set(angles.get(other, (None,))) <= sources
        or any(follows(some_NF[:, other], some_NF[:, source]) for source in sources)
    ]


def follows(values_N: NDArray, from_N: NDArray) -> bool:
    """Whether samples that are equal in one column, or neighbours where few are equal, are all but equal in another.

    The mean squared difference of neighbours is half the variance that is left (von Neumann 1941).
    """
    known = np.isfinite(values_N) & np.isfinite(from_N)
    values_N, from_N = values_N[known], from_N[known]
    order = np.argsort(from_N, kind="stable")
    step_N, change_N = np.diff(from_N[order]), np.diff(values_N[order])
    if np.count_nonzero(step_N == 0) > len(step_N) / 2:
        change_N = change_N[step_N == 0]
    variance = float(values_N.var()) if len(values_N) else 0.0
    return len(change_N) >= _FEWEST and variance > 0 and float(np.square(change_N).mean()) / 2 < _LEFT * variance
