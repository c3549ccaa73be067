"""AR-VAE (Pati & Lerch 2021, "Attribute-based regularization of latent spaces"): latents in the order of factors.

L = -log p(x|z) + beta KL + gamma sum over j of mean over all pairs (a, b) of a batch of
|tanh(delta (z_j^a - z_j^b)) - sign(u_j^a - u_j^b)|. Shape legend in types.py; N samples of the global batch.
"""

from typing import ClassVar

import torch
from torch import Tensor

from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.guided import GuidedVAE
from hpcauxvae.runtime.collectives import rows_of_all
from hpcauxvae.types import Around, Batch, LossTerms, Posterior, Reduction, Searched

_ROWS = 256
"""Whose pairs are looked at together: the memory of a validation."""


class ArVAE(GuidedVAE):
    """As published: sampled z, all pairs of the (global) batch, the mean over them, the sum over factors.

    Not as published: the prior of z_j has the mean and variance of u_j, and differences of z_j are in units of its
    standard deviation (models/guided.py), which only changes the unit of z_j. Pairs in which a label is missing are
    left out. That z_j rises with u_j is all that is asked for: where images are asked for by u_j, it is as if z_j were
    u_j, which it is in mean and spread alone.
    """

    SEARCHED: ClassVar[Searched] = BetaVAE.SEARCHED | {"own_weight": Around(100)}
    OWN_WEIGHT: ClassVar[float] = 10.0
    """gamma, as in the authors' code, and so is delta."""
    DELTA: ClassVar[float] = 1.0
    """delta."""

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """gamma times the sum over factors."""
        u_BD = self.factors(batch)
        known_BD = ~u_BD.isnan()
        z_BD = posterior.sample(noise_BZ[:, : self.latents])[:, : len(self.columns)] / self.u_var.sqrt()
        filled_BD = torch.where(known_BD, u_BD, self.u_mean)  # no NaN that a gradient could meet
        own = torch.stack([z_BD, filled_BD, known_BD.to(z_BD)], 2)
        whole = rows_of_all(own, reduction)
        pairs_D = whole[..., 2].sum(0).square().clamp(min=1)
        errors = [self._errors(part, whole, pairs_D) for part in own.split(_ROWS)]
        return {"order": self.per_pixel * self.own_weight * reduction.mean(reduction.n * torch.cat(errors))}

    def _errors(self, own: Tensor, whole: Tensor, pairs_D: Tensor) -> Tensor:
        """Of these rows (B, D, 3) with all (N, D, 3), over the pairs that count: (B,)."""
        z_BND, u_BND, _ = (own[:, None] - whole).unbind(3)
        count_BND = own[:, None, :, 2] * whole[None, :, :, 2]
        return ((torch.tanh(self.DELTA * z_BND) - u_BND.sign()).abs() * count_BND / pairs_D).sum((1, 2))
