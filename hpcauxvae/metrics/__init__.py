"""Scores of codes and images: plain arrays in, plain numbers out, so that anyone's model can be scored.

A new score of codes is a file beside this one and a line in `METRICS`.
"""

from collections.abc import Callable
from typing import Any

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.dci import dci
from hpcauxvae.metrics.fixed_factor import beta_vae, factor_vae
from hpcauxvae.metrics.information import mig, modularity
from hpcauxvae.metrics.lds import lds, lds_d, lds_d_mean, lds_mean
from hpcauxvae.metrics.leakage import leakage
from hpcauxvae.metrics.sap import sap
from hpcauxvae.metrics.ssim import ImageScores, score_images

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
    "leakage": leakage,
}


def score_codes(codes: Codes) -> dict[str, Any]:
    """Every score of `METRICS`, ready for JSON: a number is an object of value, low, high and n (intervals.Score)."""
    return {name: metric(codes) for name, metric in METRICS.items()}
