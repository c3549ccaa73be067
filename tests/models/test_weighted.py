"""The likelihood of images with known noise against closed forms, and the relative error that is fitted."""

import numpy as np
import pytest
import torch

from hpcauxvae.models.weighted import KnownNoise
from hpcauxvae.types import Batch, Reduction

SHAPE = (2, 5, 4)
RNG = torch.Generator().manual_seed(3)


def drawn(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=RNG, dtype=torch.float64)


@pytest.fixture
def noise() -> KnownNoise:
    return KnownNoise(SHAPE).double()


def test_against_the_normal_density(noise: KnownNoise) -> None:
    """With the terms that depend on the weights alone added."""
    target, mean, zero = drawn(6, *SHAPE), drawn(6, *SHAPE), drawn(*SHAPE)
    weights = drawn(6, *SHAPE).exp()
    noise.square.fill_(0.3)
    sigma = (1 / weights + 0.3 * (mean - zero).square()).sqrt()
    expected = -torch.distributions.Normal(mean, sigma).log_prob(target)
    constants = (np.log(2 * np.pi) - weights.log()) / 2
    np.testing.assert_allclose(
        noise.nll(target, mean, weights, zero), (expected - constants).sum((1, 2, 3)), rtol=1e-12
    )


def test_a_missing_pixel_takes_no_part(noise: KnownNoise) -> None:
    target, mean, zero, weights = drawn(3, *SHAPE), drawn(3, *SHAPE), drawn(*SHAPE), drawn(3, *SHAPE).exp()
    weights[1, 0, 2:] = 0
    noise.square.fill_(0.3)
    mean.requires_grad_()
    noise.nll(target, mean, weights, zero).sum().backward()
    assert mean.grad is not None and (mean.grad[1, 0, 2:] == 0).all() and (mean.grad[0] != 0).all()
    other = target.clone()
    other[1, 0, 2:] = 77
    assert torch.equal(noise.nll(target, mean, weights, zero), noise.nll(other, mean, weights, zero))


@pytest.mark.parametrize("relative", [0.0, 0.03, 0.5])
def test_the_relative_error_is_found(noise: KnownNoise, relative: float) -> None:
    """At the start, and over many batches, each in two parts, of which the model is drawn twice as well."""
    zero = torch.full(SHAPE, -2.0, dtype=torch.float64)
    weights = (2 * drawn(4000, *SHAPE)).exp() * 100

    def batch(error: float) -> tuple[torch.Tensor, ...]:
        mean = drawn(4000, *SHAPE).exp()
        sigma = (1 / weights + (error * (mean - zero)).square()).sqrt()
        return mean + sigma * drawn(4000, *SHAPE), mean, weights, zero

    noise.start(*batch(relative))
    assert float(noise.square) ** 0.5 == pytest.approx(relative, rel=0.02, abs=0.01)
    given = batch(relative / 2)
    for _ in range(600):
        for part in (slice(0, 1000), slice(1000, 4000)):
            noise.keep(*(values[part] for values in given[:3]), zero, Reduction(4000))
        noise.advance()
    assert float(noise.square) ** 0.5 == pytest.approx(relative / 2, rel=0.05, abs=0.01)
    assert float(noise.square) <= float(noise.most)


def test_means_leave_missing_pixels_out() -> None:
    values, weights = drawn(3, *SHAPE), torch.ones(3, 1, 5, 4)
    weights[1, 0, :3] = 0
    batch = Batch(values, values[:, 0, 0], torch.arange(3), weights)
    expected = [values[0].mean(), values[1, :, 3:].mean(), values[2].mean()]
    np.testing.assert_allclose(batch.mean(values), expected, rtol=1e-12)
    assert batch.shown()[1, :, :3].isnan().all() and batch.shown().isnan().sum() == 2 * 3 * 4
