"""How well each auxiliary factor is read from the latent that belongs to it."""

from functools import partial

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Array, Score, correlation_score


def alignment(codes: Codes) -> dict[str, Score]:
    """Signed correlation of each auxiliary factor with the posterior mean of its own latent, by factor name."""
    counts = codes.of_means.n_D
    return {
        name: correlation_score(partial(_own_latent, j), codes.of_means, int(counts[j]), (-1, 1), codes.seed)
        for j, name in enumerate(codes.aux_names)
    }


def _own_latent(j: int, correlations: Array) -> Array:
    return correlations[..., j, j]
