"""The fast gradient sign method against closed forms."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpcauxvae.metrics.ssim import image_values
from hpcauxvae.paper.attack import EPSILONS, Target, disturbed, gradient_sign, table
from hpcauxvae.types import Posterior

SHAPE = (12, 1, 9, 9)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_the_sign_of_a_quadratics_gradient_is_that_of_its_matrix_times_the_distance() -> None:
    """L = (x - a)' M (x - a) / 2 with M symmetric and positive: dL/dx = M (x - a)."""
    x, a, root = draw(4, 1, 3, 2), draw(4, 1, 3, 2, seed=1), draw(6, 6, seed=2)
    matrix = root @ root.T

    def loss(images: Tensor) -> Tensor:
        away = (images - a).flatten(1)
        return ((away @ matrix) * away).sum(1) / 2

    expected = np.sign((x - a).flatten(1).numpy() @ matrix.numpy())
    assert np.array_equal(gradient_sign(loss, x).flatten(1).numpy(), expected)
    assert not x.requires_grad


def test_a_linear_loss_grows_by_epsilon_times_the_sum_of_its_slopes() -> None:
    """The most that any disturbance within epsilon can do (Goodfellow et al. 2015, section 3)."""
    x, slope = 5 + draw(3, 1, 4, 4).abs(), draw(1, 1, 4, 4)
    moved = disturbed(x, gradient_sign(lambda images: (images * slope).flatten(1).sum(1), x), 0.5)
    assert ((moved - x) * slope).flatten(1).sum(1).numpy() == pytest.approx(0.5 * float(slope.abs().sum()))


def test_counts_do_not_fall_below_zero() -> None:
    x, sign = torch.tensor([0.0, 3.0, 3.0, -1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0, -1.0, 1.0])
    assert disturbed(x, sign, 4.0).tolist() == [0, 0, 7, -1, 3]
    assert torch.equal(disturbed(x, sign, 0.0), x)


class Linear(nn.Module):
    """Encodes images as their coordinates along a few orthonormal patterns and adds them up again, times `gain`."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.patterns = torch.linalg.qr(draw(81, 3, seed=3))[0].T
        self.maximum = torch.tensor(10.0)

    def encode(self, images: Tensor, u_BD: Tensor) -> Posterior:
        mean = images.flatten(1) @ self.patterns.T
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, z_BZ: Tensor) -> Tensor:
        return self.gain * (z_BZ @ self.patterns).reshape(-1, *SHAPE[1:])


@pytest.fixture
def target() -> Target:
    originals = 5 + np.random.default_rng(6).random(SHAPE)
    data: Any = SimpleNamespace(scaled=lambda: np.zeros((12, 1)), column=lambda names: [0])
    scored: Any = SimpleNamespace(index_N=np.arange(12), originals=originals, data=data)
    evaluator: Any = SimpleNamespace(model=Linear(0.5), aux=["x"], device=torch.device("cpu"), dtype=torch.float64)
    return Target(evaluator, scored)


def test_the_attack_on_a_linear_model_is_its_closed_form(target: Target) -> None:
    """L = |g P x - c|^2 with P a projection: dL/dx = 2 g P (g P x - c), at c = x: 2 g (g - 1) P x."""
    patterns = target.model.patterns
    clean = torch.cat(list(target.images)).flatten(1)
    expected = (0.5 * (0.5 - 1) * clean @ patterns.T @ patterns).sign()
    assert torch.equal(torch.cat(target.signs()).flatten(1), expected)


def test_the_curves_are_those_of_the_images_moved(target: Target) -> None:
    signs = target.signs()
    curves = target.curves(signs)
    clean = torch.cat(list(target.images)).numpy()
    step = EPSILONS[-1] * 10.0
    moved = clean + step * torch.cat(signs).numpy()
    seen = target.reconstruct(torch.from_numpy(moved), torch.zeros(12, 1)).numpy()
    expected = image_values(clean, seen, 10.0)["ssim"].mean()
    assert curves["ssim"][-1]["value"] == pytest.approx(expected, rel=1e-4)
    assert curves["ssim"][0] == curves["ssim_random"][0]
    other = target.curves(signs, seed=1)
    assert other["ssim"] == curves["ssim"] and other["ssim_random"][-1] != curves["ssim_random"][-1]
    assert curves["ssim_random"][-1]["value"] < curves["ssim_random"][1]["value"]
    assert curves["ssim_reconstruction"][0]["value"] == pytest.approx(1)
    assert curves["ssim_reconstruction"][-1]["value"] < 1
    lines = table({(2, "idvae"): curves}).splitlines()
    assert lines[-1].startswith("| 2 | IDVAE | ") and lines[-1].count("|") == len(EPSILONS) + 3
