"""FactorVAE (Kim & Mnih, ICML 2018): the total correlation of the codes, as a discriminator tells it, costs more.

L = -log p(x|z) + beta KL + gamma E[log D(z) - log(1 - D(z))], and for D, which tells codes z from codes z' whose
latents each come from another sample, -(E[log D(z)] + E[log(1 - D(z'))]) / 2. Shape legend in types.py; N samples of
the global batch.
"""

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.objectives import Objective
from hpcauxvae.models.rival import Rival
from hpcauxvae.runtime.collectives import rows_of_all
from hpcauxvae.types import Around, Batch, LossTerms, Reduction, Searched

_LAYERS, _WIDTH, _SLOPE = 6, 1000, 0.2


class FactorVAE(Rival):
    """As published: the discriminator of six hidden layers of 1000, its loss, gamma times its log-ratio in the VAE's.

    Not as published: both learn in the same step from the same batch, by the one Adam of the run, where the paper
    alternates, takes a second batch for z' and gives D an Adam of its own (1e-4, .5, .9). The loss of the VAE sees D
    with fixed weights, that of D sees fixed codes, so the sum of both has the gradients of each alone; but where a
    gradient is cut, both are, by one factor. It uses no factors. The loss is a whole (`forward`): --accumulate cannot
    split it.
    """

    SEARCHED: ClassVar[Searched] = BetaVAE.SEARCHED | {"own_weight": Around(10)}
    OWN_WEIGHT: ClassVar[float] = 10.0
    """gamma."""
    TRAINED_BY: ClassVar[tuple[str, ...]] = (*Rival.TRAINED_BY, "discriminator.")

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        widths = (self.latents, *[_WIDTH] * _LAYERS)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU(_SLOPE)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(_WIDTH, 1))

    @property
    def noise_size(self) -> int:
        """The noise by which codes are mixed comes after that of z."""
        return super().noise_size + self.latents

    def forward(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """As Model; the loss of the discriminator in training alone, for it does not say which model is better."""
        terms, posterior = self.sample_terms(batch, noise_BZ, reduction)
        z_BZ = posterior.sample(noise_BZ[:, : self.latents])
        with torch.autocast(z_BZ.device.type, enabled=False):
            frozen = {name: weights.detach() for name, weights in self.discriminator.named_parameters()}
            ratio_B = torch.func.functional_call(self.discriminator, frozen, (z_BZ,))[:, 0]
            terms["total_correlation"] = self.per_pixel * self.own_weight * reduction.mean(ratio_B)
            if self.training:
                mixed_BZ = self._mixed(z_BZ.detach(), noise_BZ[:, -self.latents :], reduction)
                true_B, false_B = (self.discriminator(rows)[:, 0] for rows in (z_BZ.detach(), mixed_BZ))
                terms["discriminator"] = reduction.mean(softplus(-true_B) + softplus(false_B)) / 2
        return terms

    def _mixed(self, z_BZ: Tensor, noise_BZ: Tensor, reduction: Reduction) -> Tensor:
        """Codes (B, Z) whose latent j is that of another sample of the global batch, another one for each j.

        That sample is the next one in the order of the j-th column of noise, whatever the order of the ranks.
        """
        z_NZ, noise_NZ = rows_of_all(torch.stack([z_BZ, noise_BZ], 1), reduction).unbind(1)
        noise_ZN, order_ZN = noise_NZ.T.contiguous().sort(1)
        place_ZB = torch.searchsorted(noise_ZN, noise_BZ.T.contiguous())
        next_ZB = order_ZN.gather(1, (place_ZB + 1) % max(1, len(z_NZ)))
        return z_NZ.T.gather(1, next_ZB).T
