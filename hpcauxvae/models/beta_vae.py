"""beta-VAE (Higgins et al. 2017): the VAE of eq. (2) with beta times the KL to N(0, I); uses no auxiliary variable."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

from hpcauxvae.models.base import Model
from hpcauxvae.models.fields import FieldScale, FittedVariance
from hpcauxvae.models.likelihoods import PixelRange, bernoulli_nll, gaussian_kl, log10_mse, optimal_gaussian_nll
from hpcauxvae.models.linear_path import LinearPath
from hpcauxvae.models.networks import halves
from hpcauxvae.models.objectives import LIKELIHOODS, Objective
from hpcauxvae.models.weighted import KnownNoise
from hpcauxvae.runtime.devices import in_float64
from hpcauxvae.types import Around, Batch, Interval, LossTerms, Posterior, Reduction, Searched

_PIECE = 256
"""Images scaled at once."""
_TAKEN, _BYTES = 512, 64 << 20
"""Images, and bytes of these in float64, whose principal components are found."""
_DARKEST = 1e-3
"""Of an output that is squashed into (0, 1), for a likelihood that is finite."""


class BetaVAE(Model):
    """Networks, likelihood and KL of every model here."""

    SEARCHED: ClassVar[Searched] = {
        "beta": Around(10),
        "sigma": Around(4),
        "learning_rate": Around(4),
        "batch_size": (32, 64, 128, 256),
        "latents": Interval(6, 16, log=False),
    }

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As Model."""
        super().__init__(objective, **sizes)
        encoder, decoder = halves(self.network)
        self.encoder = encoder(self._seen_shape(), self.latents)
        self.decoder = decoder(self.image_shape, self.latents)
        if objective.linear_path:
            self.encoder.linear = self._encoder_path()
            self.decoder.linear = LinearPath(self.image_shape, self.latents)
        self.variance = FittedVariance(self.image_shape) if objective.likelihood == "fitted" else None
        self.noise = KnownNoise(self.image_shape) if objective.likelihood == "weighted" else None
        module, _, function = LIKELIHOODS[objective.likelihood].partition(":")
        self.plain_nll: Callable[..., Tensor] | None = getattr(import_module(module), function) if module else None
        self.per_pixel = 1 / math.prod(self.image_shape) if objective.likelihood == "log10-mse" else 1.0

    def _encoder_path(self) -> LinearPath:
        """Beside a new encoder."""
        return LinearPath(self._seen_shape(), self.latents)

    def _seen_shape(self) -> tuple[int, int, int]:
        """Of what the encoder is given for an image."""
        channels, height, width = self.image_shape
        return channels * (1 + self.objective.peak_channel), height, width

    @property
    def noise_size(self) -> int:
        """As Model: Z for each draw of z."""
        return self.latents * self.objective.draws

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange, errors_ND: Tensor | None = None) -> None:
        """As Model; with `informed_start` the decoder begins at the mean image."""
        super().prepare(images, u_ND, pixels)
        if self.objective.informed_start:
            scaled = torch.empty_like(images)
            for part, own in zip(images.split(_PIECE), scaled.split(_PIECE), strict=True):  # the memory of a piece
                own.copy_(self.scale(part))
            self.decoder.start_at(scaled.mean(0), self.objective.sigmoid)
        if self.objective.linear_path:
            some = self.scale(images[: self.taken(len(images))])
            for network, given in ((self.encoder, self._seen(some)), (self.decoder, some)):
                path = getattr(network, "linear", None)  # a network of another package has none
                if isinstance(path, LinearPath):
                    path.fit(given)
        if self.variance is not None:
            self.variance.start(self.scale(images[: self.taken(len(images))]).var(0, correction=0))
        if self.noise is not None:
            scaled, (_, drawn_NP) = self._by_components(images)
            self.noise.start(scaled, drawn_NP.to(scaled).view_as(scaled), *self._noise_of(None))

    def advance(self, progress: float) -> None:
        """As Model: the variance of the likelihood follows the errors."""
        if self.variance is not None:
            self.variance.advance()
        if self.noise is not None:
            self.noise.advance()

    def take(self, weights: Tensor) -> None:
        """As Model: the noise of what has no weights of its own."""
        if self.noise is not None:
            self.noise.usual.copy_(weights.mean(0))

    def taken(self, most: int) -> int:
        """How many of some images `explainable` looks at."""
        return min(most, _TAKEN, max(2 * self.latents, _BYTES // (8 * math.prod(self.image_shape))))

    @torch.no_grad()
    def explainable(self, images: Tensor, functions_NP: Tensor | None = None) -> float:
        """Nats by which p(x|z) gains, in the mean, where as many principal components as latents take the place of the
        mean image: what an image has to explain, before any step. With functions: what they explain, by least squares.

        images: (N, C, H, W), of which the first few hundred are taken.
        """
        scaled, drawn = self._by_components(images, functions_NP)
        reduction, nats = Reduction(len(scaled)), []
        for rows in drawn:
            if self.variance is not None:
                nats.append(self.variance.fitted_nll(in_float64(scaled.flatten(1)) - rows))
                continue
            output = rows.to(scaled).view_as(scaled)
            output = output.clamp(_DARKEST, 1 - _DARKEST).logit() if self.objective.sigmoid else output
            nats.append(float(reduction.mean(self._nll(scaled, output, reduction))))
        return nats[0] - nats[1]

    def _by_components(self, images: Tensor, functions_NP: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The first of these images on the scale of the likelihood; as rows in float64, (N, P), their mean and what
        principal components, as many as latents, draw of them, or functions."""
        scaled = self.scale(images[: self.taken(len(images))])
        rows_NP = in_float64(scaled.flatten(1))
        mean_P = rows_NP.mean(0)
        centred_NP = rows_NP - mean_P
        if functions_NP is None:
            basis_NZ = torch.linalg.eigh(centred_NP @ centred_NP.T).eigenvectors[:, -self.latents :]
        else:
            given = in_float64(functions_NP[: len(scaled)])
            basis_NZ, spread_Z, _ = torch.linalg.svd(given - given.mean(0), full_matrices=False)
            basis_NZ = basis_NZ[:, spread_Z > 1e-6 * spread_Z[0]]
        return scaled, [mean_P.expand_as(rows_NP), mean_P + basis_NZ @ (basis_NZ.T @ centred_NP)]

    def encode(self, images: Tensor, u_BD: Tensor | None = None) -> Posterior:
        """As Model: q(z|x) of (2)."""
        known = None
        if self.objective.leaves_out:
            known = ~images.isnan()
            images = images.where(known, 0)
        return self._encode_scaled(self.scale(images), u_BD, known)

    def decode(self, z_BZ: Tensor) -> Tensor:
        """As Model: the mean of p(x|z)."""
        return self.scale.inverse(self._squashed(self.decoder(z_BZ)))

    def sample_terms(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> tuple[LossTerms, Posterior]:
        """As Model: -log p(x|z) and beta times the KL, eq. (2) and (4)."""
        scaled = self.scale(batch.images)
        posterior = self._encode_scaled(scaled, self.factors(batch), self._known(batch))
        return self._bound(batch, scaled, posterior, self.prior(batch), noise_BZ, reduction), posterior

    def _bound(
        self,
        batch: Batch,
        scaled: Tensor,
        posterior: Posterior,
        prior: tuple[Tensor, Tensor],
        noise_BZ: Tensor,
        reduction: Reduction,
    ) -> LossTerms:
        """-log p(x|z) of draws from these posteriors, and beta times their KL to the prior, whose mean and variance are
        given. scaled: the images on the scale of the likelihood."""
        nll_B = self._drawn(batch, scaled, posterior, noise_BZ, reduction, keep=self.training)
        kl_B = gaussian_kl(posterior, *prior)
        return {
            "reconstruction": self.per_pixel * reduction.mean(nll_B),
            "kl": self.per_pixel * self.objective.beta * reduction.mean(kl_B),
        }

    def _drawn(
        self,
        batch: Batch,
        scaled: Tensor,
        posterior: Posterior,
        noise_BZ: Tensor,
        reduction: Reduction,
        keep: bool,
    ) -> Tensor:
        """The mean of -log p(x|z) over the draws of z, (B,). keep: a fitted variance takes note of the first draw."""
        noise = noise_BZ[:, : self.latents * self.objective.draws].split(self.latents, 1)
        draws = [posterior.sample(draw_BZ) for draw_BZ in noise]
        outputs = [self.decoder(z_BZ) for z_BZ in draws]
        nll_B = torch.stack([self._nll(scaled, output, reduction, batch.weights) for output in outputs]).mean(0)
        if self.variance is not None and keep:
            self.variance.keep(scaled, self._squashed(outputs[0]), reduction, self._known(batch))
        if self.noise is not None and keep:
            self.noise.keep(scaled, self._squashed(outputs[0]), *self._noise_of(batch.weights), reduction)
        return nll_B

    def bound(self, batch: Batch, noise_BZ: Tensor) -> Tensor:
        """What log p(x|u) is at least, (B,), nats, but for constants: eq. (2), guided latents drawn from their prior.

        Of Aux-VAE alone: the prior of other models knows nothing of u, and for them this is a bound of log p(x). The
        approximate posterior of guided latents is the prior about u itself, whose KL is 0, so that no encoder's error
        in reading u counts; the others have that of the encoder. noise_BZ: (B, Z) from N(0, 1), one draw.
        """
        scaled, guided = self.scale(batch.images), len(self.columns) if self.GUIDED else 0
        mean_BZ, logvar_BZ = self._encode_scaled(scaled, self.factors(batch), self._known(batch))
        prior_mean_BZ, prior_var_BZ = self.prior(batch)
        mean_BZ = torch.cat([prior_mean_BZ[:, :guided], mean_BZ[:, guided:]], 1)
        posterior = Posterior(mean_BZ, torch.cat([prior_var_BZ[:, :guided].log(), logvar_BZ[:, guided:]], 1))
        output = self.decoder(posterior.sample(noise_BZ))
        nll_B = self._nll(scaled, output, Reduction(len(scaled)), batch.weights)
        return -nll_B - gaussian_kl(posterior, prior_mean_BZ, prior_var_BZ)

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance of the prior of z, each (B, Z): here N(0, 1) for every coordinate."""
        mean_BZ = batch.images.new_zeros(len(batch.images), self.latents)
        return mean_BZ, torch.ones_like(mean_BZ)

    def _known(self, batch: Batch) -> Tensor | None:
        """Which pixels take part, (B, C, H, W); None where all do."""
        if batch.weights is None or not self.objective.leaves_out:
            return None
        return (batch.weights > 0).expand_as(batch.images)

    def _noise_of(self, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Inverse variances and 0 on the scale of the likelihood; without weights those that are usual."""
        assert self.noise is not None and isinstance(self.scale, FieldScale)
        usual = self.noise.usual[None] if weights is None else weights
        return usual * self.scale.spread * self.scale.spread, -self.scale.centre / self.scale.spread

    def _nll(self, scaled: Tensor, output: Tensor, reduction: Reduction, weights: Tensor | None = None) -> Tensor:
        """-log p(x|z) of the decoder's output before any squashing, (B,). weights: as those of a Batch."""
        match self.objective.likelihood:
            case "bernoulli":
                return bernoulli_nll(scaled, output)
            case "optimal":
                return optimal_gaussian_nll(scaled, self._squashed(output), reduction)
            case "fitted":
                assert self.variance is not None
                known = None if weights is None else (weights > 0).expand_as(scaled)
                return self.variance.nll(scaled, self._squashed(output), known)
            case "weighted":
                assert self.noise is not None
                return self.noise.nll(scaled, self._squashed(output), *self._noise_of(weights))
            case "log10-mse":
                return log10_mse(scaled, self._squashed(output))
            case _:
                assert self.plain_nll is not None
                return self.plain_nll(scaled, self._squashed(output), self.objective.sigma)

    def _encode_scaled(self, scaled: Tensor, u_BD: Tensor | None, known: Tensor | None = None) -> Posterior:
        seen, labels = self._seen(scaled, known=known), self._labels(u_BD)
        return Posterior(*self.encoder(seen, labels, **self._beside(known)).chunk(2, 1))

    def _beside(self, known: Tensor | None) -> dict[str, Tensor]:
        """What an encoder with a linear way is told of missing pixels, (B, C, H, W)."""
        return {} if known is None or getattr(self.encoder, "linear", None) is None else {"known": known}

    def _seen(self, scaled: Tensor, dimmest: float = 0.0, known: Tensor | None = None) -> Tensor:
        """What the encoder is given of images on the scale of the likelihood. dimmest: least peak to divide by.

        known: which pixels are not missing; these are 0.
        """
        shown = self.scale.seen(scaled)
        shown = shown if known is None else shown.where(known, 0)
        if not self.objective.peak_channel:
            return shown
        peak = scaled.amax((1, 2, 3), keepdim=True)
        return torch.cat([scaled / peak.clamp_min(max(dimmest, torch.finfo(peak.dtype).tiny)), shown], 1)

    def _labels(self, u_BD: Tensor | None) -> Tensor | None:
        """What the encoder sees beside the image."""
        return None

    def _squashed(self, output: Tensor) -> Tensor:
        return output.sigmoid() if self.objective.sigmoid else output
