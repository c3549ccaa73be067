"""IDVAE (Mita, Filippone & Michiardi 2021): a prior of z given u, learned by a second VAE whose data are the u.

L = -log p(x|z) + beta KL(q(z|x, u) || p(z|u)), with the prior taken as constant, and for the prior
|u' - u|^2 + gamma KL(p(z|u) || N(0, I)), u' being read from a sample of p(z|u). Shape legend in types.py.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.likelihoods import PixelRange, gaussian_kl
from hpcauxvae.models.networks import halves
from hpcauxvae.models.objectives import Objective
from hpcauxvae.types import Around, Batch, InputError, LossTerms, Posterior, Reduction, Searched

_WIDTH = 1000


class IDVAE(BetaVAE):
    """As published: the encoder sees the labels u beside the image, so its codes know u whatever the image shows.

    A label that is missing counts as its mean.
    """

    SEARCHED: ClassVar[Searched] = BetaVAE.SEARCHED | {"gamma": Around(100)}
    SEES_LABELS: ClassVar[bool] = True
    u_mean: Tensor

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        d = len(self.columns)
        self.register_buffer("u_mean", torch.zeros(d))
        self.prior_encoder = _perceptron(d, 2 * self.latents)
        self.prior_decoder = _perceptron(self.latents, d)
        if self.SEES_LABELS:
            self.encoder = halves(self.network)[0](self._seen_shape(), self.latents, labels=d)
            if objective.linear_path:
                self.encoder.linear = self._encoder_path()

    @property
    def noise_size(self) -> int:
        """The noise of the prior's own VAE comes after that of the image's."""
        return super().noise_size + self.latents

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange, errors_ND: Tensor | None = None) -> None:
        """As Model; the mean label stands for one that is missing."""
        super().prepare(images, u_ND, pixels)
        self.u_mean.copy_(u_ND.nanmean(0))

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, Z) of p(z|u), as the prior's VAE has them now; no gradient of the KL reaches it."""
        mean_BZ, logvar_BZ = self._prior(self.factors(batch))
        return mean_BZ.detach(), logvar_BZ.detach().exp()

    def sample_terms(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> tuple[LossTerms, Posterior]:
        """As BetaVAE, and the loss of the prior's VAE; a label that is missing is no target."""
        terms, posterior = super().sample_terms(batch, noise_BZ, reduction)
        u_BD = self.factors(batch)
        prior = self._prior(u_BD)
        read_BD = self.prior_decoder(prior.sample(noise_BZ[:, -self.latents :]))
        error_BD = torch.where(u_BD.isnan(), 0, read_BD - self._filled(u_BD))  # no NaN that a gradient could meet
        kl_B = gaussian_kl(prior, torch.zeros_like(prior.mean), torch.ones_like(prior.mean))
        labels = reduction.mean(error_BD.square().sum(1))
        return terms | {"labels": labels, "prior_kl": self.objective.gamma * reduction.mean(kl_B)}, posterior

    def _prior(self, u_BD: Tensor) -> Posterior:
        return Posterior(*self.prior_encoder(self._filled(u_BD)).chunk(2, 1))

    def _filled(self, u_BD: Tensor) -> Tensor:
        return torch.where(u_BD.isnan(), self.u_mean, u_BD)

    def _labels(self, u_BD: Tensor | None) -> Tensor | None:
        if not self.SEES_LABELS:
            return None
        if u_BD is None:
            raise InputError(
                "idvae: its encoder needs the auxiliary factors of each image; allowed: images with labels"
            )
        return self._filled(u_BD)


class ImageIDVAE(IDVAE):
    """IDVAE whose encoder sees the image alone, q(z|x): its codes can be scored against u, and read from new images."""

    SEES_LABELS: ClassVar[bool] = False


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Three hidden layers of 1000, leaky ReLU of slope 0.2."""
    layers: list[nn.Module] = []
    for before in (inputs, _WIDTH, _WIDTH):
        layers += [nn.Linear(before, _WIDTH), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(_WIDTH, outputs))
