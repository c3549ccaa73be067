"""Aux-VAE (Ganguli et al.): the first d latent coordinates carry the auxiliary variables u, the others what is left."""

import math
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpcauxvae.dependence.joint import FEATURES, JointFeatures
from hpcauxvae.dependence.past import Constraint, Past, dependence, moments
from hpcauxvae.dependence.regularizers import RunningRegularizer, authors_regularizer, regularizer
from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.objectives import Objective
from hpcauxvae.types import Around, Batch, InputError, Interval, LossTerms, Posterior, Reduction, Searched

_FIRST_VARIANCE = 0.3
"""Of the prior about u_j where the guide comes into place in time."""
_PAIRS, _JOINT = 0.05, 3.0
"""Weights of the inter term of (9) and of the joint features, in units of the constraint's."""
_MEASURE = 0.99
"""Momentum of the moments by which the dependence is measured: those of the slopes know too few samples."""


class Independence(nn.Module):
    """The regularizers where independence is a constraint: slopes from the past, and all latents together."""

    def __init__(self, d: int, latents: int, objective: Objective) -> None:
        super().__init__()
        assert objective.dependence_tolerance is not None
        self.d, self.degree, self.lambda1 = d, objective.degree, objective.lambda1
        self.step = 0
        self.pairs = Past(d, latents, degree=objective.degree, momenta=(objective.momentum,))
        self.constraint = Constraint(objective.dependence_tolerance)
        self.joint = JointFeatures(d, latents - d) if latents > d else None
        if self.joint is not None:
            momenta = objective.momentum, _MEASURE
            self.together = Past(self.joint.functions_of, FEATURES, degree=1, momenta=momenta)

    def forward(self, u_BD: Tensor, posterior: Posterior, group: dist.ProcessGroup | None) -> LossTerms:
        """As Model.batch_terms."""
        mean_BZ, var_BZ = posterior.mean, posterior.logvar.exp()
        batch = moments(u_BD, mean_BZ, var_BZ, self.degree, group)
        intra, inter = dependence(batch.correlation(), self.pairs.slopes())
        weight = self.constraint.weight()
        terms = {"intra": self.lambda1 * intra, "inter": _PAIRS * weight * inter}
        if self.training:
            self.pairs.keep(batch)
        if self.joint is not None:
            features = self.joint.features(mean_BZ[:, self.d :], var_BZ[:, self.d :], self.pairs.spread()[self.d :])
            together = moments(self.joint.functions(u_BD), *features, 1, group)
            terms["joint"] = _JOINT * weight * (self.together.slopes() * together.correlation()).mean()
            if self.training:
                self.together.keep(together)
        return terms

    def advance(self, counts: bool) -> None:
        """Between two steps. counts: whether the guide is far enough in place for the weight to move."""
        self.pairs.advance()
        if self.joint is not None:
            self.together.advance()
            if counts:
                self.constraint.move(self.together.dependence(memory=1))
            if columns := self.joint.renew(self.step):
                self.together.forget(columns)
        self.step += 1

    def get_extra_state(self) -> Tensor:
        """The step, by which the features are renewed."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """As nn.Module."""
        self.step = int(state)


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
    guided: Tensor
    """How far the guide is in place in training, 0 to 1."""

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
        self.register_buffer("guided", torch.ones(()), persistent=False)
        self.independence: Independence | None = None
        self.running: RunningRegularizer | None = None
        if objective.dependence_tolerance is not None:
            self.independence = Independence(d, self.latents, objective)
        elif objective.momentum:
            self.running = RunningRegularizer(d, self.latents, degree=objective.degree, momentum=objective.momentum)

    def advance(self, progress: float) -> None:
        """As Model: lambda2 rises until `ramp` of the training is done."""
        if self.objective.ramp:
            self.rise.fill_(min(1.0, progress / self.objective.ramp))
        if self.objective.guide:
            self.guided.fill_(min(1.0, progress / self.objective.guide))
        if self.independence is not None:
            self.independence.advance(counts=progress >= self.objective.guide / 2)

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
            logvar_Z[: len(self.columns)] = math.log(_FIRST_VARIANCE if self.objective.guide else self.prior_variance)
            self.encoder.start_at(logvar_Z)

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, Z) of eq. (3): N(u_j, 1/n) for the coordinate of an auxiliary factor, else N(0, 1).

        Where u_j was not measured, its mean over the training samples, and its variance in addition to 1/n.
        """
        mean_BZ, var_BZ = super().prior(batch)
        u_BD = self.factors(batch)
        missing_BD, d = u_BD.isnan(), len(self.columns)
        mean_BZ[:, :d] = torch.where(missing_BD, self.u_mean, u_BD)
        var_BZ[:, :d] = self._variance() + missing_BD * self.u_var
        return mean_BZ, var_BZ

    def _variance(self) -> float | Tensor:
        """Of the prior about u_j, at this point of the training; geometrically from the first to the last."""
        if not (self.objective.guide and self.training):
            return self.prior_variance
        return _FIRST_VARIANCE * (self.prior_variance / _FIRST_VARIANCE) ** self.guided

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """The two lines of eq. (9) under the sum, weighted."""
        u_BD, mean_BZ, objective = self.factors(batch), posterior.mean, self.objective
        if self.independence is not None:
            strength = self.guided**2 if self.training else 1.0
            terms = self.independence(u_BD, posterior, reduction.group)
            return {name: strength * term for name, term in terms.items()}
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
