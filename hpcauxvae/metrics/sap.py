"""Separated attribute predictability (Kumar, Sattigeri and Balakrishnan 2018) for continuous factors."""

import numpy as np

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Array, Score, correlation_score


def predictability_gap(correlations: Array) -> Array:
    """SAP of correlations (..., D, Z): mean over factors of the gap between the two best R^2.

    R^2 of the linear regression of a factor on one latent is the squared correlation. With one latent the second best
    is 0.
    """
    squares = np.sort(np.square(correlations), -1)
    second = squares[..., -2] if squares.shape[-1] > 1 else 0
    return (squares[..., -1] - second).mean(-1)


def sap(codes: Codes) -> Score:
    """SAP on posterior means, averaged over the *auxiliary* factors only."""
    return correlation_score(predictability_gap, codes.of_means, len(codes.mean_NZ), (0, 1), codes.seed)
