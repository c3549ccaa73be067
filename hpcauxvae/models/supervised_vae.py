"""A VAE that is told the factors by regression (Locatello et al., ICLR 2020, "few labels"): L of BetaVAE plus

w sum over j of (mu_j(x) - u_j)^2 / (2 Var u_j), over the factors that are measured. Shape legend in types.py.
"""

from typing import ClassVar

import torch

from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.guided import GuidedVAE
from hpcauxvae.types import Around, Batch, LossTerms, Posterior, Reduction, Searched


class SupervisedVAE(GuidedVAE):
    """The squared error of S2-beta-VAE's supervision, of posterior means.

    As published: the VAE, the regularizer on means, its weight. Not as published: there the loss is mainly the binary
    cross entropy of sigmoid(mu_j), and squared errors are an ablation; here they are in units of u_j's variance, and
    the prior of z_j has its mean and variance (models/guided.py). All labels are used, not a few.
    """

    SEARCHED: ClassVar[Searched] = BetaVAE.SEARCHED | {"own_weight": Around(10)}
    OWN_WEIGHT: ClassVar[float] = 100.0
    """w: 100 is what an error of a tenth of the factor's standard deviation is worth, half a nat."""

    def sample_terms(self, batch: Batch, noise_BZ: torch.Tensor, reduction: Reduction) -> tuple[LossTerms, Posterior]:
        """As BetaVAE, and the regression."""
        terms, posterior = super().sample_terms(batch, noise_BZ, reduction)
        u_BD = self.factors(batch)
        known_BD = ~u_BD.isnan()
        target_BD = torch.where(known_BD, u_BD, self.u_mean)  # no NaN that a gradient could meet
        square_BD = (posterior.mean[:, : len(self.columns)] - target_BD).square() / (2 * self.u_var)
        terms["regression"] = self.per_pixel * self.own_weight * reduction.mean((square_BD * known_BD).sum(1))
        return terms, posterior
