"""How often a class is told, and how far an angle or a value is missed: errors in the factor's own terms.

Shape suffix: N samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.intervals import Array, Score, mean_score, share_score
from hpcauxvae.types import Factor

FEWEST = 2
"""Samples that an interval needs."""


def agreement(values_N: NDArray, told_N: NDArray, factor: Factor) -> dict[str, Any]:
    """What is told of a factor beside its values, both in its unit; NaN where not measured.

    `accuracy` of a categorical factor, the share of samples of which the class is told; of any other the mean absolute
    `error` in its unit, of a periodic one the shorter way round. `chance`: the same of the constant answer that is
    right most often, or nearest: the commonest class, the mean direction, the median. Empty with fewer than 2 samples.
    """
    known = ~np.isnan(values_N) & ~np.isnan(told_N)
    values_N, told_N = values_N[known], told_N[known]
    if len(values_N) < FEWEST:
        return {}
    if factor.kind == "categorical":
        share = np.unique(values_N, return_counts=True)[1].max() / len(values_N)
        return {"accuracy": share_score(1 - misses(values_N, told_N, factor)), "chance": float(share)}
    return {
        "error": _above_0(mean_score(misses(values_N, told_N, factor))),
        "chance": float(misses(values_N, _constant(values_N, factor), factor).mean()),
    }


def _above_0(score: Score) -> Score:
    score["low"] = max(0.0, score["low"])
    return score


def misses(values_N: NDArray, told_N: NDArray | float, factor: Factor) -> Array:
    """Absolute differences (N,), of an angle the shorter way round; of classes 1 where another one is told, else 0."""
    if factor.kind == "categorical":
        return np.asarray(values_N != told_N, np.float64)
    apart_N = np.abs(values_N - told_N)
    if factor.kind == "periodic":
        turn = factor.high - factor.low
        apart_N = np.minimum(apart_N % turn, -apart_N % turn)
    return np.asarray(apart_N, np.float64)


def _constant(values_N: NDArray, factor: Factor) -> float:
    if factor.kind != "periodic":
        return float(np.median(values_N))
    turns = np.angle(np.exp(2j * np.pi * factor.scale(values_N)).mean()) / (2 * np.pi)
    return float(factor.unscale(turns % 1))
