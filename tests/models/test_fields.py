"""Real-valued fields: standardised pixels and back, what the encoder sees of them, the fitted variance."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from hpcauxvae.models import model_class
from hpcauxvae.models.fields import FieldScale, FittedVariance
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.types import Batch, InputError, Reduction

SHAPE = (2, 9, 8)
SIZES: dict[str, Any] = {"image_shape": SHAPE, "latents": 3, "network": "mlp", "columns": (0,), "n_train": 50}


def fields(n: int = 300) -> Tensor:
    """Of three components and noise, about a mean image far from 0; the second channel in another unit."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    images = torch.einsum("nk,kchw->nchw", torch.randn(n, 3, generator=generator, dtype=torch.float64), parts)
    images += 0.2 * torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)
    images[:, 1] *= 1e-4
    return images + torch.linspace(-5, 280, SHAPE[1])[:, None]


def fitted(images: Tensor) -> FieldScale:
    scale = FieldScale((images.shape[1], images.shape[2], images.shape[3])).double()
    scale.fit(*PixelRange(float(images.max()), float(images.min())))
    scale.look(images)
    return scale


def model(name: str, images: Tensor) -> Any:
    torch.manual_seed(1)
    made = model_class(name)(OBJECTIVES["gaussian"], **SIZES).double()
    u = torch.rand(len(images), 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    made.prepare(images, u, PixelRange(float(images.max()), float(images.min())))
    return made


def test_pixels_are_standardised_about_the_mean_image_and_come_back() -> None:
    images = fields()
    images[:, :, 4, 4] = 7.0  # says nothing
    scale = fitted(images)
    scaled = scale(images).numpy()
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-9)
    expected = images.numpy().std(0)
    channel = np.sqrt((expected**2).mean((1, 2), keepdims=True))
    np.testing.assert_allclose(scale.spread, np.maximum(expected, 0.1 * channel), rtol=1e-9)
    torch.testing.assert_close(scale.inverse(scale(images)), images, rtol=1e-12, atol=1e-12)
    assert scale.maximum == images.abs().max()


def test_a_range_of_a_million_leaves_the_encoder_both_the_faint_and_the_bright() -> None:
    """Faint images differ in what is seen as much as bright ones; what is normal is seen nearly as it is."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(400, 1, 8, 8, generator=generator, dtype=torch.float64)
    images *= 10 ** (6 * torch.rand(400, 1, 1, 1, generator=generator, dtype=torch.float64))
    scale = fitted(images)
    faint = images.abs().amax((1, 2, 3)) < 1e3
    seen, scaled = (values.var(0).mean() for values in (scale.seen(scale(images))[faint], scale(images)[faint]))
    assert seen > 5e-4 > 500 * scaled, "the network has both about 1 otherwise"
    normal = fields()
    scale = fitted(normal)
    scaled = scale(normal)
    correlation = np.corrcoef(scale.seen(scaled).flatten(), scaled.flatten())[0, 1]
    assert correlation > 0.99
    assert scale.seen(scaled).square().mean((0, 2, 3)).tolist() == pytest.approx([1, 1], rel=0.05)


@pytest.mark.parametrize("value", [0.0, -3.0, 280.0])
def test_fields_that_are_all_the_same_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=f"every training pixel is {value}; allowed: more than one value"):
        FieldScale(SHAPE).fit(value, value)


def test_a_channel_that_never_varies_is_drawn_as_it_is() -> None:
    images = fields()
    images[:, 1] = 4.0
    scale = fitted(images)
    assert torch.equal(scale(images)[:, 1], torch.zeros_like(images[:, 1]))
    assert scale.seen(scale(images)).isfinite().all() and scale.inverse(scale(images))[:, 1].eq(4).all()


def test_the_likelihood_is_the_normal_distributions_without_its_constant() -> None:
    variance = FittedVariance(SHAPE).double()
    variance.start(0.1 + torch.rand(SHAPE, dtype=torch.float64))
    target, mean = torch.randn(2, 5, *SHAPE, dtype=torch.float64)
    expected = -Normal(mean, variance.variance.sqrt()).log_prob(target).flatten(1).sum(1)
    constant = target[0].numel() * np.log(2 * np.pi) / 2
    torch.testing.assert_close(variance.nll(target, mean), expected - constant)


def test_a_missing_pixel_of_a_field_takes_no_part() -> None:
    """In the likelihood; and in the fitted variance it is as far off as the others are."""
    variance = FittedVariance(SHAPE).double()
    variance.start(torch.full(SHAPE, 0.5, dtype=torch.float64))
    target, mean = fields(4), fields(5)[1:].requires_grad_()
    known = torch.ones(4, *SHAPE, dtype=torch.bool)
    known[1, 0, 2:] = False
    found = variance.nll(target, mean, known)
    left_out = Normal(mean, 0.5**0.5).log_prob(target) + np.log(2 * np.pi) / 2
    np.testing.assert_allclose(found.detach(), -(left_out * known).sum((1, 2, 3)).detach(), rtol=1e-12)
    variance.keep(target, mean.detach(), Reduction(4), known)
    squares = (target - mean.detach()).square().where(known, 0.5).mean(0)
    np.testing.assert_allclose(variance.latest, squares, rtol=1e-12)


def test_the_variance_begins_with_that_of_the_images() -> None:
    images = fields()
    images[:, :, 4, 4] = 7.0  # says nothing
    made = model("beta-vae", images)
    expected = made.scale(images).numpy().var(0)
    np.testing.assert_allclose(made.variance.variance, np.maximum(expected, 1e-4), rtol=1e-9)
    assert made.variance.variance[0, 4, 4] == 1e-4 < expected.max()


@pytest.mark.parametrize("name", ["beta-vae", "aux-vae", "idvae"])
def test_the_variance_follows_the_errors_of_earlier_steps(name: str) -> None:
    """In two parts as at once; not in validation."""
    images = fields()
    made = model(name, images)
    start = made.variance.variance.clone()
    given = Batch(images[:6], torch.rand(6, 1, dtype=torch.float64), torch.arange(6))
    draws = torch.randn(6, made.noise_size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    made.eval().sample_terms(given, draws, Reduction(6))
    made.train().advance(0.1)
    assert torch.equal(made.variance.variance, start), "no step was made"
    z = made.encode(images[:6], given.factors).sample(draws[:, :3])
    error = (made.scale(images[:6]) - made.decoder(z)).square().mean(0)
    for part in (slice(4), slice(4, 6)):
        made.sample_terms(given.each(lambda x, part=part: x[part]), draws[part], Reduction(6).after(part.start or 0))
    assert torch.equal(made.variance.variance, start), "the step has that of earlier ones"
    made.advance(0.1)
    torch.testing.assert_close(made.variance.variance, 0.99 * start + 0.01 * error)
    made.variance.latest.fill_(torch.nan)
    made.advance(0.1)
    assert made.variance.variance.isfinite().all(), "of a step that is not made"


def test_what_an_image_has_to_explain_is_in_nats_of_the_variance_that_fits() -> None:
    """scikit-learn's principal components against the mean image, each with a normal distribution of its own errors."""
    from sklearn.decomposition import PCA

    images = fields()
    made = model("aux-vae", images)
    rows = made.scale(images).flatten(1).numpy()
    pca = PCA(3, svd_solver="full").fit(rows)
    drawn = [np.broadcast_to(rows.mean(0), rows.shape), pca.inverse_transform(pca.transform(rows))]
    mean, components = (
        -Normal(torch.tensor(x), torch.tensor(((rows - x) ** 2).mean(0) ** 0.5))
        .log_prob(torch.tensor(rows))
        .sum(1)
        .mean()
        for x in drawn
    )
    assert made.nats.item() == pytest.approx((mean - components).item(), rel=1e-6) and made.nats.item() > 50
    assert made.independence.dearer.item() < 0.003 * made.nats.item(), "of which independent factors tell little"


def test_what_was_fitted_is_kept() -> None:
    images = fields()
    made, again = model("aux-vae", images), model("aux-vae", fields() * 3)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.encode(images).mean, made.encode(images).mean)
    z = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(again.decode(z), made.decode(z))
    assert torch.equal(again.variance.variance, made.variance.variance)
