"""The dependence regularizers of (9): R0 (7) and R1 (8), from correlations of powers.

Shapes: B batch, D auxiliary factors, Z latent coordinates, K degree.
"""

import torch.distributed as dist
from torch import Tensor

from hpcauxvae import native
from hpcauxvae.moments import PolynomialMoments, check_inputs
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
    if u_BD.ndim == 2 and codes_BZ.ndim == 2 and u_BD.shape[1] > codes_BZ.shape[1]:
        raise InputError(f"u_BD has {u_BD.shape[1]} columns; allowed: at most those of codes_BZ, {codes_BZ.shape[1]}")
    check_inputs(u_BD, codes_BZ, var_BZ, degree)
    if native.serves(codes_BZ.device):
        intra, inter = native.terms(u_BD, codes_BZ, var_BZ, None, degree, group)
        return intra, inter
    moments = PolynomialMoments.of(u_BD, codes_BZ, var_BZ, degree=degree).all_reduce(group)
    return terms(moments.correlation())
