"""beta-TCVAE (Chen et al., NeurIPS 2018): the total correlation of the codes, estimated from a batch, costs more.

L = -log p(x|z) + beta KL + w TC, TC = E[log q(z) - sum over j of log q(z_j)], where by minibatch-weighted sampling
log q(z) of a sample is log 1/(N M) sum over the M samples b of the batch of q(z|x_b), N being all training samples.
Shape legend in types.py; M samples of the global batch.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.rival import Rival
from hpcauxvae.runtime.collectives import rows_of_all
from hpcauxvae.types import Around, Batch, LossTerms, Posterior, Reduction, Searched

_ROWS = 256
"""Whose densities are computed together: the memory of a validation."""


class BetaTCVAE(Rival):
    """The KL is mutual information + total correlation + KL of each latent; w is by how much the second weighs more.

    So the paper's weights alpha = gamma = 1 and beta of these three are `beta` = 1 and w = beta - 1 here. As published:
    the estimate, over the global batch whatever the ranks. Not as published: the whole KL is the closed form, which has
    the same mean and less noise than the sum of three estimates. It uses no factors.
    """

    SEARCHED: ClassVar[Searched] = BetaVAE.SEARCHED | {"own_weight": Around(10)}
    OWN_WEIGHT: ClassVar[float] = 5.0
    """w: beta = 6, as the authors' public code is run on dSprites."""

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """w times the total correlation, in nats.

        Its zero is moved: where codes overlap, each log q of the estimate is too low by log N, and the value, to which
        one log q of z and Z of the z_j belong, too high by (Z - 1) log N, a constant that no gradient sees.
        """
        z_BZ = posterior.sample(noise_BZ[:, : self.latents])
        codes = Posterior(*rows_of_all(torch.stack(posterior, 1), reduction).unbind(1))
        total_B = torch.cat([self._correlation(part, codes) for part in z_BZ.split(_ROWS)])
        known = (self.latents - 1) * math.log(self.n_train * reduction.n)
        return {"total_correlation": self.per_pixel * self.own_weight * reduction.mean(total_B + known)}

    def _correlation(self, z_BZ: Tensor, codes: Posterior) -> Tensor:
        """log sum over b of q(z|x_b) less the same of each latent, (B,). codes: of all samples of the batch."""
        mean_MZ, logvar_MZ = codes
        square_BMZ = (z_BZ[:, None] - mean_MZ).square() * (-logvar_MZ).exp()
        log_BMZ = -(square_BMZ + logvar_MZ + math.log(2 * math.pi)) / 2
        return log_BMZ.sum(2).logsumexp(1) - log_BMZ.logsumexp(1).sum(1)
