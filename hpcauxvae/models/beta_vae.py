"""beta-VAE (Higgins et al. 2017): the VAE of eq. (2) with beta times the KL to N(0, I); uses no auxiliary variable."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from hpcauxvae.distributed import global_mean
from hpcauxvae.networks import DECODERS, ENCODERS
from hpcauxvae.objectives import ImageScale, Objective, gaussian_kl, gaussian_nll
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

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor) -> None:
        """Takes from training data what is fixed before the first step: the scale, and biases that fit (N, C, H, W)."""
        self.scale.fit(float(images.max()))
        if self.objective.informed_start:
            mean_CHW = self.scale(images).mean(0)
            self.decoder.start_at(mean_CHW.logit() if self.objective.sigmoid else mean_CHW)

    def encode(self, images: Tensor) -> Posterior:
        return self._encode_scaled(self.scale(images))

    def decode(self, z_BZ: Tensor) -> Tensor:
        return self.scale.inverse(self._decode_scaled(z_BZ))

    def forward(self, batch: Batch, noise_BZ: Tensor) -> LossTerms:
        scaled = self.scale(batch.images)
        posterior = self._encode_scaled(scaled)
        output = self._decode_scaled(posterior.sample(noise_BZ))
        kl_B = gaussian_kl(posterior, *self.prior(batch))
        return {
            "reconstruction": self._mean(gaussian_nll(scaled, output, self.objective.sigma)),
            "kl": self.objective.beta * self._mean(kl_B),
        } | self.regularizers(batch, posterior)

    def _mean(self, values_B: Tensor) -> Tensor:
        return global_mean(values_B, self.global_batch or len(values_B), self.group)

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance of the prior of z, each (B, Z)."""
        mean_BZ = batch.images.new_zeros(len(batch.images), self.latents)
        return mean_BZ, torch.ones_like(mean_BZ)

    def regularizers(self, batch: Batch, posterior: Posterior) -> LossTerms:
        """Further weighted terms of the loss."""
        return {}

    def _encode_scaled(self, scaled: Tensor) -> Posterior:
        if self.objective.peak_channel:
            peak = scaled.amax((1, 2, 3), keepdim=True)
            scaled = torch.cat([scaled / peak.clamp_min(torch.finfo(peak.dtype).tiny), scaled], 1)
        return Posterior(*self.encoder(scaled).chunk(2, 1))

    def _decode_scaled(self, z_BZ: Tensor) -> Tensor:
        output = self.decoder(z_BZ)
        return output.sigmoid() if self.objective.sigmoid else output
