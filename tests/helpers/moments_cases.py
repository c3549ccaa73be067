"""Samples and an independent reference for the regularizers, shared by the tests of every device.

The reference integrates E[z^k | x] and Var(z^k | x) by Gauss-Hermite quadrature and loops over (7) and (8) one
correlation at a time, in float64; its gradient is autograd's.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Case(NamedTuple):
    name: str
    u_BD: Tensor
    codes_BZ: Tensor
    var_BZ: Tensor | None
    degree: int


def draw(
    seed: int,
    n: int,
    d: int,
    dz: int,
    *,
    offset: float = 0.0,
    spread: bool = False,
    missing: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """u of uniform factors, codes that follow them in part, variances; rounded to dtype."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(n, d, generator=generator, dtype=torch.float64)
    codes = torch.randn(n, dz, generator=generator, dtype=torch.float64)
    codes[:, :d] += 2 * u
    codes[:, -1] -= u[:, 0]
    var = torch.rand(n, dz, generator=generator, dtype=torch.float64) + 0.05
    u[torch.rand(n, d, generator=generator) < missing] = torch.nan
    return (u + offset).to(dtype), (codes + offset).to(dtype), var.to(dtype) if spread else None


def _case(name: str, seed: int, n: int, d: int, dz: int, degree: int, **how: object) -> Case:
    return Case(name, *draw(seed, n, d, dz, **how), degree)  # type: ignore[arg-type]


def _special() -> list[Case]:
    u, codes, var = draw(20, 90, 3, 6, spread=True)
    constant = codes.clone()
    constant[:, 1] = 0.3
    constant[:, 4] = -7.0
    still = u.clone()
    still[:, 2] = 0.25
    lost = u.clone()
    lost[:, 1] = torch.nan
    lost[1:, 2] = torch.nan
    wide = torch.randn(90, 16, dtype=torch.float64)
    wide[:, 3:9] = codes
    long_u, long_codes, long_var = draw(21, 400, 2, 4, spread=True)
    long_u[:100, 0] = torch.nan
    long_codes[:100] += 5  # so that the codes' means differ between the factors
    return [
        Case("constant code", u, constant, None, 3),
        Case("constant code with spread", u, constant, var, 3),
        Case("constant factor", still, codes, var, 3),
        Case("factor never and once measured", lost, codes, var, 3),
        Case("rows far apart", u, wide[:, 3:9], var, 3),
        Case("columns far apart", u, codes.T.contiguous().T, var, 3),
        Case("one row repeated", u[:1].expand(90, 3), codes, var, 3),
        Case("missing in one of several blocks", long_u, long_codes, long_var, 2),
        Case("collapsed code", u, codes * 1e-9, None, 3),
    ]


CASES = [
    _case("plain", 1, 64, 5, 10, 3),
    _case("spread", 2, 64, 5, 10, 3, spread=True),
    _case("degree 1, all latents auxiliary", 3, 50, 4, 4, 1, spread=True),
    _case("one factor", 4, 77, 1, 3, 6, spread=True),
    _case("missing", 5, 300, 3, 5, 3, missing=0.3),
    _case("missing with spread", 6, 301, 5, 10, 4, missing=0.2, spread=True),
    _case("several blocks", 7, 1000, 2, 6, 5, spread=True),
    _case("two samples", 8, 2, 2, 3, 2, spread=True),
    _case("float32", 9, 200, 3, 7, 3, spread=True, dtype=torch.float32),
    _case("float32, mean 1e4 deviations", 10, 500, 2, 4, 3, offset=1e4, dtype=torch.float32),
    _case("float32, mean 1e4 deviations, spread", 11, 500, 2, 4, 3, offset=1e4, spread=True, dtype=torch.float32),
    _case("bfloat16", 12, 200, 3, 5, 3, spread=True, missing=0.1, dtype=torch.bfloat16),
    *_special(),
]


def _power_moments(mean_N: Tensor, var_N: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    if var_N is None:
        return mean_N**k, torch.zeros_like(mean_N)
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    weights_G = torch.from_numpy(weights / weights.sum())
    z_NG = mean_N[:, None] + var_N.sqrt()[:, None] * torch.from_numpy(nodes)
    power_N = z_NG**k @ weights_G
    return power_N, (z_NG**k - power_N[:, None]) ** 2 @ weights_G


def _constant(values_N: Tensor) -> bool:
    return bool(values_N.max() - values_N.min() <= 1e-12 * values_N.abs().max())


def correlations(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int) -> Tensor:
    """(D, K, Z, K), one at a time; columns that do not vary over the samples have correlation 0."""
    u_BD, codes_BZ = u_BD.double(), codes_BZ.double()
    var_BZ = None if var_BZ is None else var_BZ.double()
    d, dz = u_BD.shape[1], codes_BZ.shape[1]
    values = []
    for j in range(d):
        known = ~u_BD[:, j].isnan()
        u_N = u_BD[known, j]
        for k in range(1, degree + 1):
            du_N = u_N**k - (u_N**k).mean()
            for z in range(dz):
                var_N = None if var_BZ is None else var_BZ[known, z]
                for m in range(1, degree + 1):
                    c_N, v_N = _power_moments(codes_BZ[known, z], var_N, m)
                    dc_N = c_N - c_N.mean()
                    denominator = (du_N.square().sum() * (dc_N.square().sum() + v_N.sum())).sqrt()
                    flat = len(u_N) < 2 or _constant(u_N) or _constant(c_N)
                    values.append(torch.zeros((), dtype=torch.float64) if flat else (du_N * dc_N).sum() / denominator)
    return torch.stack(values).view(d, degree, dz, degree)


def table(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int) -> Tensor:
    """`correlations` for large shapes: quadrature and one matrix product a factor."""
    u_BD, codes_BZ = u_BD.double(), codes_BZ.double()
    var_BZ = None if var_BZ is None else var_BZ.double()
    (n, dz), rows = codes_BZ.shape, []
    flat_var = None if var_BZ is None else var_BZ.flatten()
    parts = [_power_moments(codes_BZ.flatten(), flat_var, k + 1) for k in range(degree)]
    c_BQ, v_BQ = (torch.stack(part, -1).view(n, dz * degree) for part in zip(*parts, strict=True))
    for j in range(u_BD.shape[1]):
        known = ~u_BD[:, j].isnan()
        u_NK, c_NQ = torch.stack([u_BD[known, j] ** (k + 1) for k in range(degree)], -1), c_BQ[known]
        du_NK, dc_NQ = u_NK - u_NK.mean(0), c_NQ - c_NQ.mean(0)
        scale_KQ = torch.outer(du_NK.square().sum(0), dc_NQ.square().sum(0) + v_BQ[known].sum(0))
        alive_KQ = torch.outer(_varies(u_NK), _varies(c_NQ))
        rows.append(torch.where(alive_KQ, du_NK.T @ dc_NQ / torch.where(alive_KQ, scale_KQ, 1.0).sqrt(), 0.0))
    return torch.stack(rows).view(u_BD.shape[1], degree, dz, degree)


def _varies(x_NX: Tensor) -> Tensor:
    if len(x_NX) < 2:
        return torch.zeros(x_NX.shape[1], dtype=torch.bool)
    return x_NX.max(0).values - x_NX.min(0).values > 1e-12 * x_NX.abs().max(0).values


def expected(case: Case) -> tuple[Tensor, Tensor]:
    """The two terms of (9), written as the sums of (7) and (8)."""
    corr = correlations(case.u_BD, case.codes_BZ, case.var_BZ, case.degree)
    d, degree, dz, _ = corr.shape
    intra = torch.zeros((), dtype=torch.float64)
    inter = torch.zeros((), dtype=torch.float64)
    for j in range(d):
        intra = intra + (1 - corr[j, :, j].abs()).sum() / degree
        for i in range(d):
            if i != j:
                intra = intra + corr[j, :, i].abs().sum() / (degree * (d - 1))
        for i in range(d, dz):
            inter = inter + corr[j, :, i].abs().sum() / (degree * d * (dz - d))
    return intra, inter


def gradient(terms: tuple[Tensor, Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Of 0.7 intra + 1.3 inter; zeros where nothing depends on a leaf."""
    total = 0.7 * terms[0] + 1.3 * terms[1]
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    grads = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True)]


def leaves(case: Case, dtype: torch.dtype | None = None) -> tuple[Case, list[Tensor]]:
    """The case with codes and variances as leaves that require gradients."""
    codes = case.codes_BZ.detach().to(dtype or case.codes_BZ.dtype).requires_grad_()
    var = None if case.var_BZ is None else case.var_BZ.detach().to(dtype or case.var_BZ.dtype).requires_grad_()
    return case._replace(codes_BZ=codes, var_BZ=var), [codes] if var is None else [codes, var]
