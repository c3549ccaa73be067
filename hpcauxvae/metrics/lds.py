"""Linear disentanglement score: equation (10) of Ganguli et al., with the score that a perfect code would have.

Shape suffixes: D auxiliary factors, Z latents, S draws of z, R random repeats.
"""

import numpy as np

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Array, Correlations, Disturbed, Score, correlation_score, disturbed

REPEATS = 2000


class LdsScore(Score):
    """A score beside its ceiling."""

    attainable: float
    """Mean score of the code (u, independent normal numbers) for these very factors."""


def linear_disentanglement(correlations: Array) -> Array:
    """LDS (10) of correlations (..., D, Z): mean over factors of max_l |corr| / sum_l |corr|, both over all Z columns.

    Between 1/Z and 1; a factor that correlates with no latent at all counts 0.
    """
    size = np.abs(correlations)
    total = size.sum(-1)
    return (size.max(-1) / np.where(total > 0, total, 1)).mean(-1)


def attainable(correlations_of_factors_DD: Array, n_D: np.ndarray, independent: int, seed: int) -> float:
    """Mean LDS of the code (u, `independent` normal numbers) over n_D samples of factors with these correlations.

    No samples are drawn: the correlation of any n fixed numbers with n independent normal ones is distributed as
    a / sqrt(a^2 + b), a standard normal and b chi-square with n - 2 degrees of freedom, independently for each latent.
    """
    rng = np.random.default_rng(seed)
    d = len(n_D)
    a = rng.standard_normal((REPEATS, d, independent))
    b = rng.chisquare(np.maximum(n_D - 2, 1)[:, None], a.shape)
    own = np.broadcast_to(correlations_of_factors_DD, (REPEATS, d, d))
    return float(linear_disentanglement(np.concatenate([own, a / np.sqrt(a**2 + b)], -1)).mean())


def lds(codes: Codes) -> LdsScore:
    """LDS on sampled z, averaged over the draws; the sum over all latents in the denominator."""
    return _score(codes, codes.of_samples, codes.mean_NZ.shape[1])


def lds_d(codes: Codes) -> LdsScore:
    """LDS on sampled z, averaged over the draws; maximum and sum over the first d latents only, as (10) is printed."""
    return _score(codes, codes.of_samples, codes.aux_ND.shape[1])


def lds_mean(codes: Codes) -> LdsScore:
    """LDS on posterior means; the sum over all latents in the denominator, residual latents that are off left out."""
    return _score(codes, codes.of_means, codes.mean_NZ.shape[1], int(np.count_nonzero(codes.left_out_Z)))


def lds_d_mean(codes: Codes) -> LdsScore:
    """LDS on posterior means; maximum and sum over the first d latents only."""
    return _score(codes, codes.of_means, codes.aux_ND.shape[1])


def of_all(codes: Codes, correlations: Correlations) -> Disturbed:
    """LDS over all latents, of correlations of these codes, with what sampling adds to it."""
    return disturbed(linear_disentanglement, correlations, codes.seed)


def _score(codes: Codes, correlations: Correlations, latents: int, left_out: int = 0) -> LdsScore:
    """left_out: latents among them whose correlations are 0, in the perfect code too."""
    n, d = codes.aux_ND.shape
    ceiling = attainable(codes.with_true_factors_DD, correlations.n_D, latents - d - left_out, codes.seed)
    score = correlation_score(
        lambda table: linear_disentanglement(table[..., :latents]), correlations, n, (0, 1), codes.seed
    )
    return LdsScore(**score, attainable=ceiling)
