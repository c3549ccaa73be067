"""Distance correlation (Szekely, Rizzo and Bakirov 2007): 0 of independent vectors, and of no others."""

from hpcauxvae.metrics.dependence.statistic import Statistic, of_matrices, standardised
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.metrics.objects import Numbers


def distance(u_ND: Array, z_NR: Array, object_N: Numbers, seed: int) -> Statistic:
    """The squared distance correlation, bias-corrected (Szekely and Rizzo 2013), of columns in units of their spread.

    It needs the distances of all pairs, and is no sum over samples.
    """
    from scipy.spatial.distance import cdist  # a fifth of a second, which the start of a training does without

    u_ND, z_NR = standardised(u_ND), standardised(z_NR)
    return of_matrices(cdist(u_ND, u_ND), cdist(z_NR, z_NR))
