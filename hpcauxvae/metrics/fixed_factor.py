"""The FactorVAE score (Kim & Mnih 2018) and the beta-VAE score (Higgins et al. 2017): which factor was held fixed?

Both show a classifier what a batch has in common whose samples share one factor. A continuous factor is shared by
samples whose values are next to one another in rank. Shape suffixes: N samples, D auxiliary factors, Z latents,
V votes, M samples of a vote.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Score, parts_score

VOTES = 800
"""Batches of each part shown to the classifier, half of them to fit it and half to test it."""
PARTS = 5
BATCH = 64
"""Samples of a batch for the FactorVAE score; pairs of a batch for the beta-VAE score."""
SHARE = 50
"""A factor is shared by samples within 1 / SHARE of a part, in order of its values,"""
NARROWEST = 4
"""or by so many neighbours if those are more."""


def factor_vae(codes: Codes) -> Score:
    """Accuracy with which the latent of least relative variance names the fixed factor, by majority, on means.

    With D factors a code that knows nothing scores about 1 / D, and a little more where its majorities are accidents.
    """
    return _of_parts(codes, _factor_vae)


def beta_vae(codes: Codes) -> Score:
    """Accuracy with which a linear classifier names the fixed factor from the mean of |mean_1 - mean_2| over pairs.

    With D factors a code that knows nothing scores about 1 / D.
    """
    return _of_parts(codes, _beta_vae)


Accuracy = Callable[[NDArray, NDArray, np.random.Generator], float]


def _of_parts(codes: Codes, accuracy: Accuracy) -> Score:
    """Mean accuracy over separate parts of the samples; their spread gives the interval, all sources of error included.

    accuracy: means of the latents that vary, each in units of its own standard deviation over all samples, and factors
    -> share of right votes. Latents that are off are pruned, as Kim and Mnih do with those that fell to their prior.
    A factor measured in fewer than two samples of a part is left out there, and a part in which only one of several
    factors is left counts not at all: there is nothing to choose. The interval is all from 0 to 1 where fewer than two
    parts are left.
    """
    alive_Z = ~codes.off_Z
    n, d = codes.aux_ND.shape
    chance = 1 / d
    if not alive_Z.any():
        return Score(value=chance, low=chance, high=chance, n=n)
    relative_NZ = codes.mean_NZ[:, alive_Z] / codes.mean_NZ[:, alive_Z].std(0, dtype=np.float64)
    found = []
    object_N = codes.objects(np.arange(n))
    parts = min(PARTS, int(object_N[-1] + 1) // 2)
    for part in range(parts):
        rng = np.random.default_rng([codes.seed, part])
        rows = np.flatnonzero(object_N % parts == part)
        aux_ND = codes.aux_ND[rows]
        known_D = np.count_nonzero(~np.isnan(aux_ND), 0) >= 2
        if np.count_nonzero(known_D) >= min(2, d):
            found.append(accuracy(relative_NZ[rows], aux_ND[:, known_D], rng))
    if len(found) < 2:
        return Score(value=found[0] if found else chance, low=0.0, high=1.0, n=n)
    return parts_score(np.array(found), n, (0, 1))


def _sharing(aux_ND: NDArray, size: int, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """Rows (V, size) of samples that share a factor, the number of that factor (V,), and which votes to fit (V,)."""
    factor_V = np.arange(VOTES) % aux_ND.shape[1]
    rows_VM = np.empty((VOTES, size), np.int64)
    for j, column in enumerate(aux_ND.T):
        order = np.argsort(column, kind="stable")[: np.count_nonzero(~np.isnan(column))]  # NaN is sorted last
        width = min(max(len(order) // SHARE, NARROWEST), len(order))
        votes = np.flatnonzero(factor_V == j)
        start_V = rng.integers(0, len(order) - width + 1, len(votes))
        rows_VM[votes] = order[start_V[:, None] + rng.integers(0, width, (len(votes), size))]
    return rows_VM, factor_V, np.arange(VOTES) % (2 * aux_ND.shape[1]) < aux_ND.shape[1]


def _factor_vae(relative_NZ: NDArray, aux_ND: NDArray, rng: np.random.Generator) -> float:
    rows_VM, factor_V, fitted = _sharing(aux_ND, BATCH, rng)
    quietest_V = relative_NZ[rows_VM].var(1).argmin(1)
    counts_ZD = np.zeros((relative_NZ.shape[1], aux_ND.shape[1]))
    np.add.at(counts_ZD, (quietest_V[fitted], factor_V[fitted]), 1)
    return float((counts_ZD.argmax(1)[quietest_V[~fitted]] == factor_V[~fitted]).mean())


def _beta_vae(relative_NZ: NDArray, aux_ND: NDArray, rng: np.random.Generator) -> float:
    from sklearn.linear_model import LogisticRegression  # half a second, which training does without

    if aux_ND.shape[1] == 1:
        return 1.0
    rows_VM, factor_V, fitted = _sharing(aux_ND, 2 * BATCH, rng)
    first, second = relative_NZ[rows_VM[:, :BATCH]], relative_NZ[rows_VM[:, BATCH:]]
    distance_VZ = np.abs(first - second).mean(1)
    classifier = LogisticRegression(C=100, max_iter=1000).fit(distance_VZ[fitted], factor_V[fitted])
    return float(classifier.score(distance_VZ[~fitted], factor_V[~fitted]))
