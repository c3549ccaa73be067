"""What the models of docs/rivals.md have in common beside a BetaVAE: gradients are cut as those of Aux-VAE are."""

from typing import Any, ClassVar

from torch import Tensor

from hpcauxvae.models.base import UsualNorm
from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.objectives import Objective


class Rival(BetaVAE):
    """A BetaVAE whose gradients are cut at twice their usual norm, where the objective cuts at all.

    beta-VAE, IDVAE and IDVAE-x are cut at the constant norm of their objective, as in their published results.
    """

    TRAINED_BY: ClassVar[tuple[str, ...]] = ("norms.",)

    def __init__(self, objective: Objective, **sizes: Any) -> None:
        """As BetaVAE."""
        super().__init__(objective, **sizes)
        self.norms = UsualNorm()

    def largest_norm(self, norm: Tensor) -> float | Tensor | None:
        """As Model: what a constant is worth depends on the number of pixels, and on the weight of the model's own."""
        return None if self.objective.clip_norm is None else self.norms.twice(norm)
