"""DCI: disentanglement, completeness and informativeness (Eastwood & Williams 2018), with forests as regressors.

Shape suffixes: N samples, D auxiliary factors, Z latents, G groups left out.
"""

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Array, Score, jackknife_score, parts_score

LARGEST = 4000
"""Samples beyond this are not used: they would cost more than they tell."""
TREES = 20
GROUPS = 10
"""Fewer than of other scores: each costs a forest for each factor."""


def dci(codes: Codes) -> dict[str, Score]:
    """The three scores, on posterior means; importances are those of extremely randomised trees (Geurts 2006).

    `disentanglement`: does each latent tell of one factor only? `completeness`: is each factor told by one latent only?
    Each is 1 less the entropy of the shares of importance, in units of its maximum; latents count by their importance.
    `informativeness`: R^2 of the factors on samples that were not fitted, mean over factors.
    """
    rows = [np.flatnonzero(~np.isnan(column))[:LARGEST] for column in codes.aux_ND.T]
    shown = [codes.objects(of_factor) for of_factor in rows]
    fewest = min(int(number_N[-1]) + 1 for number_N in shown)
    groups = min(GROUPS, fewest // 2)  # all factors have the same number, of at least two objects each
    fits = [
        _fit(codes.live_NZ[row_N], column[row_N], number_N * groups // (number_N[-1] + 1), codes.seed)
        for column, row_N, number_N in zip(codes.aux_ND.T, rows, shown, strict=True)
    ]
    importance_GDZ = np.stack([importance for importance, _ in fits], 1)
    explained_G = np.stack([explained for _, explained in fits], 1).mean(1)
    share_GZ = importance_GDZ.sum(1) / np.maximum(importance_GDZ.sum((1, 2))[:, None], 1e-300)
    n = min(len(codes.mean_NZ), LARGEST)
    by_latent_G = (share_GZ * _concentration(importance_GDZ.swapaxes(1, 2))).sum(1)
    by_factor_G = _concentration(importance_GDZ).mean(1)
    return {
        "disentanglement": jackknife_score(float(by_latent_G.mean()), by_latent_G, n, (0, 1)),
        "completeness": jackknife_score(float(by_factor_G.mean()), by_factor_G, n, (0, 1)),
        "informativeness": parts_score(explained_G, n, (-np.inf, 1)),
    }


def _fit(mean_NZ: NDArray, target_N: NDArray, group_N: NDArray, seed: int) -> tuple[Array, Array]:
    """For each group left out, 0 to G - 1: the importances (G, Z) and R^2 on that group (G,)."""
    from sklearn.ensemble import ExtraTreesRegressor  # half a second, which training does without

    importances, explained = [], []
    for left_out in range(group_N[-1] + 1):
        fitted, held = group_N != left_out, group_N == left_out
        forest = ExtraTreesRegressor(TREES, min_samples_leaf=3, random_state=seed, n_jobs=1)
        forest.fit(mean_NZ[fitted], target_N[fitted])
        importances.append(forest.feature_importances_)
        error = np.square(target_N[held] - forest.predict(mean_NZ[held])).mean()
        explained.append(1 - error / (np.var(target_N) or 1))
    return np.stack(importances), np.array(explained)


def _concentration(weights: Array) -> Array:
    """1 - entropy of the last axis' shares over its maximum: (..., M) -> (...); 1 where M = 1, 0 where all are 0."""
    total = weights.sum(-1, keepdims=True)
    p = weights / np.where(total > 0, total, 1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
    return np.asarray((total[..., 0] > 0) * (1 - entropy / max(np.log(weights.shape[-1]), 1e-300)))
