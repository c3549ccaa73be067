"""The regularizers on drawn shapes, types and strides, up to d = 32, dz = 256, K = 6, against quadrature in float64."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import moments_cases as cases
from hpcauxvae.dependence import native
from hpcauxvae.dependence.moments import PolynomialMoments
from hpcauxvae.dependence.regularizers import regularizer, terms

KINK = 1e-4  # next to corr = 0 rounding decides the sign, and next to 1 (N = 2) the gradient is a rounding error
CANCELLED = 1e-3  # of the gradient of the explicitness alone: what is left of the sum is rounding of its parts
CORRELATION = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-5}
GRADIENT = {torch.float64: 1e-7, torch.float32: 1e-4, torch.bfloat16: 1e-2}  # bfloat16: of the result's own rounding
needs_core = pytest.mark.skipif(not native.serves(torch.device("cpu")), reason="the kernel is not compiled")


@st.composite
def inputs(draw: st.DrawFn, largest: tuple[int, int, int], samples: int) -> cases.Case:
    """Factors, codes and variances: far from 0 or not, with missing values, constant columns, rows far apart."""
    d, degree = draw(st.integers(1, largest[0])), draw(st.integers(1, largest[2]))
    dz, n = draw(st.integers(d, largest[1])), draw(st.one_of(st.integers(2, 9), st.integers(2, samples)))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.float64, torch.bfloat16]))
    offset = draw(st.sampled_from([0.0, 0.0, -3.0, 1e4 if dtype != torch.bfloat16 else 3.0]))
    u, codes, var = cases.draw(
        draw(st.integers(0, 10_000)), n, d, dz, offset=offset, spread=draw(st.booleans()),
        missing=draw(st.sampled_from([0.0, 0.3])), dtype=dtype,
    )  # fmt: skip
    if draw(st.booleans()):
        u[:, draw(st.integers(0, d - 1))] = 0.5
    if draw(st.booleans()):
        codes[:, draw(st.integers(0, dz - 1))] = -2.0
    apart = draw(st.integers(0, 5))
    wide = torch.zeros(n, dz + apart, dtype=dtype)
    wide[:, apart:] = codes
    return cases.Case("drawn", u, wide[:, apart:], var, degree)


def packed(case: cases.Case) -> Tensor:
    """Correlations of the compiled moments."""
    _, _, moments, _ = native._forward(case.u_BD, case.codes_BZ, case.var_BZ, case.degree, None)
    d, dz = case.u_BD.shape[1], case.codes_BZ.shape[1]
    return PolynomialMoments.unpacked(moments, d, dz, case.degree).correlation()


def reference(case: cases.Case) -> Tensor:
    return PolynomialMoments.of(case.u_BD, case.codes_BZ, case.var_BZ, degree=case.degree).correlation()


@needs_core
@settings(max_examples=60, deadline=None)
@given(inputs((32, 256, 6), 400))
def test_correlations(case: cases.Case) -> None:
    wanted = cases.table(case.u_BD, case.codes_BZ, case.var_BZ, case.degree)
    for got in (packed(case), reference(case)):
        assert (got - wanted).abs().max() <= CORRELATION[case.codes_BZ.dtype]


@needs_core
def test_gradients() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=150, deadline=None)
    @given(inputs((4, 9, 6), 300))
    def compare(case: cases.Case) -> None:
        wanted_case, wanted_leaves = cases.leaves(case, torch.float64)
        corr = cases.table(wanted_case.u_BD, wanted_case.codes_BZ, wanted_case.var_BZ, case.degree)
        size = corr.detach()[corr != 0].abs()
        if ((size < KINK) | (size > 1 - KINK)).any():
            seen["left out"] += 1
            return
        own = corr.abs().sum((1, 3)).diagonal().sum() / case.degree
        part = cases.gradient((-own, torch.zeros(())), wanted_leaves)
        wanted = cases.gradient(terms(corr), wanted_leaves)
        if any(want.norm() < CANCELLED * p.norm() for want, p in zip(wanted, part, strict=True)):
            seen["left out"] += 1  # as with two samples and d = dz, where explicitness and independence cancel
            return
        seen["compared"] += 1
        own_case, own_leaves = cases.leaves(case)
        got = regularizer(own_case.u_BD, own_case.codes_BZ, own_case.var_BZ, degree=case.degree)
        for grad, want in zip(cases.gradient(got, own_leaves), wanted, strict=True):
            assert (grad.double() - want).norm() <= GRADIENT[grad.dtype] * want.norm() + 1e-14

    compare()
    assert seen["compared"] >= 60, seen
