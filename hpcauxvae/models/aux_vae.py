"""Aux-VAE (Ganguli et al.): the first d latent coordinates carry the auxiliary variables u, the others what is left."""

import math
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpcauxvae.dependence.joint import FEATURES
from hpcauxvae.dependence.measures import MEASURES
from hpcauxvae.dependence.past import Constraint, Past, among_factors, dependence, moments
from hpcauxvae.dependence.regularizers import authors_regularizer, regularizer
from hpcauxvae.models.base import UsualNorm
from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.label_errors import LabelErrors
from hpcauxvae.models.likelihoods import PixelRange, gaussian_kl
from hpcauxvae.models.objectives import Objective
from hpcauxvae.runtime.devices import from_float64, in_float64
from hpcauxvae.types import Around, Batch, InputError, LossTerms, Posterior, Reduction, Searched

_FIRST_VARIANCE, _SAY = 0.3, 0.01
"""Of the prior about u_j where the guide comes into place in time, at most; and the share of the nats that an image has
to explain which a latent then loses if it tells nothing of u_j: enough for it to learn u_j, too little to be in the way
of the other latents."""
_FINEST = 0.3
"""Smallest tolerance, in units of 1/sqrt(n), by which independent columns of n samples correlate."""
_PAIRS, _JOINT = 0.05, 3.0
"""Weights of the inter term of (9) and of the joint features, in units of the constraint's."""
_NOTHING_ELSE = 3.0
"""By so much more the constraint weighs where the factors tell most of what images show: no other latent is starved
then, and each that is in use tells a factor again."""
_SOME, _MOST = 0.25, 0.75
"""Shares of the nats that functions of the factors explain where it begins to weigh more, and does by the whole."""
_DEARER = 0.01
"""Share of the nats that functions of the factors explain by which what residual latents tell costs more, until the
guide is in place: else they tell what a faint factor changes before its own latent does, and are hard to win back."""
_TELLING = 4
"""Samples for each function of the factors, without which nothing is said of what they explain."""
_ASKED = 5.0
"""Weight of what is asked for and not read, in nats."""
_EVERY = 4
"""One sample in so many is asked of: another decoding and encoding of all would cost half a step."""
_DIMMEST = 1e-3
"""Peak by which an image that is asked for is divided at least, on the scale of the likelihood."""
_ROWS = 1024
"""Of the training factors, from which what is asked for is taken."""
_MEASURE = 0.99
"""Momentum of the moments by which the dependence is measured, and of the slopes of residual latents: those of the
guided ones know too few samples."""


class Independence(nn.Module):
    """The regularizers where independence is a constraint: slopes from the past, and all latents together."""

    dearer: Tensor
    """By how much what residual latents tell costs more until the guide is in place, (1,)."""

    def __init__(self, d: int, latents: int, objective: Objective, n_train: int) -> None:
        super().__init__()
        assert objective.dependence_tolerance is not None
        self.d, self.degree, self.lambda1 = d, objective.degree, objective.lambda1
        self.step = 0
        self.pairs = Past(d, latents, degree=objective.degree, momenta=(objective.momentum, _MEASURE))
        self.constraint = Constraint(max(objective.dependence_tolerance, _FINEST / math.sqrt(n_train)))
        features, past = MEASURES[objective.dependence]
        self.joint = features(d, latents - d) if latents > d else None
        self.norms = UsualNorm()
        self.labels = LabelErrors(d)
        self.register_buffer("dearer", torch.zeros(1))
        if self.joint is not None:
            momenta = objective.momentum, _MEASURE
            self.together = past(self.joint.functions_of, FEATURES, degree=1, momenta=momenta)

    def forward(
        self, u_BD: Tensor, posterior: Posterior, group: dist.ProcessGroup | None, exact: bool = False
    ) -> LossTerms:
        """As Model.batch_terms; in validation without those whose weight moves. exact: no label has an error."""
        with torch.autocast(posterior.mean.device.type, enabled=False):  # of several radians bfloat16 leaves little
            return self._terms(u_BD, posterior, None if exact else self.short(), group)

    def _terms(
        self, u_BD: Tensor, posterior: Posterior, pulled_D: Tensor | None, group: dist.ProcessGroup | None
    ) -> LossTerms:
        mean_BZ, var_BZ = posterior.mean, posterior.logvar.exp()
        batch = moments(u_BD, mean_BZ, var_BZ, self.degree, group)
        soon, long = self.pairs.slopes()  # of the guided latents, and of the residual ones
        slopes = torch.cat([soon[:, :, : self.d], long[:, :, self.d :]], 2)
        intra, inter = dependence(batch.correlation(), slopes, pulled_D, self.pairs.expected)
        terms = {"intra": self.lambda1 * intra}
        if self.training:
            weight = self.constraint.weight()
            terms["inter"] = _PAIRS * weight * inter
            self.pairs.keep(batch)
        if self.training and self.joint is not None:
            features = self.joint.features(mean_BZ[:, self.d :], var_BZ[:, self.d :], self.pairs.spread()[self.d :])
            together = moments(self.joint.of_factors(u_BD), *features, 1, group)
            terms["joint"] = _JOINT * weight * (self.together.slopes()[0] * together.correlation()).mean()
            self.together.keep(together)
        return {name: from_float64(term, mean_BZ.device) for name, term in terms.items()}

    @torch.no_grad()
    def expect(self, u_ND: Tensor) -> None:
        """That latents go together as these training factors do, (N, D), NaN where not measured: where flux and radius
        correlate by .7, so must the latents that follow them."""
        known_D1 = in_float64(self.labels.attainable_D).clamp(max=1)[:, None]
        self.pairs.expected[:, :, : self.d] = (among_factors(u_ND, self.degree) / known_D1).clamp(-1, 1)

    def short(self) -> Tensor:
        """(D,): whether a guided latent follows its labels less than the true factor does, as always where they are
        exact: one that follows them more learns their errors by heart."""
        return self.pairs.following(memory=1) < self.labels.attainable_D

    def advance(self, counts: bool) -> None:
        """Between two steps. counts: whether the guide is far enough in place for the base of the weight to move."""
        self.pairs.advance()
        if self.joint is not None:
            self.together.advance()
            self.constraint.move(self.together.dependence(memory=1), base=counts)
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
        "dependence_tolerance": Around(4),
        "lambda2": Around(10),
        "degree": (1, 2, 3, 4),
    }
    """Of dependence_tolerance and lambda2 the one that the objective has."""
    SETTINGS: ClassVar[frozenset[str]] = frozenset({"momentum", "guide", "dependence"})
    GUIDED: ClassVar[bool] = True
    TRAINED_BY: ClassVar[tuple[str, ...]] = ("independence.", "unit")
    u_mean: Tensor
    u_var: Tensor
    nats: Tensor
    """What an image has to explain (BetaVAE.explainable), (1,)."""
    unit: Tensor
    """Of the weights of independence, nats (1,)."""
    guided: Tensor
    """How far the guide is in place in training, 0 to 1."""
    rows_ND: Tensor | None
    """Factors of training samples, whole rows, so that what is asked for exists."""

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        d = len(self.columns)
        if not 1 <= d <= self.latents:
            raise InputError(f"aux: {d} auxiliary variables for {self.latents} latents; allowed: 1 to {self.latents}")
        self.prior_variance = objective.prior_variance or 1 / self.n_train
        self.register_buffer("u_mean", torch.zeros(d))
        self.register_buffer("u_var", torch.zeros(d))
        self.register_buffer("nats", torch.ones(1))
        self.register_buffer("unit", torch.ones(1))
        asks = objective.dependence_tolerance is not None and d < self.latents
        self.register_buffer("rows_ND", torch.zeros(_ROWS, d) if asks else None)
        self.register_buffer("guided", torch.ones(()), persistent=False)
        self.independence: Independence | None = None
        if objective.dependence_tolerance is not None:
            self.independence = Independence(d, self.latents, objective, self.n_train)

    @property
    def noise_size(self) -> int:
        """As BetaVAE, and a number that says which factors are asked for."""
        return super().noise_size + (self.rows_ND is not None)

    def largest_norm(self, norm: Tensor) -> float | Tensor | None:
        """As Model; with a tolerance twice the usual norm, whatever it is: at the stiff prior (3) it is large."""
        return super().largest_norm(norm) if self.independence is None else self.independence.norms.twice(norm)

    def advance(self, progress: float) -> None:
        """As BetaVAE, and the guide comes into place until `guide` of the training is done."""
        super().advance(progress)
        if self.objective.guide:
            self.guided.fill_(min(1.0, progress / self.objective.guide))
        if self.independence is not None:
            self.independence.advance(counts=progress >= self.objective.guide / 2)

    def gauges(self) -> dict[str, float]:
        """As Model: the weight of independence, in nats, the dependence that it answers, and its tolerance."""
        if self.independence is None or self.independence.joint is None:
            return {}
        constraint = self.independence.constraint
        return {
            "weight": float(self.guided) ** 2 * float(self.unit) * float(constraint.weight()),
            "dependence": max(0.0, float(self.independence.together.dependence(memory=1))) ** 0.5,
            "tolerance": constraint.tolerance,
        }

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange, errors_ND: Tensor | None = None) -> None:
        """As BetaVAE; and the mean and variance of each auxiliary factor over the samples where it is measured.

        u_ND: in [0, 1], NaN where not measured. With `informed_start` the guided posteriors begin with the variance of
        their prior (3).
        """
        super().prepare(images, u_ND, pixels)
        if errors_ND is not None and self.independence is not None:
            self.independence.labels.fit(u_ND, errors_ND, self.prior_variance)
            u_ND = self.independence.labels.likely(u_ND, errors_ND)
        if self.independence is not None:
            self.independence.expect(u_ND)
        if self.independence is not None or self.objective.guide:
            self.nats.fill_(max(1.0, self.explainable(images)))
            told = self._told(images, u_ND)
            share = min(1.0, max(0.0, (told / float(self.nats) - _SOME) / (_MOST - _SOME)))
            self.unit.fill_(_NOTHING_ELSE**share * float(self.nats))
            if self.independence is not None:
                self.independence.dearer.fill_(_DEARER * told)
        self.u_mean.copy_(u_ND.nanmean(0))
        self.u_var.copy_((u_ND - self.u_mean).square().nanmean(0))
        if self.rows_ND is not None:
            whole_ND = u_ND[u_ND.isfinite().all(1)]
            if not len(whole_ND):  # no sample has all of them
                whole_ND = self.u_mean[None]
            self.rows_ND.copy_(whole_ND[torch.arange(_ROWS, device=whole_ND.device) * len(whole_ND) // _ROWS])
        if self.objective.informed_start:
            logvar_Z = images.new_zeros(self.latents)
            logvar_Z[: len(self.columns)] = self._first_variance().log()
            self.encoder.start_at(logvar_Z)

    def _told(self, images: Tensor, u_ND: Tensor) -> float:
        """The nats that functions of the factors explain; 0 where too few samples tell."""
        if self.independence is None or self.independence.joint is None:
            return 0.0
        known_N = u_ND[: len(images)].isfinite().all(1)
        functions_NP = self.independence.joint.functions(u_ND[: len(images)][known_N])
        if self.taken(len(functions_NP)) < _TELLING * functions_NP.shape[1]:
            return 0.0
        return max(0.0, self.explainable(images[known_N], functions_NP))

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, Z) of eq. (3): N(u_j, 1/n) for the coordinate of an auxiliary factor, else N(0, 1).

        Where u_j was not measured, its mean over the training samples, and its variance in addition to 1/n; where it
        was with an error, the square of that, see _held. For 1/n see _narrower.
        """
        mean_BZ, var_BZ = super().prior(batch)
        u_BD = self.factors(batch)
        missing_BD, d = u_BD.isnan(), len(self.columns)
        mean_BZ[:, :d] = torch.where(missing_BD, self.u_mean, u_BD)
        var_BZ[:, :d] = self._variance() + missing_BD * self.u_var
        if (errors_BD := self._errors(batch)) is not None:
            of_labels_BD = self._held() * (self._variance() + errors_BD.square())
            var_BZ[:, :d] = torch.where(missing_BD, var_BZ[:, :d], of_labels_BD)
        return mean_BZ, var_BZ

    def _held(self) -> Tensor:
        """The factor (D,) of the variances of priors about labels with errors: 1 where latents begin to learn errors by
        heart, and in validation; else, when the guide is in place, so little that they hold as firmly as exact labels,
        for what many say together is more certain than each."""
        assert self.independence is not None
        held_D = self.independence.labels.held_D**self.guided
        return torch.where(self.independence.short(), held_D, 1.0) if self.training else torch.ones_like(held_D)

    def _errors(self, batch: Batch) -> Tensor | None:
        """Of the auxiliary factors (B, D), where independence is a constraint; other objectives know of none."""
        return None if batch.errors is None or self.independence is None else batch.errors[:, self.columns]

    def _likely(self, batch: Batch) -> Tensor:
        """The auxiliary factors (B, D) as far as labels with errors tell them."""
        u_BD, errors_BD = self.factors(batch), self._errors(batch)
        if errors_BD is None or self.independence is None:
            return u_BD
        return self.independence.labels.likely(u_BD, errors_BD)

    def _first_variance(self) -> Tensor:
        """(D,): of the prior about u_j, at the start of a training."""
        if not self.objective.guide:
            return torch.full_like(self.u_var, self.prior_variance)
        telling_D = self.u_var / (2 * _SAY * self.nats)
        return telling_D.clamp(max=_FIRST_VARIANCE).maximum(self.prior_variance * self._narrower())

    def _narrower(self) -> Tensor:
        """In which share of 1/n the prior about u_j ends: 1, but where 1/n would hold a latent at u_j by less than the
        unit by which independence pushes. Shape (1,)."""
        if not self.objective.guide or self.objective.prior_variance is not None:
            return torch.ones_like(self.unit)
        return (1 / (self.unit * self.prior_variance)).clamp(max=1)

    def _variance(self) -> Tensor:
        """(D,) or (1,): of the prior about u_j at this point of the training; geometrically from first to last."""
        if not (self.objective.guide and self.training):
            return self.prior_variance * self._narrower()
        first_D = self._first_variance()
        return first_D * (self.prior_variance / first_D * self._narrower()) ** self.guided

    def sample_terms(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> tuple[LossTerms, Posterior]:
        """As BetaVAE, and in training what residual latents tell too early, and what is asked for and not read."""
        terms, posterior = super().sample_terms(batch, noise_BZ, reduction)
        if self.training and self.independence is not None:
            rest = Posterior(*(code[:, len(self.columns) :] for code in posterior))
            kl_B = gaussian_kl(rest, torch.zeros_like(rest.mean), torch.ones_like(rest.mean))
            terms["early"] = self.independence.dearer[0] * (1 - self.guided) * reduction.mean(kl_B)
        if self.training and self.rows_ND is not None:
            some, over = reduction.every(_EVERY)
            known = self._known(batch)
            codes = Posterior(*(code[some] for code in posterior))
            asked_B = self._asked(self.rows_ND, codes, noise_BZ[some], None if known is None else known[some])
            terms["asked"] = self.guided**2 * _ASKED * over.mean(asked_B)
        return terms, posterior

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """The two lines of eq. (9) under the sum, weighted.

        With a tolerance the second is left out where the loss of a model is compared with that of another, in
        validation: its weight moves, and neither value nor sign of it says which of the two is better.
        """
        u_BD, mean_BZ, objective = self._likely(batch), posterior.mean, self.objective
        strength = self.guided**2 if self.training else 1.0
        if self.independence is not None:
            terms = self.independence(u_BD, posterior, reduction.group, exact=self._errors(batch) is None)
            units = {"intra": strength}
            return {name: units.get(name, strength * self.unit[0]) * term for name, term in terms.items()}
        group = reduction.group
        variance_BZ = posterior.logvar.exp() if objective.correlate == "z" else None
        if objective.correlate == "authors":
            z_BZ = posterior.sample(noise_BZ[:, : self.latents])
            intra, inter = authors_regularizer(u_BD, mean_BZ, z_BZ, degree=objective.degree, group=group)
        else:
            intra, inter = regularizer(u_BD, mean_BZ, variance_BZ, degree=objective.degree, group=group)
        return {"intra": strength * objective.lambda1 * intra, "inter": strength * objective.lambda2 * inter}

    def _asked(self, rows_ND: Tensor, posterior: Posterior, noise_BZ: Tensor, known: Tensor | None = None) -> Tensor:
        """How far what the encoder reads in images that are asked for is from what it reads in real ones: (B,), nats.

        The residual latents of each sample are decoded with the factors of another, and the image is encoded again. Of
        a real image with u_j the encoder reads a u_j + b in the mean, with an error s, over earlier batches; so it must
        here, and what counts is by how many s it is farther away than the usual image is. No gradient reaches the
        encoder that reads: it learns from real images alone, and cannot agree with the decoder on signs of its own.
        known: the pixels that it is shown, those of the sample.
        """
        assert self.independence is not None
        d, draw_BZ = len(self.columns), noise_BZ[:, : self.latents]
        row_B = (torch.special.ndtr(noise_BZ[:, -1]) * len(rows_ND)).long().clamp(max=len(rows_ND) - 1)
        u_BD = rows_ND[row_B].to(draw_BZ.dtype)
        guided_BD = u_BD + self.prior_variance**0.5 * self._narrower().sqrt() * draw_BZ[:, :d]
        z_BZ = torch.cat([guided_BD, posterior.sample(draw_BZ)[:, d:]], 1)
        seen = self._seen(self._squashed(self.decoder(z_BZ)), dimmest=_DIMMEST, known=known)
        frozen = {name: weights.detach() for name, weights in self.encoder.named_parameters()}
        read_BD = torch.func.functional_call(self.encoder, frozen, (seen,), self._beside(known))[:, :d]
        b_D, a_D, square_D = (from_float64(x, u_BD.device) for x in self.independence.pairs.reading())
        square_D = square_D - a_D.square() * self.independence.labels.unknown_D
        distance_BD = (read_BD - a_D * u_BD - b_D).square() / square_D.maximum(self.prior_variance * self._narrower())
        return (distance_BD.clamp(min=1).sqrt() - 1).sum(1)
