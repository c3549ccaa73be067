"""What models share whose latent j is auxiliary factor j, but which know no width of eq. (3): the prior of a factor.

The prior of latent j is the Gaussian of u_j's mean and variance over the training samples. Up to the unit in which z_j
is measured that is N(0, 1), and images can be asked for by u_j itself. Shape legend in types.py.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.objectives import Objective
from hpcauxvae.models.rival import Rival
from hpcauxvae.types import Batch


class GuidedVAE(Rival):
    """BetaVAE with that prior; to be guided is left to subclasses."""

    GUIDED: ClassVar[bool] = True
    LABELS_ARE_EXACT: ClassVar[bool] = True
    u_mean: Tensor
    u_var: Tensor
    """(D,): mean and variance of each factor where it is measured."""

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        self.register_buffer("u_mean", torch.zeros(len(self.columns)))
        self.register_buffer("u_var", torch.ones(len(self.columns)))

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange, errors_ND: Tensor | None = None) -> None:
        """As BetaVAE; labels count as exact. With `informed_start` the posteriors begin as wide as their prior."""
        super().prepare(images, u_ND, pixels)
        self.u_mean.copy_(u_ND.nanmean(0))
        self.u_var.copy_((u_ND - self.u_mean).square().nanmean(0).clamp(min=torch.finfo(u_ND.dtype).eps))
        if self.objective.informed_start:
            logvar_Z = images.new_zeros(self.latents)
            logvar_Z[: len(self.columns)] = self.u_var.log()
            self._start(logvar_Z)

    def _start(self, logvar_Z: Tensor) -> None:
        self.encoder.start_at(logvar_Z)

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, Z): those of u_j for its latent, 0 and 1 for the others."""
        mean_BZ, var_BZ = super().prior(batch)
        d = len(self.columns)
        mean_BZ[:, :d], var_BZ[:, :d] = self.u_mean, self.u_var
        return mean_BZ, var_BZ
