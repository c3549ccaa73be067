"""The scale of images, and the reconstruction and KL terms that the models share: values of a pixel to nats."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hpcauxvae.models.objectives import Scale
from hpcauxvae.types import InputError, Posterior, Reduction

_NOTHING = 1e-10
"""What `log10_mse` adds to a pixel, relative to the brightest pixel."""


class PixelRange(NamedTuple):
    """What a scale takes from the training pixels; all in linear data units."""

    brightest: float
    darkest: float = 0.0
    counts: bool = True
    """Every pixel is a whole number and none is negative."""
    lowest: float = -math.inf
    """Pixels below count as this one, in whatever images."""
    highest: float | NDArray[np.float64] = math.inf
    """Pixels above count as this one; may be one for each pixel, (C, H, W)."""


class ImageScale(nn.Module):
    """Linear data units <-> the scale of the likelihood, on which the brightest training pixel is 1.

    `range` has the darkest training pixel at 0. `anscombe` makes the standard deviation of Poisson counts the same
    everywhere (Anscombe 1948). The way back from counts is the exact unbiased inverse in its closed form (Makitalo &
    Foi 2011), so that decoded images are expected counts; that holds for Poisson noise alone, and from all other
    images the way back is the algebraic inverse.
    """

    maximum: Tensor
    minimum: Tensor | None
    limits: Tensor
    """(2,), or (2, C, H, W) where not all pixels have the same, linear data units: pixels beyond count as these."""
    counts: Tensor | None
    """Whether the images are counts, where that matters."""

    def __init__(self, kind: Scale) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("maximum", torch.ones(()))
        self.register_buffer("minimum", torch.zeros(()) if kind == "range" else None)
        self.register_buffer("limits", torch.tensor([0 if kind == "anscombe" else -math.inf, math.inf]))
        self.register_buffer("counts", torch.tensor(True) if kind == "anscombe" else None)

    def fit(
        self,
        brightest: float,
        darkest: float = 0.0,
        counts: bool = True,
        lowest: float = -math.inf,
        highest: float | NDArray[np.float64] = math.inf,
    ) -> None:
        """Sets the scale from what PixelRange has. Pixels of 0 and 1 alone are no counts.

        Raises InputError where the brightest pixel is not positive, is the darkest too (`range`), or is so small beside
        the 3/8 of the transform that fewer than three digits are left of it (`anscombe`).
        """
        if not brightest > 0:
            raise InputError(f"images: the brightest training pixel is {brightest}; allowed: positive")
        self.maximum.fill_(brightest)
        limits = np.maximum(np.stack(np.broadcast_arrays(lowest, highest)), 0 if self.kind == "anscombe" else -math.inf)
        self.limits = torch.from_numpy(limits).to(self.limits)
        if self.minimum is not None:
            if not darkest < brightest:
                raise InputError(f"images: every training pixel is {darkest}; allowed: more than one value")
            self.minimum.fill_(darkest)
        if self.counts is not None:
            least = 1000 * torch.finfo(self.maximum.dtype).eps * 3 / 8
            if brightest < least:
                raise InputError(
                    f"images: the brightest training pixel is {brightest:g}, too small for the Anscombe transform; "
                    f"allowed: at least {least:.2g}, as in counts, or another objective (docs/data-format.md)"
                )
            self.counts.fill_(counts and brightest > 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Takes limits of either shape."""
        if (limits := state_dict.get(f"{prefix}limits")) is not None:
            self.limits = self.limits.new_empty(limits.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def look(self, images: Tensor) -> None:
        """After `fit`: takes from the first training images, (M, C, H, W), what PixelRange does not tell."""

    def seen(self, scaled: Tensor) -> Tensor:
        """Scale of the likelihood -> what the encoder sees, any number of images: here the same."""
        return scaled

    def clipped(self, images: Tensor) -> Tensor:
        """The images as the scale takes them: pixels beyond its limits count as these. Linear data units, any shape."""
        return images.clamp(*self.limits)

    def forward(self, images: Tensor) -> Tensor:
        """Linear data units -> scale of the likelihood, any shape. Negative pixels count as 0 under `anscombe`."""
        images = self.clipped(images)
        if self.kind == "anscombe":
            return self._root(images) / self._root(self.maximum)
        if self.minimum is not None:
            return (images - self.minimum) / (self.maximum - self.minimum)
        return images / self.maximum

    def inverse(self, scaled: Tensor) -> Tensor:
        """Expected value on the scale of the likelihood -> expected linear data units, any shape."""
        if self.minimum is not None:
            return self.minimum + scaled * (self.maximum - self.minimum)
        if self.counts is None:
            return scaled * self.maximum
        d = (scaled * self._root(self.maximum) + 2 * math.sqrt(3 / 8)).clamp_min(2 * math.sqrt(3 / 8))
        root = math.sqrt(3 / 2)
        expected = (d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8).clamp_min(0)
        return torch.where(self.counts, expected, d**2 / 4 - 3 / 8)

    @staticmethod
    def _root(counts: Tensor) -> Tensor:
        return 2 * ((counts + 3 / 8).sqrt() - math.sqrt(3 / 8))


def gaussian_nll(target: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """-log N(target; mean, sigma^2) summed over pixels, without its constant: (B, C, H, W) twice -> (B,), nats."""
    return ((target - mean) / sigma).square().flatten(1).sum(1) / 2


def optimal_gaussian_nll(target: Tensor, mean: Tensor, reduction: Reduction) -> Tensor:
    """-log N(target; mean, s^2) with s^2 the mean squared error of the global batch, without constants: (B,), nats.

    n/2 log s^2 for n pixels (Rybkin et al. 2021). Written as its tangent at the present error, so that the mean over
    the global batch has the right value and gradient on every rank.
    """
    error_B = (target - mean).square().flatten(1).mean(1)
    now = reduction.mean(error_B.detach()).clone()
    if reduction.group is not None:
        dist.all_reduce(now, group=reduction.group)
        now /= reduction.group.size()
    now = now.clamp_min(torch.finfo(now.dtype).tiny)
    return target.flatten(1).shape[1] / 2 * (now.log() + error_B / now - 1)


def bernoulli_nll(target: Tensor, logits: Tensor) -> Tensor:
    """-log of the Bernoulli probability of pixels in [0, 1], summed over pixels: (B, C, H, W) twice -> (B,), nats."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def log10_mse(target: Tensor, mean: Tensor) -> Tensor:
    """(log10(target + 1e-10) - log10(mean + 1e-10))^2 summed over pixels: (B, C, H, W) twice -> (B,), decades squared.

    The reconstruction loss of the authors' public code, which averages it over pixels. It is the squared error of
    logarithms, not the logarithm of a squared error; no density of the target's linear scale is meant. A pixel without
    a count stands ten decades below the brightest pixel and dominates. `mean` is positive; target below 0 counts as 0.
    """
    ratio = (target.clamp_min(0) + _NOTHING).log10() - (mean + _NOTHING).log10()
    return ratio.square().flatten(1).sum(1)


def gaussian_kl(posterior: Posterior, prior_mean_BZ: Tensor, prior_var_BZ: Tensor) -> Tensor:
    """KL(q(z|x) || N(prior_mean, diag prior_var)), eq. (4), summed over latent coordinates: (B,), nats."""
    mean_BZ, logvar_BZ = posterior
    distance_BZ = (mean_BZ - prior_mean_BZ).square() + logvar_BZ.exp()
    return (distance_BZ / prior_var_BZ - 1 + prior_var_BZ.log() - logvar_BZ).sum(1) / 2
