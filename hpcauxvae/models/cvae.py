"""Conditional VAE (Sohn, Lee & Yan, NeurIPS 2015; Kingma et al., NeurIPS 2014, M2): images given their factors.

L = -log p(x|u, r) + beta KL(q(r|x, u) || N(0, I)) - log q(u|x), with z = (u, r): the decoder takes the factors u as
they are, and R = Z - D latents r for the rest. Where u_j is missing it is drawn from q(u_j|x), and the KL of that to
N(mean u_j, Var u_j) is part of the KL. Shape legend in types.py.
"""

import math
from typing import Any

import torch
from torch import Tensor

from hpcauxvae.models.guided import GuidedVAE
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.linear_path import LinearPath
from hpcauxvae.models.networks import halves
from hpcauxvae.models.objectives import Objective
from hpcauxvae.types import Batch, InputError, LossTerms, Posterior, Reduction

_GIVEN = -60.0
"""Log-variance of a factor that is given: none."""


class CVAE(GuidedVAE):
    """Two encoders: q(u|x), the reader, of the image alone; q(r|x, u), of the image and the factors.

    `decode` takes (u, r). `encode` sees the image alone: its first latents are what the reader reads, by which the
    second encoder is then told the factors, so that codes can be scored against labels and come from new images. As
    published: decoder and encoder given u, Gaussian r. Not as published: r has the prior N(0, I) in place of a learned
    one (Sohn et al. allow it), and the reader is that of M2, with a variance of at least 1/n. Nothing asks r to be
    independent of u.
    """

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE. Raises InputError where no latent is left for the rest."""
        super().__init__(objective, **sizes)
        d = len(self.columns)
        if d >= self.latents:
            raise InputError(f"latents = {self.latents} for cvae with {d} guided ones; allowed: at least {d + 1}")
        self.encoder = halves(self.network)[0](self._seen_shape(), self.latents - d, labels=d)
        self.reader = halves(self.network)[0](self._seen_shape(), d)
        if objective.linear_path:
            self.encoder.linear = LinearPath(self._seen_shape(), self.latents - d)
            self.reader.linear = LinearPath(self._seen_shape(), d)

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange, errors_ND: Tensor | None = None) -> None:
        """As GuidedVAE."""
        super().prepare(images, u_ND, pixels, errors_ND)
        if self.reader.linear is not None:
            self.reader.linear.fit(self._seen(self.scale(images[: self.taken(len(images))])))

    def _start(self, logvar_Z: Tensor) -> None:
        d = len(self.columns)
        self.reader.start_at(logvar_Z[:d])
        self.encoder.start_at(logvar_Z[d:])

    def encode(self, images: Tensor, u_BD: Tensor | None = None) -> Posterior:
        """As BetaVAE; labels are not looked at."""
        return super().encode(images)

    def _encode_scaled(self, scaled: Tensor, u_BD: Tensor | None, known: Tensor | None = None) -> Posterior:
        read, rest = self._both(scaled, u_BD, known)
        return Posterior(*(torch.cat(parts, 1) for parts in zip(read, rest, strict=True)))

    def _both(self, scaled: Tensor, u_BD: Tensor | None, known: Tensor | None) -> tuple[Posterior, Posterior]:
        """q(u|x), no narrower than 1/n, and q(r|x, u); the latter is told what is read where a factor is not given."""
        seen = self._seen(scaled, known=known)
        mean_BD, logvar_BD = self.reader(seen, **self._beside(known)).chunk(2, 1)
        read = Posterior(mean_BD, torch.logaddexp(logvar_BD, torch.full_like(logvar_BD, -math.log(self.n_train))))
        told_BD = read.mean if u_BD is None else torch.where(u_BD.isnan(), read.mean, u_BD)
        return read, Posterior(*self.encoder(seen, told_BD, **self._beside(known)).chunk(2, 1))

    def sample_terms(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> tuple[LossTerms, Posterior]:
        """The three terms; a label that is missing is no target of the reader."""
        scaled, u_BD = self.scale(batch.images), self.factors(batch)
        read, rest = self._both(scaled, u_BD, self._known(batch))
        missing_BD = u_BD.isnan()
        given_BD = torch.where(missing_BD, self.u_mean, u_BD)  # no NaN that a gradient could meet
        certain_BD = torch.full_like(given_BD, _GIVEN)
        own = Posterior(torch.where(missing_BD, read.mean, given_BD), torch.where(missing_BD, read.logvar, certain_BD))
        posterior = Posterior(*(torch.cat(parts, 1) for parts in zip(own, rest, strict=True)))
        mean_BZ, var_BZ = self.prior(batch)
        d = len(self.columns)
        mean_BZ[:, :d] = given_BD
        var_BZ[:, :d] = torch.where(missing_BD, self.u_var, certain_BD.exp())
        terms = self._bound(batch, scaled, posterior, (mean_BZ, var_BZ), noise_BZ, reduction)
        width_BD = read.logvar.exp()
        nll_BD = ((read.mean - given_BD).square() / width_BD + (width_BD / self.u_var).log()) / 2
        terms["labels"] = self.per_pixel * reduction.mean((nll_BD * ~missing_BD).sum(1))
        return terms, posterior
