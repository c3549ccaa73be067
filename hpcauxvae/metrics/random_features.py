"""One number for what all residual latents together know of all factors together, products of factors included.

Shape suffixes: N samples, D auxiliary factors, R residual latents, G groups, P functions of the factors, M features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes, columns_of
from hpcauxvae.metrics.intervals import GROUPS, Array, Score, jackknife_score
from hpcauxvae.metrics.objects import Numbers, mixed

LARGEST = 32_768
"""Samples used at most: the floor falls with their number."""
FEATURES = 512
PART = 64
"""Features that are computed at once."""
WAVES = 8
"""Random waves among the functions of the factors."""
ORDERS = 20
"""Other orders of the objects, which tell what chance gives."""


def random_features(codes: Codes) -> dict[str, Any]:
    """`rms`: root of the mean squared correlation of features of z and functions of u, less what sampling adds.

    The features are cos(w z + b) of all residual latents (Rahimi and Recht 2007), each latent in units of its own
    spread, w of random direction and a length of .5 to 2.5; their mean and variance under the posterior are closed
    forms, so that no noise is drawn. The functions of the factors, of unit scale: each of them, the products of each
    two, and `WAVES` cosines of all. n pairs that know nothing of each other have a mean squared correlation of
    A / (n - 1), A the share of a feature's variance that its mean over the posterior has. `floor`: what codes that know
    nothing stay below in 19 of 20 cases, from the objects in other orders; these also tell what sampling adds where
    objects have several samples. Nothing without residual latents, or where fewer than 40 objects have all factors.
    """
    d = codes.aux_ND.shape[1]
    rows = np.flatnonzero(~np.isnan(codes.aux_ND).any(1))[:LARGEST]
    if codes.mean_NZ.shape[1] == d or len(rows) == 0:
        return {}
    shown_N = codes.objects(rows)
    if shown_N[-1] + 1 < 2 * GROUPS:
        return {}
    rng = np.random.default_rng([codes.seed, 4])
    of_factors_NP = _functions(codes, rows, rng)
    mean_NR, variance_NR = codes.mean_NZ[rows, d:].astype(np.float64), np.exp(codes.logvar_NZ[rows, d:], dtype=float)
    scale_R = np.sqrt(mean_NR.var(0) + variance_NR.mean(0))
    scale_R = np.where(scale_R > 0, scale_R, 1)
    mean_NR, variance_NR = (mean_NR - mean_NR.mean(0)) / scale_R, variance_NR / scale_R**2
    orders = [mixed(shown_N, rng) for _ in range(ORDERS)]
    squares = np.zeros(1 + GROUPS + ORDERS)  # of all samples, of all but a group, of all in another order
    for _ in range(FEATURES // PART):
        w_RM = rng.standard_normal((mean_NR.shape[1], PART))
        w_RM *= rng.uniform(0.5, 2.5, PART) / np.linalg.norm(w_RM, axis=0)
        phase_NM = mean_NR @ w_RM + rng.uniform(0, 2 * np.pi, PART)
        width_NM = variance_NR @ w_RM**2
        feature_NM = np.cos(phase_NM) * np.exp(-width_NM / 2)
        within_NM = (1 + np.cos(2 * phase_NM) * np.exp(-2 * width_NM)) / 2 - feature_NM**2
        squares += PART / FEATURES * _squares(of_factors_NP, feature_NM, within_NM, shown_N, orders)
    if shown_N[-1] + 1 < len(rows):
        squares -= squares[1 + GROUPS :].mean()
    whole, others, shuffled = squares[0], squares[1 : 1 + GROUPS], squares[1 + GROUPS :]
    found = jackknife_score(float(whole), others, len(rows), (-np.inf, np.inf))
    value, low, high = (float(np.sqrt(max(end, 0))) for end in (found["value"], found["low"], found["high"]))
    floor = float(np.sqrt(max(shuffled.mean() + 1.645 * shuffled.std(ddof=1), 0)))
    return {"rms": Score(value=value, low=low, high=high, n=len(rows)), "floor": floor}


def _functions(codes: Codes, rows: NDArray, rng: np.random.Generator) -> Array:
    """Functions of the factors, (N, P), each of mean 0 and variance 1; those that do not vary left out."""
    kinds = codes.aux_kinds or ["continuous"] * codes.aux_ND.shape[1]
    factors = [columns_of(codes.aux_ND[rows, j], kind) for j, kind in enumerate(kinds)]
    return functions(np.concatenate(factors, 1), rng)


def functions(values_NF: Array, rng: np.random.Generator) -> Array:
    """Of columns that are known, as `random_features` has them: (N, P), each of mean 0 and variance 1."""
    x_NF = unit(values_NF)
    first, second = np.triu_indices(x_NF.shape[1])
    v_FW = rng.standard_normal((x_NF.shape[1], WAVES))
    v_FW *= rng.uniform(0.6, 3, WAVES) / np.linalg.norm(v_FW, axis=0)
    waves_NW = np.cos(x_NF @ v_FW + rng.uniform(0, 2 * np.pi, WAVES))
    return unit(np.concatenate([x_NF, x_NF[:, first] * x_NF[:, second], waves_NW], 1))


def unit(values_NP: Array) -> Array:
    """The columns that vary, each of mean 0 and variance 1."""
    deviation_P = values_NP.std(0)
    varies = deviation_P > 1e-9 * np.abs(values_NP).max(0)
    return np.asarray((values_NP - values_NP.mean(0))[:, varies] / deviation_P[varies])


def _squares(
    of_factors_NP: Array, feature_NM: Array, within_NM: Array, shown_N: Numbers, orders: list[Numbers]
) -> Array:
    """Mean over all pairs of r^2 - A / (n - 1): of all samples, without each group, and of each order."""
    n = len(feature_NM)
    edges = np.searchsorted(shown_N, np.arange(GROUPS) * (shown_N[-1] + 1) // GROUPS)
    sums = [
        np.add.reduceat(values, edges)
        for values in (of_factors_NP, of_factors_NP**2, feature_NM, feature_NM**2, within_NM)
    ]
    parts = zip(np.split(of_factors_NP, edges[1:]), np.split(feature_NM, edges[1:]), strict=True)
    sums.append(np.stack([f.T @ e for f, e in parts]))
    counts = np.diff([*edges, n])
    whole = [part.sum(0) for part in sums]
    found = [_mean_square(n, *whole)]
    found += [_mean_square(n - counts[g], *(w - s[g] for w, s in zip(whole, sums, strict=True))) for g in range(GROUPS)]
    f, ff, e, ee, within, _ = whole
    for order in orders:
        other_NP = of_factors_NP[order]
        if shown_N[-1] + 1 < n:  # some rows come more often, others not at all
            f, ff = other_NP.sum(0), np.square(other_NP).sum(0)
        found.append(_mean_square(n, f, ff, e, ee, within, other_NP.T @ feature_NM))
    return np.array(found)


def _mean_square(n: int, f: Array, ff: Array, e: Array, ee: Array, within: Array, fe: Array) -> float:
    """From the sums of functions f (P), features e and their variances under the posterior (M), and products."""
    var_f, between = ff / n - (f / n) ** 2, ee / n - (e / n) ** 2
    total = between + within / n
    share = np.divide(between, total, out=np.zeros_like(total), where=total > 0)
    scale = var_f[:, None] * total
    covariance = fe / n - f[:, None] * e / n**2
    square = np.divide(covariance**2, scale, out=np.zeros_like(scale), where=scale > 0)
    return float((square - share / (n - 1)).mean())
