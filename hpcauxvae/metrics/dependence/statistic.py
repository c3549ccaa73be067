"""What a measure of dependence is here, and what the measures share.

Shape suffixes: N samples, D factors, R residual latents, P and M columns made of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hpcauxvae.metrics.intervals import Array
from hpcauxvae.metrics.objects import Numbers

Statistic = Callable[[Numbers, Numbers], float]
"""Of as many pairs: rows of u, and the rows of z that stand beside them. About 0 in the mean where u and z are
independent."""


class Measure(NamedTuple):
    """A measure of dependence of all columns of u from all columns of z."""

    prepare: Callable[[Array, Array, Numbers, int], Statistic]
    """From u_ND, z_NR, the object of each sample, numbered from 0 and rows of an object together, and a seed."""
    squared: bool
    """The statistic is the square of something like a correlation; its root is reported."""
    largest: int
    """Samples used at most."""


def mean_square(f_NP: Array, e_NM: Array) -> float:
    """Mean over all pairs of columns of r^2 - 1/(n - 1); the second is the mean of r^2 where nothing depends."""
    f_NP, e_NM = _scaled(f_NP), _scaled(e_NM)
    varies = f_NP.any(0).sum() * e_NM.any(0).sum()
    n = len(f_NP)
    return float(np.square(f_NP.T @ e_NM).sum() / varies - 1 / (n - 1)) if varies else 0.0


def _scaled(values_NP: Array) -> Array:
    """Columns of mean 0 and length 1, 0 where they do not vary."""
    centred = values_NP - values_NP.mean(0)
    length_P = np.linalg.norm(centred, axis=0)
    small_P = length_P <= 1e-9 * np.sqrt(len(values_NP)) * np.abs(values_NP).max(0)
    return np.asarray(np.where(small_P, 0, centred / np.where(small_P, 1, length_P)))


def of_matrices(a_NN: Array, b_NN: Array) -> Statistic:
    """Share <A, B> / sqrt(<A, A> <B, B>) of matrices of all pairs of samples, U-centred (`inner`)."""
    n = len(a_NN)
    whole = np.sqrt(max(inner(a_NN, a_NN), 0) * max(inner(b_NN, b_NN), 0))

    def statistic(rows_u: Numbers, rows_z: Numbers) -> float:
        if np.array_equal(rows_u, np.arange(n)):
            return inner(a_NN, b_NN[np.ix_(rows_z, rows_z)]) / whole if whole else 0.0
        a, b = a_NN[np.ix_(rows_u, rows_u)], b_NN[np.ix_(rows_z, rows_z)]
        scale = np.sqrt(max(inner(a, a), 0) * max(inner(b, b), 0))
        return inner(a, b) / scale if scale else 0.0

    return statistic


def inner(a_NN: Array, b_NN: Array) -> float:
    """Inner product of two symmetric matrices with a diagonal of 0, both U-centred; 0 in the mean where they are of
    independent samples.

    [tr(A B) + 1'A1 1'B1 / ((n - 1)(n - 2)) - 2 1'AB1 / (n - 2)] / (n (n - 3)): of kernels the unbiased HSIC (Song et
    al. 2012, eq. 5), of distances the squared distance covariance (Szekely and Rizzo 2014, eq. 2.7).
    """
    n = len(a_NN)
    a_N, b_N = a_NN.sum(0), b_NN.sum(0)
    total = np.vdot(a_NN, b_NN) + a_N.sum() * b_N.sum() / ((n - 1) * (n - 2)) - 2 * (a_N @ b_N) / (n - 2)
    return float(total / (n * (n - 3)))


def standardised(values_NP: Array) -> Array:
    """Columns in units of their spread, those that do not vary 0."""
    return _scaled(values_NP) * np.sqrt(len(values_NP))
