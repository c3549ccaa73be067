"""HSIC on random features as a regularizer: kernels, the norm, slopes from the past, the option."""

import math
from typing import Any

import pytest
import torch

from hpcauxvae.dependence.hsic import OF_FACTORS, KernelFeatures, KernelPast
from hpcauxvae.dependence.joint import FEATURES
from hpcauxvae.dependence.moments import PolynomialMoments
from hpcauxvae.dependence.past import moments
from hpcauxvae.models.objectives import OBJECTIVES, TUNED, Objective
from hpcauxvae.types import InputError


def pairs(n: int, seed: int, told: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two factors, and two latents of which the first has the sign of a product of both in a share of the samples."""
    rng = torch.Generator().manual_seed(seed)
    u = torch.rand(n, 2, generator=rng, dtype=torch.float64)
    z = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    sign = (u - 0.5).prod(1).sign()
    z[:, 0] = torch.where(torch.rand(n, generator=rng) < told, z[:, 0].abs() * sign, z[:, 0])
    return u, z


def of(features: KernelFeatures, u: torch.Tensor, z: torch.Tensor, var: float = 0.0) -> PolynomialMoments:
    codes = features.features(z, torch.full_like(z, var), torch.ones(z.shape[1]))
    return moments(features.of_factors(u), *codes, 1, None)


def past_of(*batches: PolynomialMoments) -> KernelPast:
    past = KernelPast(OF_FACTORS, FEATURES, degree=1, momenta=(0.9,))
    for batch in batches:
        past.keep(batch)
        past.advance()
    return past


@pytest.mark.parametrize(("name", "square"), [("factors", 2 * 2 / 12), ("latents", 2 * 2 * 1.0)])
def test_products_of_features_are_gaussian_kernels_in_the_mean(name: str, square: float) -> None:
    """Of widths whose squares are the mean squared distances of two samples."""
    drawn = []
    for step in range(200):
        w, b = KernelFeatures(2, 2).drawn(2, FEATURES, step)
        if name == "factors":
            w = w * math.sqrt(12)
        x = torch.tensor([[0.1, 0.4], [0.5, -0.3]])
        drawn.append((2 * torch.cos(x @ w + b).prod(0)).mean())
    kernel = math.exp(-(0.4**2 + 0.7**2) / (2 * square))
    assert torch.stack(drawn).mean().item() == pytest.approx(kernel, abs=0.02)


def test_the_features_of_the_factors_are_of_the_kernel_of_their_spread() -> None:
    features = KernelFeatures(2, 2)
    assert features.f_DP.square().mean().item() == pytest.approx(12 / 4, rel=0.35)
    assert features.of_factors(torch.tensor([[0.5, math.nan]])).isnan().all()


def test_dependence_is_the_length_of_the_cross_covariance_over_both_traces_less_chance() -> None:
    features = KernelFeatures(2, 2)
    u, z = pairs(4000, 0, 1.0)
    past = past_of(of(features, u, z))
    f, e = features.of_factors(u), features.features(z, torch.zeros_like(z), torch.ones(2))[0]
    f, e = f - f.mean(0), e - e.mean(0)
    n = len(u)
    ratio = (f.T @ e / n).square().sum() / (f.square().sum() * e.square().sum() / n**2)
    assert past.dependence().item() == pytest.approx(ratio.item() - 1 / n, rel=1e-9)
    found = [past_of(of(features, *pairs(4000, seed, 0.0))).dependence().item() for seed in range(1, 7)]
    assert abs(sum(found) / 6) < 0.5 / n and past.dependence().item() > 10 / n


def test_the_term_of_independent_batches_is_zero_in_the_mean_and_else_the_root_of_that_length() -> None:
    features = KernelFeatures(2, 2)
    for told in (0.0, 1.0):
        past = past_of(*(of(features, *pairs(1000, seed, told)) for seed in range(20)))
        terms = [
            (past.slopes()[0] * of(features, *pairs(64, 100 + seed, told)).correlation()).mean() for seed in range(200)
        ]
        mean, error = torch.stack(terms).mean().item(), torch.stack(terms).std().item() / math.sqrt(200)
        expected = past.dependence().clamp(min=0).sqrt().item() if told else 0.0
        assert mean == pytest.approx(expected, abs=4 * error + 0.1 * expected)


@pytest.mark.slow
def test_its_gradient_lowers_a_dependence_that_powers_do_not_see() -> None:
    """By the slopes from the past, on the codes themselves."""
    features = KernelFeatures(2, 2)
    u, z = pairs(400, 3, 1.0)
    codes = z.clone().requires_grad_()
    first = past_of(of(features, u, z)).dependence().item()
    optimizer, past = torch.optim.Adam([codes], 0.04), KernelPast(OF_FACTORS, FEATURES, degree=1, momenta=(0.5,))
    for _ in range(80):
        batch = of(features, u, codes)
        past.keep(batch)
        past.advance()
        optimizer.zero_grad()
        (past.slopes()[0] * batch.correlation()).mean().backward()
        optimizer.step()
    assert past_of(of(features, u, codes.detach())).dependence().item() < 0.1 * first


def test_the_option_belongs_to_a_tolerance() -> None:
    assert TUNED.dependence == "joint"
    wrong: dict[str, Any] = {"dependence": "hsic", "dependence_tolerance": None, "momentum": 0.0}
    with pytest.raises(InputError, match="dependence = hsic; allowed: with a dependence_tolerance, else joint"):
        Objective(**wrong)
    assert all(objective.dependence == "joint" for objective in OBJECTIVES.values())
