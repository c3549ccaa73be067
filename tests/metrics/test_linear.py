"""Principal components and ridge regression beside numpy's singular values and closed forms."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.metrics.linear import Components, regressed
from hpcauxvae.types import Kind


def stack(n: int = 300, seed: int = 0) -> NDArray:
    """Images of 40 pixels in which three patterns vary, and noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(1).standard_normal((3, 40)) * [[5], [3], [2]]
    return 10 + rng.standard_normal((n, 3)) @ patterns + 0.1 * rng.standard_normal((n, 40))


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    images = stack()
    found = Components.of(images, 3)
    _, _, axes = np.linalg.svd(images - images.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs((found.axes_KP * axes[:3]).sum(1)), 1, atol=1e-6)
    other = stack(seed=2)
    drawn = found.draw(found.scores(other), 3)
    assert np.square(drawn - other).mean() == pytest.approx(0.01, rel=0.2)
    np.testing.assert_allclose(found.draw(found.scores(other), 0)[7], images.mean(0))


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_a_missing_pixel_is_drawn_from_the_others(share: float) -> None:
    """A share lost in some, a pixel in all: components and coordinates are nearly those of whole images."""
    images, other, rng = stack(), stack(seed=2), np.random.default_rng(4)
    whole, lost = Components.of(images, 3), rng.random((2, 300, 40)) < share
    lost[:, :, 7] = True
    found = Components.of(np.where(lost[0], np.nan, images), 3, filling=3)
    rest = np.arange(40) != 7
    np.testing.assert_allclose(np.abs((found.axes_KP * whole.axes_KP)[:, rest].sum(1)), 1, atol=0.05)
    drawn = found.draw(found.scores(np.where(lost[1], np.nan, other)), 3)
    assert np.square(drawn - other)[:, rest].mean() < 0.03 < 0.1 * np.square(whole.mean_P - other)[:, rest].mean()


def test_no_more_components_than_images_tell() -> None:
    assert len(Components.of(stack(5), 100).axes_KP) == 4


@pytest.mark.parametrize("kind", ["continuous", "periodic", "categorical"])
@pytest.mark.parametrize("unit", [1, 1e-28, 1e28])
def test_a_factor_that_is_linear_in_the_components_is_read(kind: Kind, unit: float) -> None:
    """A number as it is, a direction by cosine and sine across the seam, a class by the nearest of its means; whatever
    the unit of the pixels, whose squares may be beyond float32."""
    rng = np.random.default_rng(3)
    u = rng.integers(0, 4, 1000) / 3 if kind == "categorical" else rng.random(1000)
    columns = {
        "continuous": np.c_[u, rng.random(1000)],
        "periodic": np.c_[np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)],
        "categorical": np.eye(4)[np.round(3 * u).astype(int)],
    }[kind]
    scores = (unit * (100 * columns + 0.01 * rng.standard_normal(columns.shape))).astype(np.float32)
    u[:50] = np.nan
    told = regressed(scores[:500], u[:500], scores[500:], kind)
    assert np.abs((told - u[500:] + 0.5) % 1 - 0.5).max() < 0.01 or np.abs(told - u[500:]).max() < 0.01


def test_a_regression_of_noise_is_shrunk_to_the_mean() -> None:
    rng = np.random.default_rng(4)
    told = regressed(rng.standard_normal((200, 100)), rng.random(200), rng.standard_normal((500, 100)), "continuous")
    assert told.std() < 0.15
