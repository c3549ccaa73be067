"""The Hilbert-Schmidt independence criterion (Gretton et al. 2005): 0 of independent vectors, and of no others."""

import numpy as np

from hpcauxvae.metrics.dependence.statistic import Statistic, of_matrices, standardised
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.metrics.objects import Numbers

EXACT = 2048
"""Samples up to which the kernel is that of all pairs; of more it is that of `FEATURES` random features."""
FEATURES = 128
_FOR_WIDTH = 1000
"""Samples whose distances tell the bandwidth."""


def hsic(u_ND: Array, z_NR: Array, object_N: Numbers, seed: int) -> Statistic:
    """HSIC(u, z) / sqrt(HSIC(u, u) HSIC(z, z)), unbiased (Song et al. 2012), which Cortes et al. (2012) call alignment.

    Gaussian kernels exp(-|a - b|^2 / (2 s^2)) of columns in units of their spread, s the median distance (Gretton et
    al. 2008).
    """
    u_ND, z_NR = standardised(u_ND), standardised(z_NR)
    if len(u_ND) <= EXACT:
        return of_matrices(_kernel(u_ND), _kernel(z_NR))
    rng = np.random.default_rng([seed, 2])
    return _of_features(_features(u_ND, rng), _features(z_NR, rng))


def _width(x_NP: Array) -> float:
    from scipy.spatial.distance import pdist  # a fifth of a second, which the start of a training does without

    return float(np.median(pdist(x_NP[:_FOR_WIDTH]))) or 1.0


def _kernel(x_NP: Array) -> Array:
    from scipy.spatial.distance import cdist

    kernel = np.exp(-cdist(x_NP, x_NP, "sqeuclidean") / (2 * _width(x_NP) ** 2))
    np.fill_diagonal(kernel, 0)
    return np.asarray(kernel)


def _features(x_NP: Array, rng: np.random.Generator) -> Array:
    """sqrt(2/M) cos(w x + b), w ~ N(0, 1/s^2): in the mean their product is the kernel (Rahimi and Recht 2007)."""
    w_PM = rng.standard_normal((x_NP.shape[1], FEATURES)) / _width(x_NP)
    return np.asarray(np.sqrt(2 / FEATURES) * np.cos(x_NP @ w_PM + rng.uniform(0, 2 * np.pi, FEATURES)))


def _of_features(u_NM: Array, z_NM: Array) -> Statistic:
    """Squared length of the cross-covariance of features, a sum over samples, over those of their own covariances.

    Of independent ones the squared length is tr(C_uu) tr(C_zz) / (n - 1) in the mean, which is taken off.
    """
    scale = np.linalg.norm(np.cov(u_NM.T)) * np.linalg.norm(np.cov(z_NM.T))

    def statistic(rows_u: Numbers, rows_z: Numbers) -> float:
        u, z = u_NM[rows_u] - u_NM[rows_u].mean(0), z_NM[rows_z] - z_NM[rows_z].mean(0)
        n = len(u)
        chance = np.vdot(u, u) * np.vdot(z, z) / n**2 / (n - 1)
        return float((np.square(u.T @ z / n).sum() - chance) / scale) if scale else 0.0

    return statistic
