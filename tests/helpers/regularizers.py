"""An implementation of the regularizers against the reference of moments_cases.py, value and gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers import moments_cases as cases
from hpcauxvae.dependence import native
from hpcauxvae.dependence.regularizers import regularizer

Implementation = Callable[..., tuple[Tensor, Tensor]]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-5}
GRADIENT = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 1e-2}


def compiled(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None = None, *, degree: int = 3) -> tuple[Tensor, Tensor]:
    """The compiled module, which must be here."""
    assert native.serves(codes_BZ.device)
    return regularizer(u_BD, codes_BZ, var_BZ, degree=degree)


def assert_matches(implementation: Implementation, case: cases.Case) -> None:
    dtype = case.codes_BZ.dtype
    wanted_case, wanted_leaves = cases.leaves(case, torch.float64)
    wanted = cases.expected(wanted_case)
    own_case, own_leaves = cases.leaves(case)
    got = implementation(case.u_BD, own_case.codes_BZ, own_case.var_BZ, degree=case.degree)
    size = case.degree * (case.u_BD.shape[1] + 1)
    for value, want in zip(got, wanted, strict=True):
        assert value.dtype == torch.float64
        assert abs(value.item() - want.item()) <= TOLERANCE[dtype] * size
    for grad, want in zip(cases.gradient(got, own_leaves), cases.gradient(wanted, wanted_leaves), strict=True):
        assert grad.dtype == dtype
        assert (grad.double() - want).norm() <= GRADIENT[dtype] * want.norm() + 1e-12
