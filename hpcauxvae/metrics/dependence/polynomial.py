"""Correlations of powers of one factor with powers of one latent, the pairs of R0 (7)."""

import numpy as np

from hpcauxvae.metrics.dependence.statistic import Statistic, mean_square
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.metrics.objects import Numbers

DEGREE = 3
"""K of (7), the default of training."""


def polynomial(u_ND: Array, z_NR: Array, object_N: Numbers, seed: int) -> Statistic:
    """Mean of corr(u_i^k, z_j^k')^2 over i, j and k, k' = 1..3, less what sampling adds.

    The powers are those of the columns as they are, as in training: factors in [0, 1], latents about a unit wide.
    """
    of_u, of_z = (np.concatenate([x**k for k in range(1, DEGREE + 1)], 1) for x in (u_ND, z_NR))
    return lambda rows_u, rows_z: mean_square(of_u[rows_u], of_z[rows_z])
