"""Moments of the powers of auxiliary variables and of latent codes: float64, mergeable, differentiable in the codes.

Shapes: B batch, D auxiliary factors, Z latent coordinates, K degree. u^1..u^K are the powers of a factor; c^1..c^K,
c^k = E[z^k | x], those of a code. Everything is kept per factor, because a factor that was not measured (NaN) leaves
its sample out of that factor's statistics only: the moments are pairwise complete.
"""

import math
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from hpcauxvae.runtime.collectives import sum_over_ranks
from hpcauxvae.runtime.devices import in_float64
from hpcauxvae.types import InputError, Reduction

try:
    core: Any = import_module("hpcauxvae.dependence._core")
    """The compiled module, or None."""
except ImportError:
    core = None
MAX_DEGREE = 6
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def check_inputs(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int) -> None:
    """Raise InputError naming the first argument that does not fit the others."""
    if not 1 <= degree <= MAX_DEGREE:
        raise InputError(f"degree is {degree}; allowed: 1 to {MAX_DEGREE}")
    for name, tensor in (("u_BD", u_BD), ("codes_BZ", codes_BZ), ("var_BZ", var_BZ)):
        if tensor is None:
            continue
        if tensor.ndim != 2 or tensor.shape[1] == 0:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}; allowed: two dimensions, at least one column")
        if tensor.dtype not in _DTYPES:
            raise InputError(f"{name} has dtype {tensor.dtype}; allowed: float32, float64, bfloat16")
        if tensor.device != codes_BZ.device:
            raise InputError(f"{name} is on {tensor.device}; allowed: the device of codes_BZ, {codes_BZ.device}")
    if u_BD.shape[0] != codes_BZ.shape[0]:
        raise InputError(f"u_BD has {u_BD.shape[0]} rows; allowed: as many as codes_BZ, {codes_BZ.shape[0]}")
    if var_BZ is not None and var_BZ.shape != codes_BZ.shape:
        raise InputError(f"var_BZ has shape {tuple(var_BZ.shape)}; allowed: that of codes_BZ, {tuple(codes_BZ.shape)}")


def gaussian_moments(mean_BZ: Tensor, var_BZ: Tensor, degree: int) -> Tensor:
    """E[z^k] of z ~ N(mean, var) for k = 0..degree, (B, Z, degree + 1): mu, mu^2 + s2, mu^3 + 3 mu s2, ..."""
    moments = [torch.ones_like(mean_BZ), mean_BZ]
    for k in range(2, degree + 1):
        moments.append(mean_BZ * moments[k - 1] + (k - 1) * var_BZ * moments[k - 2])
    return torch.stack(moments, dim=-1)


def gaussian_power_variances(moments_BZK: Tensor, var_BZ: Tensor) -> Tensor:
    """Var(z^k) of z ~ N(mean, var) for k = 1..K, (B, Z, K), from gaussian_moments of degree K.

    E[z^2k] - E[z^k]^2 cancels where var is small. The Hermite expansion of z^k has positive terms only:
    Var(z^k) = sum over i = 1..k of i! C(k, i)^2 var^i E[z^(k-i)]^2.
    """
    variances = []
    for k in range(1, moments_BZK.shape[-1]):
        terms = [
            math.factorial(i) * math.comb(k, i) ** 2 * var_BZ**i * moments_BZK[..., k - i] ** 2 for i in range(1, k + 1)
        ]
        variances.append(torch.stack(terms).sum(0))
    return torch.stack(variances, dim=-1)


def covariance(codes_BZ: Tensor, reduction: Reduction) -> Tensor:
    """Of the codes of all ranks, n = reduction.n rows: (Z, Z), float64, over n; differentiable in the codes.

    Two sums over ranks, of means and then of what is centred, as PolynomialMoments.all_reduce, with its gradients.
    """
    rows_BZ = in_float64(codes_BZ)
    centred_BZ = rows_BZ - sum_over_ranks(rows_BZ.sum(0), reduction.group) / reduction.n
    return sum_over_ranks(centred_BZ.T @ centred_BZ, reduction.group) / reduction.n


def _per_count(total: Tensor, n_D: Tensor) -> Tensor:
    """total / n along the first dimension; 0 where a factor has no samples (its total is 0 too)."""
    return total / n_D.clamp(min=1.0).view(-1, *[1] * (total.ndim - 1))


def inverse_root(m2: Tensor, within: Tensor | None, mean: Tensor, n: Tensor) -> Tensor:
    """1 / sqrt(m2 + within), or 0 where m2 is no more than the rounding error of its accumulation; last dimension K.

    The centred values carry an error of a few units in the last place of the mean. The second bound, on the standard
    deviation of the k-th power, keeps the gradient of collapsed columns within float32 and m2 out of the subnormals.
    """
    powers = torch.arange(1, m2.shape[-1] + 1, device=m2.device, dtype=m2.dtype)
    smallest = (10.0 ** (-60.0 * powers)).clamp(min=1e-290)
    dead = m2 <= n * torch.maximum((16.0 * torch.finfo(m2.dtype).eps * mean) ** 2, smallest)
    total = m2 if within is None else m2 + within
    return torch.where(dead, 0.0, torch.where(dead, 1.0, total).rsqrt())


@dataclass(frozen=True)
class PolynomialMoments:
    """Counts, means and centred second moments of u^1..u^K and c^1..c^K over the samples where each factor is known.

    All float64, on the device of the codes or, where that has no float64, on the CPU. Second moments are sums, not
    averages, so that they merge (`all_reduce`).
    """

    n_D: Tensor
    """(D,) samples in which the factor is not NaN."""
    mean_u_DK: Tensor
    """(D, K) means of u^k."""
    mean_c_DZK: Tensor
    """(D, Z, K) means of c^k."""
    within_DZK: Tensor
    """(D, Z, K) sum over samples of Var(z^k | x); zero where no posterior variances were given."""
    m2_u_DK: Tensor
    """(D, K) sum over samples of (u^k - mean)^2."""
    m2_c_DZK: Tensor
    """(D, Z, K) sum over samples of (c^k - mean)^2."""
    cross_DKZK: Tensor
    """(D, K, Z, K) sum over samples of (u^k - mean) (c^k' - mean)."""

    @classmethod
    def of(cls, u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None = None, *, degree: int) -> Self:
        """Moments of one batch, which may be empty; differentiable in codes and variances, not in u.

        u_BD: (B, D), NaN where not measured. codes_BZ: (B, Z) posterior means. var_BZ: (B, Z) posterior variances,
        or None for codes without spread. degree: K, 1 to 6. Raises InputError for arguments that do not fit.
        """
        check_inputs(u_BD, codes_BZ, var_BZ, degree)
        u_BD, mean_BZ = in_float64(u_BD.detach()), in_float64(codes_BZ)
        spread_BZ = torch.zeros_like(mean_BZ) if var_BZ is None else in_float64(var_BZ)
        known_DB = (~u_BD.isnan()).T.double()
        n_D = known_DB.sum(1)
        u_DB = torch.where(u_BD.isnan(), 0.0, u_BD).T
        u_DBK = torch.stack([u_DB**k for k in range(1, degree + 1)], dim=-1)
        moments_BZK = gaussian_moments(mean_BZ, spread_BZ, degree)
        c_BZK = moments_BZK[..., 1:]
        within_BZK = torch.zeros_like(c_BZK) if var_BZ is None else gaussian_power_variances(moments_BZK, spread_BZ)

        mean_u_DK = _per_count(torch.einsum("db,dbk->dk", known_DB, u_DBK), n_D)
        mean_c_DZK = _per_count(torch.einsum("db,bzk->dzk", known_DB, c_BZK), n_D)
        du_DBK = (u_DBK - mean_u_DK[:, None]) * known_DB[..., None]
        dc_DBZK = (c_BZK - mean_c_DZK[:, None]) * known_DB[..., None, None]
        return cls(
            n_D=n_D,
            mean_u_DK=mean_u_DK,
            mean_c_DZK=mean_c_DZK,
            within_DZK=torch.einsum("db,bzk->dzk", known_DB, within_BZK),
            m2_u_DK=du_DBK.square().sum(1),
            m2_c_DZK=dc_DBZK.square().sum(1),
            cross_DKZK=torch.einsum("dbk,dbzl->dkzl", du_DBK, dc_DBZK),
        )

    def all_reduce(self, group: dist.ProcessGroup | None) -> Self:
        """Moments of all ranks' samples, the same on every rank; None: this process alone.

        Two sums over ranks, (n, n mean) and then M2 + n gap gap^T, and as many in the backward pass, which are SUM as
        well: each rank's gradient is then world size x d loss / d codes, which the mean of DistributedDataParallel
        makes right. Every rank must take part, also one without samples, and in the backward pass too.
        """
        if group is None:
            return self
        n_D, sum_u_DK, sum_c_DZK = self._sum_over_ranks(
            group,
            self.n_D,
            self.mean_u_DK * self.n_D[:, None],
            self.mean_c_DZK * self.n_D[:, None, None],
        )
        mean_u_DK, mean_c_DZK = _per_count(sum_u_DK, n_D), _per_count(sum_c_DZK, n_D)
        gap_u_DK, gap_c_DZK = self.mean_u_DK - mean_u_DK, self.mean_c_DZK - mean_c_DZK
        within_DZK, m2_u_DK, m2_c_DZK, cross_DKZK = self._sum_over_ranks(
            group,
            self.within_DZK,
            self.m2_u_DK + gap_u_DK**2 * self.n_D[:, None],
            self.m2_c_DZK + gap_c_DZK**2 * self.n_D[:, None, None],
            self.cross_DKZK + torch.einsum("d,dk,dzl->dkzl", self.n_D, gap_u_DK, gap_c_DZK),
        )
        return type(self)(n_D, mean_u_DK, mean_c_DZK, within_DZK, m2_u_DK, m2_c_DZK, cross_DKZK)

    @staticmethod
    def _sum_over_ranks(group: dist.ProcessGroup, *tensors: Tensor) -> list[Tensor]:
        """All tensors summed over ranks in one collective."""
        total = sum_over_ranks(torch.cat([tensor.flatten() for tensor in tensors]), group)
        parts = total.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def correlation(self) -> Tensor:
        """corr(u_i^k, z_j^k') as (D, K, Z, K).

        The denominator is the total variance, Var(E[z^k' | x]) + E[Var(z^k' | x)], as in (20); without posterior
        variances that is the variance of the codes' powers, as in (6). A column u^k or E[z^k' | x] whose variance over
        the samples is below the rounding error of its accumulation has correlation 0 and gradient 0.
        """
        inverse_u_DK = inverse_root(self.m2_u_DK, None, self.mean_u_DK, self.n_D[:, None])
        inverse_c_DZK = inverse_root(self.m2_c_DZK, self.within_DZK, self.mean_c_DZK, self.n_D[:, None, None])
        return self.cross_DKZK * inverse_u_DK[:, :, None, None] * inverse_c_DZK[:, None]

    def packed(self) -> Tensor:
        """All seven in one flat tensor, in the order of the fields: the layout of csrc/moments.h."""
        return torch.cat([getattr(self, field.name).flatten() for field in fields(self)])

    @classmethod
    def unpacked(cls, values: Tensor, d: int, dz: int, degree: int) -> Self:
        """The inverse of `packed`: views of its argument."""
        shapes = [(d,), (d, degree), *[(d, dz, degree)] * 2, (d, degree), (d, dz, degree), (d, degree, dz, degree)]
        parts = values.split([math.prod(shape) for shape in shapes])
        return cls(*(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))
