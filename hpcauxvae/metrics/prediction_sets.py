"""Which class it is, how probably so, and the set of classes that holds the right one as often as it says.

The shares that the latents tell become probabilities by a softmax whose temperature (Guo et al. 2017, ICML) is fitted;
a set has the classes that are probable enough (Sadinle et al. 2019, JASA 114). As in conformal.py each sample is judged
by lines and a temperature of others. Shape suffixes: N samples, M of the calibration, T columns, K classes, T + 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.conformal import FOLDS, LEVELS, folds, lines, on_lines, p_value, quantile
from hpcauxvae.metrics.intervals import Array

_COLDEST, _HOTTEST = 0.01, 10.0
"""A temperature below which a class is as good as certain, and above which all are alike: shares are 0 to 1."""


@dataclass(frozen=True)
class ClassReader:
    """A class from the means of the latents of each class but the first."""

    line_T2: Array
    """Slope and offset of each column, 1 for its class and 0 for others, on its latent."""
    temperature: float
    score_M: Array
    """Of M samples, in increasing order: 1 less the probability of the right class."""

    def __call__(self, z_NT: NDArray) -> tuple[NDArray[np.int64], Array, list[NDArray[np.bool_]]]:
        """The number of the most probable class (N,), its probability (N,), and for each of LEVELS which classes its
        set has, (N, K).

        The most probable class is in every set; all are where too few samples tell.
        """
        p_NK = probabilities(shares(on_lines(self.line_T2, z_NT)), self.temperature)
        told_N = p_NK.argmax(1)
        first_NK = told_N[:, None] == np.arange(p_NK.shape[1])
        sets = [(1 - p_NK <= quantile(self.score_M, level)) | first_NK for level in LEVELS]
        return told_N, p_NK.max(1), sets

    def level(self, z_NT: NDArray, class_N: NDArray) -> Array:
        """Of the smallest set that has the class of this number, (N,): 0 where it is the most probable one. NaN where
        the number is below 0: not known."""
        p_NK = probabilities(shares(on_lines(self.line_T2, z_NT)), self.temperature)
        level_N = 1 - p_value(self.score_M, 1 - _of(p_NK, class_N))
        level_N[p_NK.argmax(1) == class_N] = 0
        return np.where(class_N < 0, np.nan, level_N)


def fitted_classes(class_N: NDArray, columns_NT: NDArray, z_NT: NDArray) -> ClassReader:
    """A reader of classes, which have these numbers, below 0 where not known. Folds as in `conformal.fitted`."""
    known = np.flatnonzero(class_N >= 0)
    class_N, columns_NT, z_NT = class_N[known], columns_NT[known], z_NT[known]
    scores, fold_N = [], folds(len(known))
    for fold in range(FOLDS):
        own, others = fold_N == fold, fold_N != fold
        told_NK = shares(on_lines(lines(columns_NT[others], z_NT[others]), z_NT))
        p_NK = probabilities(told_NK[own], _temperature(told_NK[others], class_N[others]))
        scores.append(1 - _of(p_NK, class_N[own]))
    line_T2 = lines(columns_NT, z_NT)
    temperature = _temperature(shares(on_lines(line_T2, z_NT)), class_N)
    return ClassReader(line_T2, temperature, np.sort(np.concatenate(scores)))


def shares(columns_NT: NDArray) -> Array:
    """Of each class, (N, K): the first has what the others leave to 1."""
    return np.concatenate([1 - columns_NT.sum(1, keepdims=True), columns_NT], 1)


def probabilities(share_NK: NDArray, temperature: float) -> Array:
    """Of each class, (N, K)."""
    from scipy.special import softmax

    return np.asarray(softmax(share_NK / temperature, axis=1))


def _of(p_NK: NDArray, class_N: NDArray) -> Array:
    return np.asarray(p_NK[np.arange(len(p_NK)), class_N])


def _temperature(share_NK: NDArray, class_N: NDArray) -> float:
    """That under which the right classes are most probable."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if len(class_N) == 0:
        return _HOTTEST

    def surprise(log_temperature: float) -> float:
        return -float(_of(log_softmax(share_NK / np.exp(log_temperature), axis=1), class_N).mean())

    found = minimize_scalar(surprise, bounds=np.log([_COLDEST, _HOTTEST]), method="bounded", options={"xatol": 0.01})
    return float(np.exp(found.x))
