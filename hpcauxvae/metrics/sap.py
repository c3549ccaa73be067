"""Separated attribute predictability (Kumar, Sattigeri and Balakrishnan 2018): the gap between the two best latents.

A latent's grade for a continuous factor is R^2 of the linear regression of the factor on it; for a categorical one, the
balanced accuracy of the best linear classifier, that is of thresholds on the latent. Shape suffixes: N samples, K
classes, U different values of a latent, D auxiliary factors, Z latents.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Array, Correlations, Disturbed, Score, disturbed, mean_score

FOLDS = 5
"""The samples are cut into so many parts; each part is graded by thresholds fitted to the others."""


def predictability_gap(correlations: Array) -> Array:
    """SAP of correlations (..., D, Z): mean over factors of the gap between the two best R^2.

    R^2 of the linear regression of a factor on one latent is the squared correlation. With one latent the second best
    is 0.
    """
    squares = np.sort(np.square(correlations), -1)
    second = squares[..., -2] if squares.shape[-1] > 1 else 0
    return (squares[..., -1] - second).mean(-1)


def thresholds(latent_N: NDArray, class_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], Array]:
    """The classes in the order of their means, (K,), and the K - 1 rising thresholds that part them best.

    Best is the balanced accuracy on these samples: the mean over classes of the share of the class that lies between
    its two thresholds. Found exactly, class by class along the sorted values. Classes are 0..K-1, none of them empty.
    """
    count_K = np.bincount(class_N)
    order_K = np.argsort(np.bincount(class_N, latent_N) / count_K, kind="stable")
    value_U, place_N = np.unique(latent_N, return_inverse=True)
    below_KU = np.zeros((len(count_K), len(value_U) + 1))  # share of a class that lies below each cut
    np.add.at(below_KU, (class_N, place_N + 1), 1)
    below_KU = np.cumsum(below_KU, 1) / count_K[:, None]
    best_U, places, cuts = below_KU[order_K[0]], np.arange(len(value_U) + 1), []
    for k in order_K[1:]:
        gain_U = best_U - below_KU[k]  # of all classes so far, if this one begins here
        top_U = np.maximum.accumulate(gain_U)
        cuts.append(np.maximum.accumulate(np.where(gain_U == top_U, places, 0)))
        best_U = below_KU[k] + top_U
    place = len(value_U)
    chosen = [place := int(start_U[place]) for start_U in reversed(cuts)][::-1]
    ends = np.concatenate([[-np.inf], value_U, [np.inf]])
    return order_K, np.array([(ends[place] + ends[place + 1]) / 2 for place in chosen])


def right_answers(latent_N: NDArray, class_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each sample's class, 0..K-1, is told by thresholds that were fitted without it, (N,)."""
    right_N = np.zeros(len(class_N), bool)
    for fold in range(FOLDS):
        out_N = np.arange(len(class_N)) % FOLDS == fold
        known, fitted = np.unique(class_N[~out_N], return_inverse=True)
        order_K, cuts = thresholds(latent_N[~out_N], fitted)
        told = known[order_K[np.searchsorted(cuts, latent_N[out_N], side="right")]]
        right_N[out_N] = told == class_N[out_N]
    return right_N


def category_gap(means_NZ: NDArray, factor_N: NDArray) -> Score:
    """SAP of one categorical factor, NaN where not measured: the gap between the two best balanced accuracies.

    With one latent the second best is chance, 1/K. The interval is for these classifiers, normal.
    """
    return mean_score(category_gaps(means_NZ, factor_N))


def category_gaps(means_NZ: NDArray, factor_N: NDArray) -> Array:
    """What each sample adds to `category_gap`, which is their mean: one number for each in which it is measured."""
    measured = ~np.isnan(factor_N)
    _, class_N, count_K = np.unique(factor_N[measured], return_inverse=True, return_counts=True)
    weight_N = len(class_N) / (len(count_K) * count_K[class_N])
    told_ZN = [weight_N * right_answers(latent_N[measured], class_N) for latent_N in means_NZ.T]
    best, *rest = sorted(told_ZN, key=lambda told_N: -told_N.mean())
    return np.asarray(best - (rest[0] if rest else 1 / len(count_K)))


def sap(codes: Codes) -> Score:
    """SAP on posterior means, averaged over the *auxiliary* factors only.

    With categorical factors among them the interval is the mean of the factors' intervals: an upper bound, as if their
    errors went together.
    """
    discrete_D = categorical(codes)
    n, parts = len(codes.mean_NZ), []
    if not discrete_D.all():
        score = of_others(codes).score(n, (0, 1))
        if not discrete_D.any():
            return score
        parts += [score] * int(np.count_nonzero(~discrete_D))
    parts += [category_gap(codes.live_NZ, codes.aux_ND[:, j]) for j in np.flatnonzero(discrete_D)]
    return mean_of(parts, n, (0, 1))


def categorical(codes: Codes) -> NDArray[np.bool_]:
    """Which auxiliary factors are categorical, (D,)."""
    return np.array([kind == "categorical" for kind in codes.aux_kinds or ["continuous"] * len(codes.aux_names)])


def of_others(codes: Codes) -> Disturbed:
    """SAP of the factors that are not categorical."""
    values, replicates, n_D = codes.of_means
    others_D = ~categorical(codes)
    some = Correlations(values[:, others_D], replicates[:, :, others_D], n_D[others_D])
    return disturbed(predictability_gap, some, codes.seed)


def mean_of(parts: Sequence[Score], n: int, limits: tuple[float, float]) -> Score:
    """The mean of the factors' scores, and of their intervals, kept within limits."""
    value, low, high = (float(np.mean([part[end] for part in parts])) for end in ("value", "low", "high"))
    return Score(value=value, low=max(low, limits[0]), high=min(high, limits[1]), n=n)
