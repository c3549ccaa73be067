"""What is read of the true factor, where the errors of its labels are known: a label is y = u + e, e of variance s^2.

Shape suffix: N samples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import LEAST_RELIABLE
from hpcauxvae.metrics.intervals import Array, Score, jackknifed
from hpcauxvae.types import Factor

_ROUNDS = 30
"""In which the weights settle."""
_TOO_SMALL = 1.6
"""Times half a 95 % interval: chance gets so far in one of a thousand sets."""


def read_true(label_N: NDArray, z_N: NDArray, error_N: NDArray, factor: Factor) -> dict[str, Score]:
    """`r`, `slope` and `error` of z_N beside the true factor; the error in the unit of `factor.span`.

    label_N: NaN where not known; error_N: its standard deviation s, 0 where exact; all on the scale from 0 to 1, in
    random order.

    From the moments of the labels those of their errors are taken off (Spearman 1904; Fuller 1987, Measurement Error
    Models, section 1.2), which supposes that errors of labels go neither with the factor nor with what is read. What is
    left of good and of poor labels is as much, but poor ones tell it badly: each sample has the weight 1 / (error^2 +
    s^2)^2, the best for normal errors. That supposes, too, that images with poor labels are read as well as others;
    where the error so found is too small, by `_TOO_SMALL`, beside that in which all weigh alike, all weigh alike.
    """
    known = ~np.isnan(label_N)
    y_N, z_N, s_N = (of[known].astype(np.float64) for of in (label_N, z_N, error_N))
    width = factor.span[0]

    def found(weight_N: Array) -> dict[str, Score]:
        of_N3 = np.stack([z_N, s_N, weight_N], 1)

        def scored(statistic: Callable[[Array, Array], float], limits: tuple[float, float]) -> Score:
            return jackknifed(statistic, y_N, of_N3, limits)

        return {
            "r": scored(_r, (-1, 1)),
            "slope": scored(_slope, (-np.inf, np.inf)),
            "error": scored(lambda y_N, of_N3: width * float(np.sqrt(max(_square(y_N, of_N3), 0))), (0, np.inf)),
        }

    alike = found(np.ones_like(y_N))
    best = found(_weights(y_N, z_N, s_N))
    value, low = alike["error"]["value"], alike["error"]["low"]
    return alike if best["error"]["value"] < value - _TOO_SMALL * (value - low) else best


class Likely(NamedTuple):
    """What labels with errors leave to be known of a factor."""

    guess_N: Array
    """The best linear guess from each label; NaN where there is none."""
    share: float
    """Of the variance of the true factor, that of the guesses."""
    unknown: float
    """Variance of the true factor about them."""

    def of_true(self, found: dict[str, Any], width: float) -> dict[str, Any]:
        """Scores `r` and `error` beside guesses as they would be beside the true factor; slopes are the same already.

        width: of the range from 0 to 1 in the unit of the error. Supposes that what is read goes with the guess by the
        true factor alone.
        """

        def each(score: Score, do: Callable[[float], float]) -> Score:
            return Score(value=do(score["value"]), low=do(score["low"]), high=do(score["high"]), n=score["n"])

        return found | {
            "r": each(found["r"], lambda r: float(np.clip(r / np.sqrt(self.share), -1, 1))),
            "error": each(found["error"], lambda off: float(np.sqrt(max(off**2 - width**2 * self.unknown, 0)))),
        }


def likely(label_N: NDArray, error_N: NDArray) -> Likely:
    """A label is drawn to the mean of all by its share of the variance: regression calibration (Carroll et al. 2006,
    Measurement Error in Nonlinear Models, chapter 4). What goes with the guess goes with the factor by the same slope.

    As `read_true`.
    """
    known = ~np.isnan(label_N)
    square_N, variance = np.square(error_N, dtype=np.float64), float(label_N[known].var())
    of_true = max(variance - float(square_N[known].mean()), LEAST_RELIABLE * variance)
    if of_true == 0 or not square_N[known].any():
        return Likely(np.asarray(label_N, np.float64), 1.0, 0.0)
    part_N = of_true / (of_true + square_N)
    mean, share = float(label_N[known].mean()), float(part_N[known].mean())
    return Likely(mean + part_N * (label_N - mean), share, of_true * (1 - share))


def _weights(y_N: Array, z_N: Array, s_N: Array) -> Array:
    """Under which the mean of (z - y)^2 - s^2 is known best."""
    least = LEAST_RELIABLE * float(np.square(z_N - y_N).mean()) or 1.0
    weight_N, square = np.ones_like(y_N), 0.0
    for _ in range(_ROUNDS):
        square = max(_square(y_N, np.stack([z_N, s_N, weight_N], 1)), least)
        weight_N = np.square(square / (square + s_N**2))
    return weight_N


def _square(y_N: Array, of_N3: Array) -> float:
    """Mean square of z less the true factor."""
    z_N, s_N, weight_N = of_N3.T
    return float(np.average((z_N - y_N) ** 2 - s_N**2, weights=weight_N))


def _moments(y_N: Array, of_N3: Array) -> tuple[float, float, float]:
    """Variances of the true factor and of z, and their covariance."""
    z_N, s_N, weight_N = of_N3.T
    table = np.cov(y_N, z_N, ddof=0, aweights=weight_N)
    of_errors = float(np.average(s_N**2, weights=weight_N))
    return (
        max(float(table[0, 0]) - of_errors, LEAST_RELIABLE * float(table[0, 0])),
        float(table[1, 1]),
        float(table[0, 1]),
    )


def _slope(y_N: Array, of_N3: Array) -> float:
    of_true, _, both = _moments(y_N, of_N3)
    return both / of_true if of_true > 0 else 0.0


def _r(y_N: Array, of_N3: Array) -> float:
    of_true, of_z, both = _moments(y_N, of_N3)
    return float(np.clip(both / np.sqrt(of_true * of_z), -1, 1)) if of_true * of_z > 0 else 0.0
