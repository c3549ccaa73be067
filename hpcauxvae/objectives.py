"""The objectives by name, each constant written out, and the reconstruction and KL terms that the models share.

loss = reconstruction + beta KL + lambda1 (explicitness + intra-independence) + lambda2 inter-independence, eq. (9),
where the first two are means over the global batch of sums over pixels and over latent coordinates, in nats.
"""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn

from hpcauxvae.types import InputError, Posterior


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """Everything that decides which minimum is sought and how the search for it starts and runs."""

    scale: Literal["linear", "anscombe"]
    """Scale of the likelihood: counts over the training maximum, or their Anscombe transform over its own maximum."""
    sigma: float
    """Standard deviation of the Gaussian likelihood of a pixel, on that scale."""
    peak_channel: bool
    """Give the encoder the image divided by its own peak as well (shape apart from flux)."""
    sigmoid: bool
    """Squash the decoder's output into (0, 1)."""
    beta: float
    """Weight of the KL term, eq. (4)."""
    lambda1: float
    """Weight of the explicitness and intra-independence terms of eq. (9)."""
    lambda2: float
    """Weight of the inter-independence term of eq. (9)."""
    degree: int
    """K, the highest power in the correlations, eq. (7) and (8)."""
    correlate: Literal["means", "z"]
    """Correlations of u with the posterior means, eq. (6), or with z itself, eq. (20)."""
    prior_variance: float | None
    """Variance of the prior of an auxiliary latent about u_j, eq. (3); None is 1/n, n the training samples."""
    informed_start: bool
    """Start from biases that fit the data: the output at the mean image, the log-variances at the prior's."""
    learning_rate: float
    """Adam's learning rate; the peak of the schedule where there is one."""
    one_cycle: bool
    """Learning rate by one cycle of warm-up and annealing (Smith 2018) instead of a constant one."""
    adam_beta2: float
    """Decay of Adam's second moment."""
    clip_norm: float | None
    """Largest norm of the gradient; None does not clip."""
    batch_size: int
    """Samples of a step, over all processes together."""

    def __post_init__(self) -> None:
        for name in ("sigma", "learning_rate"):
            _require(name, getattr(self, name), getattr(self, name) > 0, "positive")
        for name in ("beta", "lambda1", "lambda2"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        _require("degree", self.degree, 1 <= self.degree <= 6, "1 to 6")
        _require("batch_size", self.batch_size, self.batch_size >= 2, "at least 2")
        if self.prior_variance is not None:
            _require("prior_variance", self.prior_variance, self.prior_variance > 0, "positive")


def _require(name: str, value: float, holds: bool, allowed: str) -> None:
    if not holds or not math.isfinite(value):
        raise InputError(f"{name} = {value}; allowed: {allowed}")


OBJECTIVES = {
    # Ours: the default for every set of auxiliary variables. docs/method.md says what each choice is worth.
    "tuned": Objective(
        scale="anscombe",
        sigma=0.01,
        peak_channel=True,
        sigmoid=False,
        beta=1.0,
        lambda1=10.0,
        lambda2=1000.0,
        degree=3,
        correlate="z",
        prior_variance=None,
        informed_start=True,
        learning_rate=2e-3,
        one_cycle=True,
        adam_beta2=0.99,
        clip_norm=100.0,
        batch_size=64,
    ),
    # The text of Ganguli et al.: unit-variance Gaussian likelihood, eq. (6) on means, Table 4 (galaxies), section C.1.
    "paper": Objective(
        scale="linear",
        sigma=1.0,
        peak_channel=False,
        sigmoid=True,
        beta=5.0,
        lambda1=1.0,
        lambda2=0.1,
        degree=3,
        correlate="means",
        prior_variance=None,
        informed_start=False,
        learning_rate=1e-3,
        one_cycle=False,
        adam_beta2=0.999,
        clip_norm=None,
        batch_size=64,
    ),
}


class ImageScale(nn.Module):
    """Linear data units <-> the scale of the likelihood, on which the brightest training pixel is 1.

    `anscombe` makes the standard deviation of Poisson counts the same everywhere (Anscombe 1948). The way back is the
    exact unbiased inverse in its closed form (Makitalo & Foi 2011), so that decoded images are expected counts.
    """

    maximum: Tensor

    def __init__(self, kind: Literal["linear", "anscombe"]) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("maximum", torch.ones(()))

    def fit(self, brightest: float) -> None:
        """Sets the scale from the brightest training pixel, in linear data units."""
        if not brightest > 0:
            raise InputError(f"images: the brightest training pixel is {brightest}; allowed: positive")
        self.maximum.fill_(brightest)

    def forward(self, images: Tensor) -> Tensor:
        """Linear data units -> scale of the likelihood, any shape. Negative pixels count as 0 under `anscombe`."""
        if self.kind == "linear":
            return images / self.maximum
        return self._root(images.clamp_min(0)) / self._root(self.maximum)

    def inverse(self, scaled: Tensor) -> Tensor:
        """Expected value on the scale of the likelihood -> expected linear data units, any shape."""
        if self.kind == "linear":
            return scaled * self.maximum
        d = (scaled * self._root(self.maximum) + 2 * math.sqrt(3 / 8)).clamp_min(2 * math.sqrt(3 / 8))
        root = math.sqrt(3 / 2)
        return (d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8).clamp_min(0)

    @staticmethod
    def _root(counts: Tensor) -> Tensor:
        return 2 * ((counts + 3 / 8).sqrt() - math.sqrt(3 / 8))


def gaussian_nll(target: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """-log N(target; mean, sigma^2) summed over pixels, without its constant: (B, C, H, W) twice -> (B,), nats."""
    return ((target - mean) / sigma).square().flatten(1).sum(1) / 2


def gaussian_kl(posterior: Posterior, prior_mean_BZ: Tensor, prior_var_BZ: Tensor) -> Tensor:
    """KL(q(z|x) || N(prior_mean, diag prior_var)), eq. (4), summed over latent coordinates: (B,), nats."""
    mean_BZ, logvar_BZ = posterior
    distance_BZ = (mean_BZ - prior_mean_BZ).square() + logvar_BZ.exp()
    return (distance_BZ / prior_var_BZ - 1 + prior_var_BZ.log() - logvar_BZ).sum(1) / 2
