"""Aux-VAE (Ganguli et al.): the first d latent coordinates carry the auxiliary variables u, the others what is left."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from hpcauxvae.dependence.regularizers import RunningRegularizer, authors_regularizer, regularizer
from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.objectives import Objective
from hpcauxvae.types import Around, Batch, InputError, Interval, LossTerms, Posterior, Reduction, Searched


class AuxVAE(BetaVAE):
    """beta-VAE with the prior of eq. (3) and the regularizers of eq. (9)."""

    SEARCHED: ClassVar[Searched] = BetaVAE.SEARCHED | {
        "lambda1": Around(10),
        "lambda2": Around(10),
        "degree": (1, 2, 3, 4),
        "momentum": Interval(0.0, 0.9, log=False),
    }
    GUIDED: ClassVar[bool] = True
    u_mean: Tensor
    u_var: Tensor
    rise: Tensor
    """Factor before lambda2 in training."""

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        d = len(self.columns)
        if not 1 <= d <= self.latents:
            raise InputError(f"aux: {d} auxiliary variables for {self.latents} latents; allowed: 1 to {self.latents}")
        self.prior_variance = objective.prior_variance or 1 / self.n_train
        self.register_buffer("u_mean", torch.zeros(d))
        self.register_buffer("u_var", torch.zeros(d))
        self.register_buffer("rise", torch.ones(()), persistent=False)
        self.running: RunningRegularizer | None = None
        if objective.momentum:
            self.running = RunningRegularizer(d, self.latents, degree=objective.degree, momentum=objective.momentum)

    def advance(self, progress: float) -> None:
        """As Model: lambda2 rises until `ramp` of the training is done."""
        if self.objective.ramp:
            self.rise.fill_(min(1.0, progress / self.objective.ramp))

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange) -> None:
        """As BetaVAE; and the mean and variance of each auxiliary factor over the samples where it is measured.

        u_ND: in [0, 1], NaN where not measured. With `informed_start` the guided posteriors begin with the variance of
        their prior (3).
        """
        super().prepare(images, u_ND, pixels)
        self.u_mean.copy_(u_ND.nanmean(0))
        self.u_var.copy_((u_ND - self.u_mean).square().nanmean(0))
        if self.objective.informed_start:
            logvar_Z = images.new_zeros(self.latents)
            logvar_Z[: len(self.columns)] = math.log(self.prior_variance)
            self.encoder.start_at(logvar_Z)

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, Z) of eq. (3): N(u_j, 1/n) for the coordinate of an auxiliary factor, else N(0, 1).

        Where u_j was not measured, its mean over the training samples, and its variance in addition to 1/n.
        """
        mean_BZ, var_BZ = super().prior(batch)
        u_BD = self.factors(batch)
        missing_BD, d = u_BD.isnan(), len(self.columns)
        mean_BZ[:, :d] = torch.where(missing_BD, self.u_mean, u_BD)
        var_BZ[:, :d] = self.prior_variance + missing_BD * self.u_var
        return mean_BZ, var_BZ

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """The two lines of eq. (9) under the sum, weighted."""
        u_BD, mean_BZ, objective = self.factors(batch), posterior.mean, self.objective
        group = reduction.group
        variance_BZ = posterior.logvar.exp() if objective.correlate == "z" else None
        if objective.correlate == "authors":
            z_BZ = posterior.sample(noise_BZ[:, : self.latents])
            intra, inter = authors_regularizer(u_BD, mean_BZ, z_BZ, degree=objective.degree, group=group)
        elif self.running is not None:
            intra, inter = self.running(u_BD, mean_BZ, variance_BZ, group)
        else:
            intra, inter = regularizer(u_BD, mean_BZ, variance_BZ, degree=objective.degree, group=group)
        if objective.ramp and self.training:
            inter = self.rise * inter
        return {"intra": objective.lambda1 * intra, "inter": objective.lambda2 * inter}
