"""Independence by the Hilbert-Schmidt criterion on random features (Gretton et al. 2005; Rahimi and Recht 2007).

The squared length of the cross-covariance of features of all factors and features of all residual latents, which are
those of Gaussian kernels. The features are columns of the same moments as those of joint.py; what differs is their
lengths, that those of the factors are as many, and the norm.

Shapes: B batch, D factors, R residual latents, P features of the factors, M features of the latents, S memories.
"""

import math

import torch
from torch import Tensor

from hpcauxvae.dependence.joint import JointFeatures
from hpcauxvae.dependence.past import Past

OF_FACTORS = 64
"""P."""
_SEED = 20_260_102
_UNIFORM = 1 / 12
"""Variance of a factor in [0, 1]."""


def _waves(rows: int, columns: int, variance: float, number: int) -> tuple[Tensor, Tensor]:
    """w ~ N(0, 1/s^2), s^2 = 2 rows variance the mean squared distance of two samples, and phases."""
    rng = torch.Generator().manual_seed(_SEED + number)
    w = torch.randn(rows, columns, generator=rng, dtype=torch.float64) / math.sqrt(2 * rows * variance)
    return w.float(), 2 * math.pi * torch.rand(columns, generator=rng)


class KernelFeatures(JointFeatures):
    """Features cos(w x + b) of factors and latents, of kernels exp(-|x - x'|^2 / (2 s^2))."""

    f_DP: Tensor
    g_P: Tensor

    def __init__(self, d: int, residual: int) -> None:
        """As JointFeatures."""
        super().__init__(d, residual)
        f_DP, g_P = _waves(d, OF_FACTORS, _UNIFORM, 1)
        self.register_buffer("f_DP", f_DP)
        self.register_buffer("g_P", g_P)
        self.functions_of = OF_FACTORS

    def drawn(self, residual: int, features: int, step: int) -> tuple[Tensor, Tensor]:
        """As JointFeatures."""
        return _waves(residual, features, 1.0, 2 + step)

    def of_factors(self, u_BD: Tensor) -> Tensor:
        """(B, P), NaN where a factor is."""
        return torch.cos(u_BD @ self.f_DP.to(u_BD) + self.g_P.to(u_BD))


class KernelPast(Past):
    """Of features, whose pairs count by their variances: the mean of r^2 is then that of covariances, HSIC over the
    traces of both covariances."""

    def _weights(self) -> Tensor:
        """(S, D, K, Z, K): products of both variances over their mean; 1 where nothing is known."""
        _, _, _, _, within, m2_u, m2_c, _ = self.moments
        products = m2_u * (m2_c + within)
        mean = products.mean((1, 2, 3, 4), keepdim=True)
        return torch.where(mean > 0, products / mean.clamp(min=1e-300), 1.0)

    def slopes(self) -> Tensor:
        """(S, D, K, Z, K): of the root of the mean of r^2 where the past stands, smoothed at the noise of r; with the
        correlations of a batch their mean is that root, in the mean over batches."""
        r, weights = self.correlation(), self._weights()
        square = (weights * r.square()).mean((1, 2, 3, 4), keepdim=True)
        return weights * r * (square + 1 / self.samples().clamp(min=1)).rsqrt()

    def dependence(self, memory: int = 0) -> Tensor:
        """As Past, pairs weighted so."""
        within, m2_c = self.moments[4, memory], self.moments[6, memory]
        share = m2_c / (m2_c + within).clamp(min=1e-300)
        n, weights = self.samples()[memory].clamp(min=1), self._weights()[memory]
        return (weights * (self.correlation()[memory].square() - share / n)).mean()
