"""PolynomialMoments: closed forms against quadrature and numpy, the compiled ones against those of torch."""

import numpy as np
import pytest
import torch

from helpers import moments_cases as cases
from hpcauxvae.dependence import moments, native
from hpcauxvae.dependence.moments import PolynomialMoments, gaussian_moments, gaussian_power_variances


@pytest.mark.parametrize("mean", [0.0, -0.7, 30.0])
@pytest.mark.parametrize("var", [0.0, 1e-6, 2.0])
def test_gaussian_powers_against_quadrature(mean: float, var: float) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    z, weights = mean + np.sqrt(var) * nodes, weights / weights.sum()
    mean_BZ, var_BZ = (torch.full((1, 1), value, dtype=torch.float64) for value in (mean, var))
    got = gaussian_moments(mean_BZ, var_BZ, 6)[0, 0]
    spread = gaussian_power_variances(gaussian_moments(mean_BZ, var_BZ, 6), var_BZ)[0, 0]
    for k in range(1, 7):
        power = weights @ z**k
        assert got[k].item() == pytest.approx(power, rel=1e-10, abs=1e-13)
        assert spread[k - 1].item() == pytest.approx(weights @ (z**k - power) ** 2, rel=1e-7, abs=1e-13)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_correlation_against_loops(case: cases.Case) -> None:
    got = PolynomialMoments.of(case.u_BD, case.codes_BZ, case.var_BZ, degree=case.degree).correlation()
    wanted = cases.correlations(case.u_BD, case.codes_BZ, case.var_BZ, case.degree)
    assert got.dtype == torch.float64
    assert (got - wanted).abs().max() < 1e-5
    if case.var_BZ is None:  # and without powers, numpy
        known = ~case.u_BD[:, 0].isnan().numpy()
        u, codes = case.u_BD[:, 0].double().numpy()[known], case.codes_BZ[:, -1].double().numpy()[known]
        assert got[0, 0, -1, 0].item() == pytest.approx(np.corrcoef(u, codes)[0, 1], abs=1e-5)


@pytest.mark.skipif(moments.core is None, reason="the kernel is not compiled")
@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_compiled_moments_against_the_reference(case: cases.Case) -> None:
    _, _, packed, _ = native._forward(case.u_BD, case.codes_BZ, case.var_BZ, case.degree, None)
    wanted = PolynomialMoments.of(case.u_BD, case.codes_BZ, case.var_BZ, degree=case.degree)
    d, dz = case.u_BD.shape[1], case.codes_BZ.shape[1]
    got = PolynomialMoments.unpacked(packed, d, dz, case.degree)
    assert torch.equal(got.n_D, wanted.n_D)
    wide = case.codes_BZ.dtype == torch.float64
    scale = wanted.m2_c_DZK.div(wanted.n_D.clamp(min=1)[:, None, None]).sqrt() + 1e-8 * wanted.mean_c_DZK.abs()
    assert ((got.mean_c_DZK - wanted.mean_c_DZK).abs() <= (1e-13 if wide else 1e-6) * (scale + 1)).all()
    assert torch.allclose(got.correlation(), wanted.correlation(), rtol=0, atol=1e-9 if wide else 1e-6)
