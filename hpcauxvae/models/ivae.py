"""iVAE (Khemakhem, Kingma, Monti & Hyvarinen, AISTATS 2020): latents that are independent given the factors.

L = -log p(x|z) + beta KL(q(z|x, u) || p(z|u)), where p(z|u) = N(m(u), diag s^2(u)) is a network that is learned with
the rest. Shape legend in types.py.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.networks import halves
from hpcauxvae.models.objectives import Objective
from hpcauxvae.models.rival import Rival
from hpcauxvae.types import Batch, InputError

_WIDTH, _SLOPE = 50, 0.1


class ConditionalPrior(Rival):
    """BetaVAE with the prior p(z|u); a label that is missing counts as its mean."""

    u_mean: Tensor

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        d = len(self.columns)
        self.register_buffer("u_mean", torch.zeros(d))
        layers: list[nn.Module] = []
        for before in (d, _WIDTH, _WIDTH):
            layers += [nn.Linear(before, _WIDTH), nn.LeakyReLU(_SLOPE)]
        self.prior_network = nn.Sequential(*layers, nn.Linear(_WIDTH, 2 * self.latents))

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange, errors_ND: Tensor | None = None) -> None:
        """As BetaVAE; the mean label stands for one that is missing."""
        super().prepare(images, u_ND, pixels)
        self.u_mean.copy_(u_ND.nanmean(0))

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, Z) of p(z|u)."""
        with torch.autocast(batch.factors.device.type, enabled=False):
            mean_BZ, logvar_BZ = self.prior_network(self._filled(self.factors(batch))).chunk(2, 1)
        return mean_BZ, logvar_BZ.exp()

    def _filled(self, u_BD: Tensor) -> Tensor:
        return torch.where(u_BD.isnan(), self.u_mean, u_BD)


class IVAE(ConditionalPrior):
    """As published: the encoder sees image and factors, the Gaussian prior is learned, the bound is the exact one.

    Of the paper's exponential families the prior is the Gaussian of learned mean and variance. Not as published: the
    likelihood and networks of images are those of every model here. Its codes know u whatever the image shows, so that
    they tell little when scored against u; `ci-ivae` has an encoder of the image alone.
    """

    SEES_LABELS: ClassVar[bool] = True

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        self.encoder = halves(self.network)[0](self._seen_shape(), self.latents, labels=len(self.columns))
        if objective.linear_path:
            self.encoder.linear = self._encoder_path()

    def _labels(self, u_BD: Tensor | None) -> Tensor | None:
        if u_BD is None:
            raise InputError("ivae: its encoder needs the auxiliary factors of each image; allowed: images with labels")
        return self._filled(u_BD)
