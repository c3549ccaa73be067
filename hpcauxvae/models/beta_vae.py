"""beta-VAE (Higgins et al. 2017): the VAE of eq. (2) with beta times the KL to N(0, I); uses no auxiliary variable."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from hpcauxvae.models.networks import DECODERS, ENCODERS
from hpcauxvae.models.objectives import (
    ImageScale,
    Objective,
    bernoulli_nll,
    gaussian_kl,
    gaussian_nll,
    log10_mse,
    optimal_gaussian_nll,
)
from hpcauxvae.runtime.collectives import global_mean
from hpcauxvae.types import Around, Batch, Interval, LossTerms, Posterior, Searched


class BetaVAE(nn.Module):
    """See types.Model. The trainer sets `group`, and `global_batch` to the number of samples over which means are
    taken, when a batch is one rank's slice of a global batch; without them a batch stands alone."""

    SEARCHED: ClassVar[Searched] = {
        "beta": Around(10),
        "sigma": Around(4),
        "learning_rate": Around(4),
        "batch_size": (32, 64, 128, 256),
        "latents": Interval(6, 16, log=False),
    }

    COUPLED: ClassVar[bool] = False
    """Whether the regularizers are functions of the codes of the whole batch, and not means over its samples."""

    def __init__(
        self,
        objective: Objective,
        *,
        image_shape: tuple[int, int, int],
        latents: int,
        network: str,
        columns: tuple[int, ...],
        n_train: int,
    ) -> None:
        """columns: the auxiliary factors among the F columns of a batch; n_train: n of eq. (3)."""
        super().__init__()
        self.objective = objective
        self.image_shape = image_shape
        self.latents = latents
        self.columns = list(columns)
        self.n_train = n_train
        self.group: ProcessGroup | None = None
        self.global_batch: int | None = None
        channels, height, width = image_shape
        self.encoder = ENCODERS[network]((channels * (1 + objective.peak_channel), height, width), latents)
        self.decoder = DECODERS[network](image_shape, latents)
        self.scale = ImageScale(objective.scale)
        self.per_pixel = 1 / math.prod(image_shape) if objective.likelihood == "log10-mse" else 1.0

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, brightest: float, darkest: float = 0.0) -> None:
        """Takes from training data what is fixed before the first step: the scale, and biases that fit.

        images: (M, C, H, W), samples for the mean image. u_ND: the auxiliary factors of all training samples.
        brightest, darkest: the highest and the lowest training pixel, in linear data units. Raises InputError if the
        former is not positive, or the scale is `range` and they are equal.
        """
        self.scale.fit(brightest, darkest)
        if self.objective.informed_start:
            mean_CHW = self.scale(images).mean(0)
            self.decoder.start_at(mean_CHW, self.objective.sigmoid)

    def advance(self, progress: float) -> None:
        """Told before each step which share of the training is done; nothing here depends on it."""

    def forget(self) -> None:
        """Lets go of what earlier batches left in the loss; nothing here does."""

    @property
    def noise_size(self) -> int:
        """Columns of standard normal noise that `forward` takes for each sample."""
        return self.latents * self.objective.draws

    def encode(self, images: Tensor, u_BD: Tensor | None = None) -> Posterior:
        """q(z|x) of (2), mean and log-variance (B, Z) each, of images (B, C, H, W) in linear data units.

        u_BD: auxiliary factors in [0, 1], NaN where not measured, for models whose encoder sees them.
        """
        return self._encode_scaled(self.scale(images), u_BD)

    def decode(self, z_BZ: Tensor) -> Tensor:
        """Expected images (B, C, H, W) of p(x|z), in linear data units."""
        return self.scale.inverse(self._squashed(self.decoder(z_BZ)))

    def forward(self, batch: Batch, noise_BZ: Tensor, pull: Posterior | None = None) -> LossTerms:
        """See types.Model. pull: the derivatives of the regularizers of a larger batch, of which this is a part, with
        respect to the means and log-variances of this part. A term `pull` with these derivatives then stands in for
        them; its value means nothing."""
        scaled = self.scale(batch.images)
        posterior = self._encode_scaled(scaled, batch.factors[:, self.columns])
        draws = [posterior.sample(draw_BZ) for draw_BZ in noise_BZ[:, : self.noise_size].split(self.latents, 1)]
        nll_B = torch.stack([self._nll(scaled, self.decoder(z_BZ)) for z_BZ in draws]).mean(0)
        kl_B = gaussian_kl(posterior, *self.prior(batch))
        return {
            "reconstruction": self.per_pixel * self._mean(nll_B),
            "kl": self.per_pixel * self.objective.beta * self._mean(kl_B),
        } | (self.regularizers(batch, posterior, noise_BZ) if pull is None else {"pull": _product(posterior, pull)})

    def _mean(self, values_B: Tensor) -> Tensor:
        return global_mean(values_B, self.global_batch or len(values_B), self.group)

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance of the prior of z, each (B, Z): here N(0, 1) for every coordinate."""
        mean_BZ = batch.images.new_zeros(len(batch.images), self.latents)
        return mean_BZ, torch.ones_like(mean_BZ)

    def regularizers(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor) -> LossTerms:
        """Further weighted terms of the loss: means over samples, or functions of the codes alone if COUPLED."""
        return {}

    def _nll(self, scaled: Tensor, output: Tensor) -> Tensor:
        """-log p(x|z) of the decoder's output before any squashing, (B,)."""
        match self.objective.likelihood:
            case "bernoulli":
                return bernoulli_nll(scaled, output)
            case "optimal":
                return optimal_gaussian_nll(scaled, self._squashed(output), self._mean, self.group)
            case "log10-mse":
                return log10_mse(scaled, self._squashed(output))
        return gaussian_nll(scaled, self._squashed(output), self.objective.sigma)

    def _encode_scaled(self, scaled: Tensor, u_BD: Tensor | None) -> Posterior:
        if self.objective.peak_channel:
            peak = scaled.amax((1, 2, 3), keepdim=True)
            scaled = torch.cat([scaled / peak.clamp_min(torch.finfo(peak.dtype).tiny), scaled], 1)
        return Posterior(*self.encoder(scaled, self._labels(u_BD)).chunk(2, 1))

    def _labels(self, u_BD: Tensor | None) -> Tensor | None:
        """What the encoder sees beside the image."""
        return None

    def _squashed(self, output: Tensor) -> Tensor:
        return output.sigmoid() if self.objective.sigmoid else output


def _product(posterior: Posterior, pull: Posterior) -> Tensor:
    return (posterior.mean * pull.mean).sum() + (posterior.logvar * pull.logvar).sum()
