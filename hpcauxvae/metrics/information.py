"""MIG (Chen et al. 2018) and modularity (Ridgeway & Mozer 2018), from mutual informations of binned columns.

Shape suffixes: N samples, D auxiliary factors, Z latents, G groups left out, B bins.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import GROUPS, Array, Score, jackknife_score

BINS = 20
"""Bins of equal width from the smallest to the largest value, as in Locatello et al. (2019); a factor of at most so
many different values has a bin for each."""


def mig(codes: Codes) -> Score:
    """Mutual information gap: (largest - second largest I(u_j; z)) / H(u_j) over latents, mean over factors, on means.

    The information of n binned pairs that are independent is about (B - 1)^2 / (2 n) nats, not 0: small sets
    overestimate both informations alike.
    """
    return _score(codes, _gap)


def modularity(codes: Codes) -> Score:
    """1 - sum over the factors but its best one of I^2 / ((D - 1) best^2), mean over latents that vary, on means.

    1 where each latent tells of one factor at most; with one factor nothing can be mixed and it is 1.
    """
    return _score(codes, _modularity)


def _score(codes: Codes, statistic: Callable[[Array], float]) -> Score:
    """Of a statistic of the tables of counts, summed over groups."""
    tables = tables_of(codes)
    whole = tables.sum(0)
    return jackknife_score(
        statistic(whole), np.array([statistic(whole - group) for group in tables]), len(codes.mean_NZ), (0, 1)
    )


def tables_of(codes: Codes) -> Array:
    """Counts of each pair of bins (G, D, Z, B, B): factor's bin, latent's bin; samples without the factor left out."""
    d, z = codes.aux_ND.shape[1], codes.mean_NZ.shape[1]
    u_ND = np.stack([_binned(column, True) for column in codes.aux_ND.T], 1)
    z_NZ = np.stack([_binned(column, False) for column in codes.live_NZ.T], 1)
    tables = np.zeros((GROUPS, d, z, BINS, BINS))
    for j in range(d):
        known = np.flatnonzero(u_ND[:, j] >= 0)
        group = np.arange(len(known)) * GROUPS // max(len(known), 1)  # each has some, however seldom it is measured
        for latent in range(z):
            pair = (group * BINS + u_ND[known, j]) * BINS + z_NZ[known, latent]
            tables[:, j, latent] = np.bincount(pair, minlength=GROUPS * BINS**2).reshape(GROUPS, BINS, BINS)
    return tables


def mutual_information(tables: Array) -> Array:
    """I in nats of tables of counts (..., B, B): sum of p log(p / (p_row p_column))."""
    p = tables / tables.sum((-2, -1), keepdims=True)
    independent = p.sum(-1, keepdims=True) * p.sum(-2, keepdims=True)
    terms = p * np.log(np.divide(p, independent, out=np.ones_like(p), where=p > 0))
    return np.asarray(terms.sum((-2, -1)))


def _binned(values_N: NDArray, distinct: bool) -> NDArray[np.int64]:
    """The bin of each value, -1 where it is NaN. distinct: a bin for each value, if they are few."""
    known = ~np.isnan(values_N)
    bins_N = np.full(len(values_N), -1)
    if distinct and len(levels := np.unique(values_N[known])) <= BINS:
        bins_N[known] = np.searchsorted(levels, values_N[known])
        return bins_N
    low, high = values_N[known].min(), values_N[known].max()
    share = (values_N[known].astype(np.float64) - low) / ((high - low) or 1)
    bins_N[known] = np.minimum(share * BINS, BINS - 1).astype(np.int64)
    return bins_N


def _gap(tables_DZBB: Array) -> float:
    ordered = np.sort(mutual_information(tables_DZBB), 1)
    p = tables_DZBB[:, 0].sum(-1) / tables_DZBB[:, 0].sum((-2, -1))[:, None]
    entropy_D = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
    second = ordered[:, -2] if ordered.shape[1] > 1 else 0
    return float(((ordered[:, -1] - second) / np.where(entropy_D > 0, entropy_D, 1)).mean())


def _modularity(tables_DZBB: Array) -> float:
    square_DZ = mutual_information(tables_DZBB) ** 2
    varies_Z = ((tables_DZBB.sum(-2) > 0).sum(-1) > 1).any(0)
    if len(square_DZ) == 1 or not varies_Z.any():
        return float(varies_Z.any())
    best_Z = square_DZ.max(0)
    others_Z = square_DZ.sum(0) - best_Z
    mixed_Z = np.divide(others_Z, best_Z * (len(square_DZ) - 1), out=np.ones_like(best_Z), where=best_Z > 0)
    return float((1 - mixed_Z)[varies_Z].mean())
