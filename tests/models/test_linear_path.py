"""The linear way beside a network: against the principal components of scikit-learn."""

import math

import pytest
import torch
from sklearn.decomposition import PCA

from hpcauxvae.models import MODELS, model_class
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.linear_path import LinearPath
from hpcauxvae.models.objectives import OBJECTIVES

SHAPE = (2, 8, 9)


def _images(n: int) -> torch.Tensor:
    """(n, *SHAPE): of 12 directions, each of its own size, and a mean."""
    torch.manual_seed(4)
    sizes = torch.linspace(3, 0.1, 12, dtype=torch.float64)
    rows = (torch.randn(n, 12, dtype=torch.float64) * sizes) @ torch.randn(12, 144, dtype=torch.float64) + 5
    return rows.view(n, *SHAPE)


def test_read_and_drawn_one_to_one_images_are_what_principal_components_draw() -> None:
    images = _images(200)
    reading, drawing = (LinearPath(SHAPE, 6).double() for _ in range(2))
    for path in (reading, drawing):
        path.fit(images)
        assert not path.weight_ZK.any(), "it adds nothing until it is trained"
        torch.nn.init.eye_(path.weight_ZK)
    codes = reading.read(images)
    torch.testing.assert_close(codes.std(0, correction=0), torch.ones(6, dtype=torch.float64))
    rows = images.flatten(1).numpy()
    fitted = PCA(6).fit(rows)
    drawn = drawing.draw(codes).detach().numpy() + rows.mean(0)
    assert drawn == pytest.approx(fitted.inverse_transform(fitted.transform(rows)), abs=1e-9)


def test_of_fewer_images_than_latents_there_are_fewer_components() -> None:
    path = LinearPath(SHAPE, 10).double()
    path.fit(_images(4))
    assert (path.axes_KP.norm(dim=1) > 0.5).sum() == 3
    assert path.read(_images(4)).isfinite().all()


def test_missing_pixels_move_no_score_to_the_mean() -> None:
    """What is 0 where pixels are missing would be drawn half-way to the mean image."""
    images = _images(200)
    path = LinearPath(SHAPE, 1).double()
    path.fit(images)
    torch.nn.init.ones_(path.weight_ZK)
    known = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    whole, part = (codes[:, 0].detach() for codes in (path.read(images), path.read(images.where(known, 0), known)))
    slope = float(part @ whole / (whole @ whole))
    assert slope == pytest.approx(1, abs=0.1) and abs(float(part.mean())) < 0.1


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_linear_way_on_both_sides(name: str) -> None:
    sizes = {"image_shape": SHAPE, "latents": 4, "network": "mlp", "columns": (0,), "n_train": 50}
    model = model_class(name)(OBJECTIVES["gaussian"], **sizes)
    model.prepare(_images(50).float(), torch.rand(50, 1), PixelRange(20.0, -20.0))
    for network in (model.encoder, model.decoder):
        assert network.linear.axes_KP.norm(dim=1) == pytest.approx(1, abs=1e-5)


class Own(torch.nn.Linear):
    """An encoder that knows no linear way."""

    def __init__(self, numbers: int) -> None:
        super().__init__(numbers, 8)

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(images.flatten(1))


def test_a_model_may_have_an_encoder_of_its_own() -> None:
    sizes = {"image_shape": SHAPE, "latents": 4, "network": "mlp", "columns": (0,), "n_train": 50}
    for objective in ("tuned", "gaussian"):
        model = model_class("beta-vae")(OBJECTIVES[objective], **sizes)
        model.encoder = Own(math.prod(model._seen_shape()))
        model.prepare(_images(50).float().abs(), torch.rand(50, 1), PixelRange(30.0))
        assert model.encode(_images(3).float().abs()).mean.shape == (3, 4)


@pytest.mark.parametrize("objective", ["gaussian", "weighted", "bernoulli"])
def test_a_model_begins_as_its_network_and_learns_the_linear_way(objective: str) -> None:
    """Whose objectives are of real values; the networks of the others are those of the paper."""
    torch.manual_seed(0)
    sizes = {"image_shape": SHAPE, "latents": 4, "network": "conv", "columns": (0,), "n_train": 50}
    model = model_class("beta-vae")(OBJECTIVES[objective], **sizes)
    images = _images(50).float().sigmoid()
    model.prepare(images, torch.rand(50, 1), PixelRange(1.0))
    has = objective != "bernoulli"
    assert [name.startswith("encoder.linear") for name, _ in model.named_parameters()].count(True) == has
    if has:
        before = model.encode(images).mean
        torch.nn.init.ones_(model.encoder.linear.weight_ZK)
        added = model.encoder.linear.read(model._seen(model.scale(images)))
        torch.testing.assert_close(model.encode(images).mean - before, added, rtol=1e-3, atol=1e-4)
        assert model.encode(images).logvar.isfinite().all()
