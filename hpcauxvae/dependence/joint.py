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
LIFE, PARTS = 400, 4
"""Steps after which a feature is another one; parts of the features that are renewed in turn."""
_LENGTHS = (0.5, 8.0)
"""Of the wave vectors of the features, for latents in units of their spread; those of a scale are as many as those of
another: what is fine may tell a factor, too, where what is coarse tells which object it is."""
_WAVE_LENGTHS = (2.0, 10.0)
"""Of those of the factors, which lie in [0, 1]."""
_SEED = 20_260_101


def _vectors(rows: int, columns: int, lengths: tuple[float, float], number: int) -> tuple[Tensor, Tensor]:
    """Wave vectors of random direction, and phases."""
    rng = torch.Generator().manual_seed(_SEED + number)
    vectors = torch.randn(rows, columns, generator=rng, dtype=torch.float64)
    length = lengths[0] * (lengths[1] / lengths[0]) ** torch.rand(columns, generator=rng, dtype=torch.float64)
    return (vectors * length / vectors.norm(dim=0)).float(), 2 * math.pi * torch.rand(columns, generator=rng)


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
        w_RM, b_M = self.drawn(residual, FEATURES, 0)
        v_DW, c_W = _vectors(d, WAVES, _WAVE_LENGTHS, 0)
        for name, values in {"w_RM": w_RM, "b_M": b_M, "v_DW": v_DW, "c_W": c_W}.items():
            self.register_buffer(name, values)
        self.register_buffer("pairs", torch.triu_indices(d, d), persistent=False)
        self.functions_of = d + d * (d + 1) // 2 + WAVES
        """P."""

    @torch.no_grad()
    def renew(self, step: int) -> slice | None:
        """Takes other vectors for a part of the features, each part after `LIFE` steps; which they are, if any.

        To features that stay the same an encoder can show independence that it does not have.
        """
        if step == 0 or step % (LIFE // PARTS):
            return None
        size = FEATURES // PARTS
        part = step // (LIFE // PARTS) % PARTS * size
        columns = slice(part, part + size)
        w_RM, b_M = self.drawn(len(self.w_RM), size, step)
        self.w_RM[:, columns], self.b_M[columns] = w_RM.to(self.w_RM), b_M.to(self.b_M)
        return columns

    def drawn(self, residual: int, features: int, step: int) -> tuple[Tensor, Tensor]:
        """Wave vectors (R, features) and phases of features of the latents, others for each step."""
        return _vectors(residual, features, _LENGTHS, step)

    def of_factors(self, u_BD: Tensor) -> Tensor:
        """(B, P): what features are held against."""
        return self.functions(u_BD)

    def functions(self, u_BD: Tensor) -> Tensor:
        """(B, P): each factor, all products of two, and cosines of all; NaN where a factor that it takes is NaN."""
        x_BD = u_BD - 0.5
        first, second = self.pairs
        waves_BW = torch.cos(x_BD @ self.v_DW.to(x_BD) + self.c_W.to(x_BD))
        return torch.cat([x_BD, x_BD[:, first] * x_BD[:, second], waves_BW], 1)

    def features(self, mean_BR: Tensor, var_BR: Tensor, spread_R: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of cos(w z / spread + b), each (B, M), of z ~ N(mean, diag var), in closed form.

        E = cos(a) exp(-q/2) and Var = (1 - exp(-q)) (1 - exp(-q) cos(2a)) / 2 with a = w mean + b, q = sum of w^2 var,
        where w is divided by the spread.
        """
        w_RM = self.w_RM.to(mean_BR) / spread_R.to(mean_BR)[:, None]
        angle_BM = mean_BR @ w_RM + self.b_M.to(mean_BR)
        width_BM = var_BR @ w_RM.square()
        variance_BM = -torch.expm1(-width_BM) * (1 - torch.exp(-width_BM) * torch.cos(2 * angle_BM)) / 2
        return torch.cos(angle_BM) * torch.exp(-width_BM / 2), variance_BM
