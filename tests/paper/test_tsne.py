"""Maps of codes: units of the posterior, and how far the colours are in order."""

import numpy as np
import pytest

from hpcauxvae.paper import tsne
from hpcauxvae.types import Factor, InputError

LINE = Factor("radius", "arcsec", 0.0, 1.0)
TURN = Factor("angle", "deg", 0.0, 360.0, "periodic")


def test_a_latent_that_says_nothing_is_noise_of_size_one_and_one_that_does_keeps_its_range() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    mean = np.stack([rng.uniform(0, 1, n), rng.normal(0, 0.01, n)], 1)
    logvar = np.log(np.stack([np.where(np.arange(n) % 2, 0.01**2, 0.03**2), np.ones(n)], 1))
    found = tsne.resolved(mean, logvar)
    s = np.sqrt((0.01**2 + 0.03**2) / 2)
    assert found.std(0) == pytest.approx([np.sqrt(1 / 12 + s**2) / s, np.sqrt(1 + 0.01**2)], rel=0.02)
    assert abs(np.corrcoef(found[:, 1], mean[:, 1])[0, 1]) < 0.03


def test_order_on_a_square_of_points() -> None:
    """On a regular square the neighbours of an inner point lie around it: x is explained but for the rim."""
    side = 40
    points = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * 2), -1).reshape(-1, 2)
    assert tsne.order(points, points[:, 0], LINE) > 0.99
    shuffled = np.random.default_rng(0).permutation(points[:, 0])
    assert tsne.order(points, shuffled, LINE) == pytest.approx(-1 / tsne.NEIGHBOURS, abs=0.05)


def test_a_periodic_factor_has_no_seam_and_missing_values_are_left_out() -> None:
    angle = np.linspace(0, 360, 800, endpoint=False)
    ring = np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], 1)
    whole = tsne.order(ring, angle, TURN)
    assert whole > 0.999 > tsne.order(ring, angle, TURN._replace(kind="continuous"))
    angle[::7] = np.nan
    assert tsne.order(ring, angle, TURN) > 0.999


def test_the_map_keeps_what_is_far_apart_apart() -> None:
    rng = np.random.default_rng(0)
    which = np.repeat([0.0, 1.0], 60)
    values = rng.normal(size=(120, 6)) + 20 * which[:, None]
    points = tsne.embed(values)
    assert points.shape == (120, 2)
    assert tsne.order(points, which, LINE) == pytest.approx(1)
    assert np.array_equal(points, tsne.embed(values))
    with pytest.raises(InputError, match="9 samples; allowed: at least 10"):
        tsne.embed(values[:9])
