"""Functions of all factors together against random features of all residual latents together."""

import numpy as np

from hpcauxvae.metrics.dependence.statistic import Statistic, mean_square, standardised
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.metrics.objects import Numbers
from hpcauxvae.metrics.random_features import functions

FEATURES = 128
_LENGTHS = (0.5, 2.5)
"""Of the wave vectors, as random_features.py has them."""


def joint(u_ND: Array, z_NR: Array, object_N: Numbers, seed: int) -> Statistic:
    """As metrics/random_features.py, of samples of z: mean r^2 of cos(w z + b) (Rahimi and Recht 2007) with functions.

    These are each factor, each product of two and eight waves of all; what sampling adds is taken off.
    """
    rng = np.random.default_rng([seed, 1])
    of_u = functions(u_ND, rng)
    w_RM = rng.standard_normal((z_NR.shape[1], FEATURES))
    w_RM *= rng.uniform(*_LENGTHS, FEATURES) / np.linalg.norm(w_RM, axis=0)
    of_z = np.cos(standardised(z_NR) @ w_RM + rng.uniform(0, 2 * np.pi, FEATURES))
    return lambda rows_u, rows_z: mean_square(of_u[rows_u], of_z[rows_z])
