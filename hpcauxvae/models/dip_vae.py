"""DIP-VAE (Kumar, Sattigeri & Balakrishnan, ICLR 2018): the codes of all samples have the covariance of N(0, I).

L = -log p(x|z) + beta KL + lambda_od sum over i != j of C_ij^2 + lambda_d sum over i of (C_ii - 1)^2, where C is
Cov[mu(x)] (I), or that and E[diag sigma^2(x)], the covariance of z itself (II). Shape legend in types.py.
"""

from typing import ClassVar

import torch
from torch import Tensor

from hpcauxvae.dependence.moments import covariance
from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.rival import Rival
from hpcauxvae.runtime.collectives import sum_over_ranks
from hpcauxvae.runtime.devices import from_float64, in_float64
from hpcauxvae.types import Around, Batch, LossTerms, Posterior, Reduction, Searched


class DipVAE1(Rival):
    """DIP-VAE-I. As published, with the covariance of the global batch, exact over ranks; it uses no factors."""

    SEARCHED: ClassVar[Searched] = BetaVAE.SEARCHED | {"own_weight": Around(10)}
    OWN_WEIGHT: ClassVar[float] = 10.0
    """lambda_od."""
    DIAGONAL: ClassVar[float] = 10.0
    """lambda_d / lambda_od, as in the paper."""

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """The two terms of the covariance."""
        covariance_ZZ = self._covariance(posterior, reduction)
        variance_Z = covariance_ZZ.diagonal()
        crossed = covariance_ZZ.square().sum() - variance_Z.square().sum()
        variances = (variance_Z - 1).square().sum()
        terms = {"covariance": crossed, "variance": self.DIAGONAL * variances}
        device = posterior.mean.device
        weight = self.per_pixel * self.own_weight
        return {name: weight * from_float64(term, device) for name, term in terms.items()}

    def _covariance(self, posterior: Posterior, reduction: Reduction) -> Tensor:
        """C (Z, Z), float64."""
        return covariance(posterior.mean, reduction)


class DipVAE2(DipVAE1):
    """DIP-VAE-II, as published."""

    DIAGONAL: ClassVar[float] = 1.0

    def _covariance(self, posterior: Posterior, reduction: Reduction) -> Tensor:
        total_Z = sum_over_ranks(in_float64(posterior.logvar.exp()).sum(0), reduction.group)
        return super()._covariance(posterior, reduction) + torch.diag(total_Z / reduction.n)
