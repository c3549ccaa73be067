"""The objective `reference` against its formulas in plain loops: numpy's corrcoef and torch.distributions, float64."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from helpers.trainings import blobs, config
from hpcauxvae.data.hdf5 import open_set, split
from hpcauxvae.dependence.regularizers import authors_regularizer
from hpcauxvae.models import model_class
from hpcauxvae.models.likelihoods import ImageScale, PixelRange, log10_mse
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import Batch, InputError, Reduction


def draw(n: int, d: int, dz: int) -> tuple[Tensor, Tensor, Tensor]:
    """Factors, means and samples; some latents fall with their factor, and some residual ones copy."""
    generator = torch.Generator().manual_seed(d + dz)
    u = torch.rand(n, d, generator=generator, dtype=torch.float64)
    means = torch.randn(n, dz, generator=generator, dtype=torch.float64)
    means[:, 0] -= 4 * u[:, 0]
    means[:, -1] += 3 * u[:, 0] * u[:, -1]
    return u, means, means + 0.3 * torch.randn(n, dz, generator=generator, dtype=torch.float64)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    both = ~(a.isnan() | b.isnan())
    a, b = a[both], b[both]
    return ((a - a.mean()) * (b - b.mean())).sum() / (a.var() * b.var()).sqrt() / (len(a) - 1)


def by_loops(u: Tensor, means: Tensor, z: Tensor, degree: int = 3) -> tuple[Tensor, Tensor]:
    d, dz = u.shape[1], z.shape[1]
    intra = inter = torch.zeros((), dtype=torch.float64)
    for i in range(d):
        intra = intra + 1 - correlation(u[:, i], z[:, i])
        for j in range(d):
            intra = intra + (correlation(u[:, i], z[:, j]).abs() if i != j else 0)
    for j in range(d, dz):
        for i in range(d):
            for k in range(1, degree + 1):
                for k2 in range(1, degree + 1):
                    inter = inter + correlation(u[:, i] ** k, means[:, j] ** k2).abs() / (dz - d)
            for i2 in range(i):
                inter = inter + correlation(u[:, i] * u[:, i2], means[:, j]).abs() / (dz - d)
    return intra, inter


def with_gradients(how: Any, u: Tensor, means: Tensor, z: Tensor, **fields: Any) -> list[Tensor]:
    leaves = [means.clone().requires_grad_(), z.clone().requires_grad_()]
    intra, inter = how(u, *leaves, **fields)
    gradients = torch.autograd.grad(2 * intra + 7 * inter, leaves, allow_unused=True)
    return [intra, inter, *(torch.zeros_like(z) if g is None else g for g in gradients)]


@pytest.mark.parametrize(("d", "dz", "degree"), [(3, 10, 3), (1, 4, 3), (5, 10, 3), (2, 2, 3), (3, 5, 2)])
@pytest.mark.parametrize("missing", [False, True])
def test_value_and_gradient_are_those_of_loops(d: int, dz: int, degree: int, missing: bool) -> None:
    u, means, z = draw(40, d, dz)
    if missing:
        u[3, 0] = u[7, -1] = math.nan
    got, wanted = (with_gradients(how, u, means, z, degree=degree) for how in (authors_regularizer, by_loops))
    for value, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(value, want, rtol=1e-9, atol=1e-12)
    assert got[0] > 1.5, "a latent that falls with its factor costs more than one that knows nothing"


def test_correlations_are_numpys() -> None:
    """The loops themselves."""
    u, means, _ = draw(30, 2, 4)
    assert correlation(u[:, 0], means[:, 3]).item() == pytest.approx(np.corrcoef(u[:, 0], means[:, 3])[0, 1])


def test_a_step_by_hand() -> None:
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"image_shape": (2, 16, 16), "latents": 4, "network": "mlp", "n_train": 50}
    made: Any = model_class("aux-vae")(OBJECTIVES["reference"], columns=(2, 0), **sizes).double()
    generator = torch.Generator().manual_seed(0)
    images = 3 + 50 * torch.rand(9, 2, 16, 16, generator=generator, dtype=torch.float64)
    factors = torch.rand(9, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    u = factors[:, [2, 0]]
    made.prepare(images, u, PixelRange(float(images.max()), float(images.min())))
    terms = made(Batch(images, factors, torch.arange(9)), noise, Reduction(9))

    mean, logvar = made.encode(images)
    z = mean + (logvar / 2).exp() * noise
    scaled = (images - images.min()) / (images.max() - images.min())
    decoded = torch.sigmoid(made.decoder(z))
    torch.testing.assert_close(made.decode(z), images.min() + decoded * (images.max() - images.min()))
    decades = (torch.log10(scaled + 1e-10) - torch.log10(decoded + 1e-10)) ** 2
    torch.testing.assert_close(terms["reconstruction"], decades.mean())
    prior_mean = torch.cat([u, torch.zeros(9, 2, dtype=torch.float64)], 1)
    kl = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(prior_mean, torch.ones_like(mean)))
    torch.testing.assert_close(terms["kl"], 20 * kl.sum(1).mean() / (2 * 16 * 16))
    intra, inter = by_loops(u, mean, z)
    torch.testing.assert_close(terms["intra"], 0.5 * intra)
    torch.testing.assert_close(terms["inter"], 0.4 * inter)


def test_an_empty_pixel_outweighs_a_bright_one() -> None:
    target = torch.tensor([[0.0, 1.0]], dtype=torch.float64).view(1, 1, 1, 2)
    assert log10_mse(target, torch.full_like(target, 0.1)).item() == pytest.approx(9**2 + 1)
    assert log10_mse(-target, torch.full_like(target, 1e-10)).item() == pytest.approx(2 * np.log10(2) ** 2)


def test_the_scale_of_the_smallest_and_the_largest_training_pixel() -> None:
    images = torch.tensor([-5.0, 0.0, 15.0]).view(3, 1, 1, 1)
    scale = ImageScale("range")
    scale.fit(15.0, -5.0)
    assert scale(images).flatten().tolist() == [0, 0.25, 1]
    assert torch.equal(scale.inverse(scale(images)), images)
    with pytest.raises(InputError, match="every training pixel is 2"):
        scale.fit(2.0, 2.0)


def test_the_scale_is_that_of_the_training_split(tmp_path: Path) -> None:
    path = blobs(tmp_path / "blobs.h5")
    with h5py.File(path, "r+") as file:
        file["images"][:] -= 3
        train, *_ = split(len(file["images"]), 0)
        own = file["images"][:][train]
    made = Trainer(config(path, tmp_path / "run", objective="reference"), start(find_world({}), "cpu"), open_set(path))
    made.connect()
    assert (float(made.model.scale.minimum), float(made.model.maximum)) == (own.min(), own.max()) == (-3, own.max())


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("tuned", {"likelihood": "log10-mse"}, "log10-mse; allowed: with scale = linear or range and sigmoid = True"),
        ("reference", {"sigmoid": False}, "log10-mse; allowed: with scale = linear or range and sigmoid = True"),
        ("reference", {"draws": 2}, "draws = 2; allowed: 1 with correlate = authors"),
        ("reference", {"momentum": 0.5}, r"momentum = 0\.5; allowed: 0 without dependence_tolerance"),
    ],
)
def test_what_does_not_go_together(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(OBJECTIVES[name], **fields)


def test_factors_and_samples_must_fit() -> None:
    u, means, z = draw(8, 3, 4)
    with pytest.raises(InputError, match="u_BD has 3 columns; allowed: at most those of codes_BZ, 2"):
        authors_regularizer(u, means[:, :2], z[:, :2])
    with pytest.raises(InputError, match=r"z_BZ has shape \(8, 3\); allowed: that of means_BZ, \(8, 4\)"):
        authors_regularizer(u, means, z[:, :3])
