"""The objectives by name, each constant written out, and the reconstruction and KL terms that the models share.

loss = reconstruction + beta KL + lambda1 (explicitness + intra-independence) + lambda2 inter-independence, eq. (9),
where the first two are means over the global batch of sums over pixels and over latent coordinates, in nats.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from hpcauxvae.types import InputError, Posterior

_NOTHING = 1e-10
"""What `log10_mse` adds to a pixel, relative to the brightest one."""

Scale = Literal["linear", "range", "anscombe"]
Likelihood = Literal["gaussian", "optimal", "bernoulli", "log10-mse"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """Everything that decides which minimum is sought and how the search for it starts and runs."""

    scale: Scale
    """Scale of the likelihood: counts over the training maximum; counts with the training minimum at 0 and the maximum
    at 1 (`range`); or their Anscombe transform over its own maximum."""
    likelihood: Likelihood
    """Of a pixel on that scale: Gaussian of standard deviation `sigma`; Gaussian of the deviation that fits the global
    batch best (Rybkin et al. 2021); Bernoulli, for pixels in [0, 1]. Each is summed over pixels: its weight is 1. With
    `log10-mse`, squared decades (see `log10_mse`), both this sum and the KL are divided by the number of pixels."""
    sigma: float
    """Standard deviation of the Gaussian likelihood of a pixel, on that scale; read by `gaussian` only."""
    peak_channel: bool
    """Give the encoder the image divided by its own peak as well (shape apart from flux)."""
    sigmoid: bool
    """Squash the decoder's output into (0, 1)."""
    draws: int
    """Samples of z for each image and step, J of eq. (2)'s Monte Carlo estimate."""
    beta: float
    """Weight of the KL term, eq. (4)."""
    gamma: float
    """Weight of the conditional prior's own KL to N(0, I), in IDVAE only."""
    lambda1: float
    """Weight of the explicitness and intra-independence terms of eq. (9)."""
    lambda2: float
    """Weight of the inter-independence term of eq. (9)."""
    ramp: float
    """Share of the training over which lambda2 rises from 0 to its value, so that the residual latents come into use
    before they must be independent; with 0 it has it from the start. Validation always has the whole of it."""
    degree: int
    """K, the highest power in the correlations, eq. (7) and (8)."""
    momentum: float
    """Weight of the moments of earlier batches against the present one's; 0 takes the correlations of each batch alone.
    The gradient of the regularizers is then 1 - momentum of a batch's own."""
    correlate: Literal["means", "z", "authors"]
    """Correlations of u with the posterior means, eq. (6), or with z itself, eq. (20); or the regularizers of the
    authors' public code (see dependence.authors_regularizer)."""
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
        for name in ("beta", "gamma", "lambda1", "lambda2"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        _require("ramp", self.ramp, 0 <= self.ramp <= 1, "0 to 1")
        _require("degree", self.degree, 1 <= self.degree <= 6, "1 to 6")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "at least 0, less than 1")
        _require("batch_size", self.batch_size, self.batch_size >= 2, "at least 2")
        _require("draws", self.draws, self.draws >= 1, "at least 1")
        if self.likelihood == "bernoulli" and not (self.sigmoid and self.scale == "linear"):
            raise InputError("likelihood = bernoulli; allowed: with scale = linear and sigmoid = True")
        if self.likelihood == "log10-mse" and not (self.sigmoid and self.scale in ("linear", "range")):
            raise InputError("likelihood = log10-mse; allowed: with scale = linear or range and sigmoid = True")
        if self.correlate == "authors":
            _require("draws", self.draws, self.draws == 1, "1 with correlate = authors")
            _require("momentum", self.momentum, self.momentum == 0, "0 with correlate = authors")
        if self.prior_variance is not None:
            _require("prior_variance", self.prior_variance, self.prior_variance > 0, "positive")


def _require(name: str, value: float, holds: bool, allowed: str) -> None:
    if not holds or not math.isfinite(value):
        raise InputError(f"{name} = {value}; allowed: {allowed}")


OBJECTIVES = {
    # Ours: the default for every set of auxiliary variables. docs/method.md says what each choice is worth.
    "tuned": Objective(
        scale="anscombe",
        likelihood="gaussian",
        sigma=0.01,
        peak_channel=True,
        sigmoid=False,
        draws=1,
        beta=1.0,
        gamma=0.01,
        lambda1=10.0,
        lambda2=1000.0,
        ramp=0.0,
        degree=3,
        momentum=0.0,
        correlate="z",
        prior_variance=None,
        informed_start=True,
        learning_rate=2e-3,
        one_cycle=True,
        adam_beta2=0.99,
        clip_norm=100.0,
        batch_size=64,
    ),
    # As `tuned`, for pictures whose pixels lie between black and white: Cars3D, dSprites.
    "bernoulli": Objective(
        scale="linear",
        likelihood="bernoulli",
        sigma=1.0,
        peak_channel=False,
        sigmoid=True,
        draws=1,
        beta=1.0,
        gamma=0.01,
        lambda1=10.0,
        lambda2=1000.0,
        ramp=0.0,
        degree=3,
        momentum=0.0,
        correlate="z",
        prior_variance=None,
        informed_start=True,
        learning_rate=2e-3,
        one_cycle=True,
        adam_beta2=0.99,
        clip_norm=100.0,
        batch_size=128,
    ),
    # The text of Ganguli et al.: unit-variance Gaussian likelihood, eq. (6) on means, Table 4 (galaxies), section C.1.
    "paper": Objective(
        scale="linear",
        likelihood="gaussian",
        sigma=1.0,
        peak_channel=False,
        sigmoid=True,
        draws=1,
        beta=5.0,
        gamma=1.0,
        lambda1=1.0,
        lambda2=0.1,
        ramp=0.0,
        degree=3,
        momentum=0.0,
        correlate="means",
        prior_variance=None,
        informed_start=False,
        learning_rate=1e-3,
        one_cycle=False,
        adam_beta2=0.999,
        clip_norm=None,
        batch_size=64,
    ),
    # What the public code of Ganguli et al. (2024) computes and sets; it differs from their text in nearly every line.
    "reference": Objective(
        scale="range",
        likelihood="log10-mse",
        sigma=1.0,
        peak_channel=False,
        sigmoid=True,
        draws=1,
        beta=20.0,
        gamma=1.0,
        lambda1=0.5,
        lambda2=0.4,
        ramp=0.0,
        degree=3,
        momentum=0.0,
        correlate="authors",
        prior_variance=1.0,
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

    `range` has the darkest training pixel at 0. `anscombe` makes the standard deviation of Poisson counts the same
    everywhere (Anscombe 1948). The way back is the exact unbiased inverse in its closed form (Makitalo & Foi 2011), so
    that decoded images are expected counts.
    """

    maximum: Tensor
    minimum: Tensor | None

    def __init__(self, kind: Scale) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("maximum", torch.ones(()))
        self.register_buffer("minimum", torch.zeros(()) if kind == "range" else None)

    def fit(self, brightest: float, darkest: float) -> None:
        """Sets the scale from the brightest and the darkest training pixel, in linear data units."""
        if not brightest > 0:
            raise InputError(f"images: the brightest training pixel is {brightest}; allowed: positive")
        self.maximum.fill_(brightest)
        if self.minimum is not None:
            if not darkest < brightest:
                raise InputError(f"images: every training pixel is {darkest}; allowed: more than one value")
            self.minimum.fill_(darkest)

    def forward(self, images: Tensor) -> Tensor:
        """Linear data units -> scale of the likelihood, any shape. Negative pixels count as 0 under `anscombe`."""
        if self.kind == "anscombe":
            return self._root(images.clamp_min(0)) / self._root(self.maximum)
        if self.minimum is not None:
            return (images - self.minimum) / (self.maximum - self.minimum)
        return images / self.maximum

    def inverse(self, scaled: Tensor) -> Tensor:
        """Expected value on the scale of the likelihood -> expected linear data units, any shape."""
        if self.minimum is not None:
            return self.minimum + scaled * (self.maximum - self.minimum)
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


def optimal_gaussian_nll(target: Tensor, mean: Tensor, global_mean: Callable[[Tensor], Tensor], group: Any) -> Tensor:
    """-log N(target; mean, s^2) with s^2 the mean squared error of the global batch, without constants: (B,), nats.

    n/2 log s^2 for n pixels (Rybkin et al. 2021). Written as its tangent at the present error, so that the mean over
    the global batch has the right value and gradient on every rank. global_mean: of (B,), as objectives are averaged.
    """
    error_B = (target - mean).square().flatten(1).mean(1)
    now = global_mean(error_B.detach()).clone()
    if group is not None:
        dist.all_reduce(now, group=group)
        now /= dist.get_world_size(group)
    now = now.clamp_min(torch.finfo(now.dtype).tiny)
    return target.flatten(1).shape[1] / 2 * (now.log() + error_B / now - 1)


def bernoulli_nll(target: Tensor, logits: Tensor) -> Tensor:
    """-log of the Bernoulli probability of pixels in [0, 1], summed over pixels: (B, C, H, W) twice -> (B,), nats."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def log10_mse(target: Tensor, mean: Tensor) -> Tensor:
    """(log10(target + 1e-10) - log10(mean + 1e-10))^2 summed over pixels: (B, C, H, W) twice -> (B,), decades squared.

    The reconstruction loss of the authors' public code, which averages it over pixels. It is the squared error of
    logarithms, not the logarithm of a squared error; no density of the target's linear scale is meant. A pixel without
    a count stands ten decades below the brightest one and dominates. `mean` is positive; target below 0 counts as 0.
    """
    ratio = (target.clamp_min(0) + _NOTHING).log10() - (mean + _NOTHING).log10()
    return ratio.square().flatten(1).sum(1)


def gaussian_kl(posterior: Posterior, prior_mean_BZ: Tensor, prior_var_BZ: Tensor) -> Tensor:
    """KL(q(z|x) || N(prior_mean, diag prior_var)), eq. (4), summed over latent coordinates: (B,), nats."""
    mean_BZ, logvar_BZ = posterior
    distance_BZ = (mean_BZ - prior_mean_BZ).square() + logvar_BZ.exp()
    return (distance_BZ / prior_var_BZ - 1 + prior_var_BZ.log() - logvar_BZ).sum(1) / 2
