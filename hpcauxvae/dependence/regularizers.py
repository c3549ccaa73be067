"""The dependence regularizers of (9): R0 (7) and R1 (8), from correlations of powers.

For a device without float64 they are computed on the CPU, and come back in float32.

Shapes: B batch, D auxiliary factors, Z latent coordinates, K degree.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from hpcauxvae.dependence import native
from hpcauxvae.dependence.moments import PolynomialMoments, check_inputs
from hpcauxvae.runtime.devices import from_float64
from hpcauxvae.types import InputError


def terms(correlation_DKZK: Tensor) -> tuple[Tensor, Tensor]:
    """(sum over j of R1(u_j, z_j) + R0(u_j, z_aux without j), R0(u, z_recon)) of (9), unweighted.

    Auxiliary latent j is code column j, j < D. R0 (7) = 1/(K m_v m_w) sum over k, k', i, j of |corr|, R1 (8) = the same
    factor times the sum over k, k', i of 1 - |corr|, with all pairs of powers and the factor 1/K as printed.
    With D = 1 there is no R0 within z_aux; with Z = D there are no residual latents and the second term is 0.
    """
    d, degree, dz, _ = correlation_DKZK.shape
    strength_DZ = correlation_DKZK.abs().sum((1, 3)) / degree
    aux_DD = strength_DZ[:, :d]
    own = aux_DD.diagonal().sum()
    intra = d * degree - own
    if d > 1:
        intra = intra + (aux_DD.sum() - own) / (d - 1)
    inter = strength_DZ[:, d:].sum() / (d * max(dz - d, 1))
    return intra, inter


def _check(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int) -> None:
    check_inputs(u_BD, codes_BZ, var_BZ, degree)
    if u_BD.shape[1] > codes_BZ.shape[1]:
        raise InputError(f"u_BD has {u_BD.shape[1]} columns; allowed: at most those of codes_BZ, {codes_BZ.shape[1]}")


def regularizer(
    u_BD: Tensor,
    codes_BZ: Tensor,
    var_BZ: Tensor | None = None,
    *,
    degree: int = 3,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    """(intra-independence + explicitness, inter-independence) of (9): unweighted float64 scalars.

    u_BD: (B, D) factors, NaN where not measured, no gradient. codes_BZ: (B, Z) posterior means, D <= Z; column j < D
    belongs to factor j. var_BZ: (B, Z) posterior variances: the correlations are those of z itself, as in (20), in
    closed form; None: those of the codes, as in (6). degree: K, 1 to 6. group: None for this process alone, else the
    group whose batches form the global batch (uneven or empty ones too); each rank's gradient is then that of the
    global term times the number of ranks, as DistributedDataParallel wants. Raises InputError.
    """
    _check(u_BD, codes_BZ, var_BZ, degree)
    if native.serves(codes_BZ.device):
        return native.terms(u_BD, codes_BZ, var_BZ, degree, group)
    moments = PolynomialMoments.of(u_BD, codes_BZ, var_BZ, degree=degree).all_reduce(group)
    intra, inter = terms(moments.correlation())
    return from_float64(intra, codes_BZ.device), from_float64(inter, codes_BZ.device)


def authors_regularizer(
    u_BD: Tensor, means_BZ: Tensor, z_BZ: Tensor, *, degree: int = 3, group: dist.ProcessGroup | None = None
) -> tuple[Tensor, Tensor]:
    """(explicitness + intra-independence, inter-independence) as the authors' public code has them: float64 scalars.

    They differ from (7), (8) and (9) in what is correlated and in every factor:
    - explicitness: sum over j of 1 - corr(u_j, z_j), with the sign: a latent that falls with its factor costs up to 2;
      intra-independence: sum over i, j, i != j, of |corr(u_i, z_j)|. Both of sampled z and of degree 1 only.
    - inter-independence: sum over k, k' = 1..K, i, j of |corr(u_i^k, m_j^k')| plus the sum over i < i', j of
      |corr(u_i u_i', m_j)|, over the number of residual coordinates j, whose posterior means are m.

    Shapes, missing factors, group and its gradients are those of `regularizer`; a product of two factors is missing
    where one of them is. z_BZ: (B, Z) samples of the posteriors. Raises InputError.
    """
    _check(u_BD, means_BZ, None, degree)
    if z_BZ.shape != means_BZ.shape:
        raise InputError(f"z_BZ has shape {tuple(z_BZ.shape)}; allowed: that of means_BZ, {tuple(means_BZ.shape)}")
    d, dz = u_BD.shape[1], means_BZ.shape[1]
    first, second = torch.triu_indices(d, d, 1, device=u_BD.device)
    factors = torch.cat([u_BD, u_BD[:, first] * u_BD[:, second]], 1)
    codes = torch.cat([z_BZ[:, :d], means_BZ[:, d:]], 1)
    correlation = PolynomialMoments.of(factors, codes, degree=degree).all_reduce(group).correlation()
    aux_DD = correlation[:d, 0, :d, 0]
    own_D = aux_DD.diagonal()
    intra = (1 - own_D).sum() + aux_DD.abs().sum() - own_D.abs().sum()
    powers, products = correlation[:d, :, d:], correlation[d:, 0, d:, 0]
    inter = (powers.abs().sum() + products.abs().sum()) / max(dz - d, 1)
    return from_float64(intra, means_BZ.device), from_float64(inter, means_BZ.device)
