"""Independence of all residual latents together from all factors together, by random features (Rahimi and Recht 2007).

Powers of one factor and one latent (regularizers.py) do not see a latent that tells the product of two factors, nor two
latents that only together tell a factor. Features of the whole residual vector against functions of the whole factor
vector do, and each feature is one more column of the same moments.

Shapes: B batch, D factors, R residual latents, P functions of the factors, M features.
"""

import math

import torch
from torch import Tensor, nn

FEATURES = 128
WAVES = 8
"""Random waves among the functions of the factors."""
_LENGTHS = (0.5, 2.5)
"""Of the wave vectors of the features, for latents of unit scale, as the prior N(0, 1) keeps them."""
_WAVE_LENGTHS = (2.0, 10.0)
"""Of those of the factors, which lie in [0, 1]."""
_SEED = 20_260_101


class JointFeatures(nn.Module):
    """Functions of the factors and features of the residual latents. The random vectors are saved with the weights."""

    w_RM: Tensor
    b_M: Tensor
    v_DW: Tensor
    c_W: Tensor
    pairs: Tensor

    def __init__(self, d: int, residual: int) -> None:
        """d factors, `residual` latents; the same vectors for the same numbers, whatever the seed of the training."""
        super().__init__()
        rng = torch.Generator().manual_seed(_SEED)
        for names, rows, columns, lengths in (
            (("w_RM", "b_M"), residual, FEATURES, _LENGTHS),
            (("v_DW", "c_W"), d, WAVES, _WAVE_LENGTHS),
        ):
            vectors = torch.randn(rows, columns, generator=rng, dtype=torch.float64)
            low, high = lengths
            length = low + (high - low) * torch.rand(columns, generator=rng, dtype=torch.float64)
            self.register_buffer(names[0], (vectors * length / vectors.norm(dim=0)).float())
            self.register_buffer(names[1], 2 * math.pi * torch.rand(columns, generator=rng))
        self.register_buffer("pairs", torch.triu_indices(d, d), persistent=False)
        self.functions_of, self.features_of = d + d * (d + 1) // 2 + WAVES, FEATURES
        """P and M."""

    def functions(self, u_BD: Tensor) -> Tensor:
        """(B, P): each factor, all products of two, and cosines of all; NaN where a factor that it takes is NaN."""
        x_BD = u_BD - 0.5
        first, second = self.pairs
        waves_BW = torch.cos(x_BD @ self.v_DW.to(x_BD) + self.c_W.to(x_BD))
        return torch.cat([x_BD, x_BD[:, first] * x_BD[:, second], waves_BW], 1)

    def features(self, mean_BR: Tensor, var_BR: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of cos(w z + b), each (B, M), of z ~ N(mean, diag var), in closed form.

        E = cos(a) exp(-q/2) and Var = (1 - exp(-q)) (1 - exp(-q) cos(2a)) / 2 with a = w mean + b, q = sum of w^2 var.
        """
        w_RM = self.w_RM.to(mean_BR)
        angle_BM = mean_BR @ w_RM + self.b_M.to(mean_BR)
        width_BM = var_BR @ w_RM.square()
        variance_BM = -torch.expm1(-width_BM) * (1 - torch.exp(-width_BM) * torch.cos(2 * angle_BM)) / 2
        return torch.cos(angle_BM) * torch.exp(-width_BM / 2), variance_BM
