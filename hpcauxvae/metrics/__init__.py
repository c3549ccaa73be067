"""Scores of codes and images: plain arrays in, plain numbers out, so that anyone's model can be scored.

A new score of codes is a file beside this one and a line in `METRICS`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.dci import dci
from hpcauxvae.metrics.fixed_factor import beta_vae, factor_vae
from hpcauxvae.metrics.information import mig, modularity
from hpcauxvae.metrics.lds import alignment, lds, lds_d, lds_d_mean, lds_mean
from hpcauxvae.metrics.leakage import leakage
from hpcauxvae.metrics.sap import sap
from hpcauxvae.metrics.ssim import ImageScores, score_images
from hpcauxvae.types import Kind

__all__ = ["METRICS", "Codes", "ImageScores", "score_codes", "score_images"]

METRICS: dict[str, Callable[[Codes], Any]] = {
    "lds": lds,
    "lds_d": lds_d,
    "lds_mean": lds_mean,
    "lds_d_mean": lds_d_mean,
    "sap": sap,
    "mig": mig,
    "modularity": modularity,
    "dci": dci,
    "factor_vae": factor_vae,
    "beta_vae": beta_vae,
    "alignment": alignment,
    "leakage": leakage,
}


def score_codes(
    mean_NZ: NDArray,
    logvar_NZ: NDArray,
    aux_ND: NDArray,
    hidden_NH: NDArray,
    *,
    aux_names: Sequence[str],
    hidden_names: Sequence[str],
    seed: int,
    aux_kinds: Sequence[Kind] = (),
) -> dict[str, Any]:
    """Every score of `METRICS` for posteriors N(mean, exp(logvar)) of N samples with Z latents, ready for JSON.

    Column j of the auxiliary factors (D), scaled to [0, 1] as the model saw them, belongs to latent j; the H hidden
    factors, in any unit, belong to none. NaN where not measured: each correlation then uses the samples in which its
    factor is. aux_kinds: what the auxiliary factors are; SAP grades a categorical one by a classifier. `logvar` is -inf
    for codes without noise. Raises InputError where shapes do not match, a value is not finite, or fewer than 4 samples
    are there.
    """
    codes = Codes(
        mean_NZ=mean_NZ,
        logvar_NZ=logvar_NZ,
        aux_ND=aux_ND,
        hidden_NH=hidden_NH,
        aux_names=aux_names,
        hidden_names=hidden_names,
        seed=seed,
        aux_kinds=aux_kinds,
    )
    return {name: metric(codes) for name, metric in METRICS.items()}
