"""Extremes image by image, and bounds that no single image decides."""

import numpy as np
import pytest

from hpcauxvae.data.pixels import beyond, bounds, look_at, outlying, seen_in, stuck
from hpcauxvae.data.stored import Clipped


def images(n: int = 100) -> np.ndarray:
    return np.random.default_rng(0).poisson(50, (n, 2, 5, 5)).astype(np.float32)


def test_what_is_seen_of_each_image_whatever_part_is_read() -> None:
    given = images()
    given[3, 1, 2, 2], given[4, 0, 0, 0] = 0.5, -1
    given[7] = given[90]
    whole = look_at(given)
    np.testing.assert_array_equal(whole.low, given.min((1, 2, 3)))
    np.testing.assert_array_equal(whole.high, given.max((1, 2, 3)))
    assert np.flatnonzero(~whole.whole).tolist() == [3, 4]
    for row, low, high in zip(given, whole.low, whole.high, strict=True):
        assert ((row < high - (high - low) / 10).sum(), (row > low + (high - low) / 10).sum()) in zip(
            whole.dark, whole.bright, strict=True
        )
    assert len(set(whole.digest.tolist())) == 99 and whole.digest[7] == whole.digest[90]
    parts = [look_at(given, range(first, min(first + 33, 100))) for first in range(0, 100, 33)]
    for all_at_once, *in_parts in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(all_at_once, np.concatenate(in_parts))
    assert all(len(values) == 0 for values in look_at(given, range(0)))
    assert seen_in(whole.digest[:10], whole.digest[10:]) == 1
    some = np.array([7, 4, 3])
    assert beyond(given, some, 40, 60) == ((given[some] < 40).sum(), (given[some] > 60).sum())
    assert look_at(given.astype(np.uint8)).whole.all()


@pytest.mark.parametrize("n", [5, 19, 20, 100, 600])
@pytest.mark.parametrize(("unit", "zero"), [(1, 0), (1e-9, 0), (1, -1000)])
def test_one_image_does_not_decide_the_bounds(n: int, unit: float, zero: float) -> None:
    given = images(n).astype(np.float64)
    clean = unit * given.min() + zero, unit * given.max() + zero
    assert bounds(look_at(unit * given + zero)) == clean and len(outlying(look_at(unit * given + zero))) == 0
    given[1, 0, 1, 1] = 1e8
    assert bounds(look_at(unit * given + zero)) == clean
    assert outlying(look_at(unit * given + zero)).tolist() == [1]
    given[2, 0, 1, 1] = -9999
    assert bounds(look_at(unit * given + zero)) == clean
    assert outlying(look_at(unit * given + zero)).tolist() == [1, 2]


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.1])
def test_cosmic_rays_in_a_tenth_of_the_images_do_not_decide_the_bounds(share: float) -> None:
    """Of any height, no gap between them and each other."""
    rng = np.random.default_rng(3)
    clean = rng.poisson(stars(rng.uniform(100, 1000, 600))).astype(np.float32)
    hit = np.sort(rng.permutation(600)[: int(600 * share)])
    for sign in (1, -1):
        given = clean.copy()
        for row in hit:
            y, x = rng.integers(0, 13, 2)
            given[row, 0, y, x : x + 3] = sign * rng.uniform(2e4, 1e7)
        assert bounds(look_at(given)) == bounds(look_at(np.delete(clean, hit, 0)))
        assert sorted(outlying(look_at(given))) == hit.tolist()
    assert len(outlying(look_at(clean))) == 0


def stars(fluxes_N: np.ndarray) -> np.ndarray:
    """Images (N, 1, 15, 15) of a star as wide as the atmosphere makes it."""
    y, x = np.mgrid[-7:8, -7:8]
    return fluxes_N[:, None, None, None] * np.exp(-(x**2 + y**2) / (2 * 2**2))


def test_bright_stars_are_no_hot_pixels() -> None:
    """A hundred times as bright as the others, a twentieth of the images, and as wide."""
    fluxes = np.random.default_rng(4).uniform(100, 1000, 600)
    fluxes[::20] *= 100
    seen = look_at(stars(fluxes))
    assert bounds(seen) == (seen.low.min(), seen.high.max())


def test_images_that_are_often_of_few_pixels_are_no_accident() -> None:
    """Points of light in a fifth of the images, faint clouds in the others."""
    given = images(100)
    given[::5] = 0
    given[::5, 0, 2, 2] = 1e4
    assert bounds(look_at(given)) == (0, 1e4)


def test_bounds_of_clean_images_are_their_extremes() -> None:
    rng = np.random.default_rng(1)
    for peaks in (
        rng.lognormal(3, 1, 100_000),  # of a catalogue of fluxes
        rng.uniform(1, 1000, 600),
        np.r_[np.zeros(990), rng.uniform(1, 9, 10)],  # blank but for some
        -rng.uniform(1, 9, 50),
        rng.normal(0, 1, 19) * [1e8] + [0] * 19,  # too few for a bulk
    ):
        seen = look_at(np.zeros((len(peaks), 1, 1, 1)))._replace(low=-peaks, high=peaks)
        assert bounds(seen) == (-peaks.max(), peaks.max())


@pytest.mark.parametrize("n", [10, 100, 3000])
@pytest.mark.parametrize("value", [1e8, -1e8])
@pytest.mark.parametrize(
    "place",
    [np.s_[:, 0, 3, 4], np.s_[:, 0, 3, 4:7], np.s_[:, 0, 5], np.s_[:, 0, :, 2]],
    ids=["pixel", "neighbours", "row", "column"],
)
def test_a_stuck_pixel_is_found_and_decides_nothing(n: int, value: float, place: tuple) -> None:
    rng = np.random.default_rng(6)
    clean = rng.poisson(stars(rng.uniform(100, 1000, n))).astype(np.float32)
    mask = np.zeros(clean.shape, bool)
    mask[place] = True
    given = np.where(mask, value * rng.uniform(0.9, 1.1, clean.shape), clean).astype(np.float32)
    found = stuck(given)
    np.testing.assert_array_equal(found.place, np.flatnonzero(mask[0]))
    np.testing.assert_allclose(found.value, value, rtol=0.1)
    rest = clean[~mask].reshape(n, -1)
    seen = look_at(given, without=found)
    assert bounds(seen) == (rest.min(), rest.max()) and seen.whole.all()
    np.testing.assert_array_equal(seen.digest, look_at(given).digest)
    assert beyond(given, np.arange(n), 1, 500, found) == ((rest < 1).sum(), (rest > 500).sum())


def test_stuck_pixels_of_unlike_heights() -> None:
    given = images()
    given[:, 0, 1, 1], given[:, 1, 2, 2] = 1e8, 1e4
    assert stuck(given).place.tolist() == [6, 37]


def test_what_is_seen_in_the_same_place_is_not_stuck() -> None:
    rng = np.random.default_rng(7)
    sharp = stars(np.ones(200)) ** 16  # half a pixel wide, without noise
    lines = rng.poisson(5, (200, 1, 15, 15)).astype(np.float32)
    lines[:, 0, 0, ::5] = rng.uniform(1e3, 1e4, (200, 3))  # of a spectrum: no flanks, and each of its own strength
    padded = np.pad(rng.poisson(1e4, (200, 1, 11, 11)), ((0, 0), (0, 0), (2, 2), (2, 2)))
    for given in (
        sharp,
        sharp * rng.uniform(1e3, 1e4, 200)[:, None, None, None],
        stars(rng.uniform(100, 1000, 200)),
        lines,
        padded,
        images(),
        np.zeros((50, 1, 5, 5)),
        rng.random((50, 1, 1, 1)),
        rng.normal(0, 1, (50, 1, 15, 15)),
    ):
        assert not stuck(given)


def test_clipped_images_are_read_as_the_images_are() -> None:
    given = images()
    given[3, 0, 0, 0], given[4, 1, 1, 1] = 1e8, -9999
    for dtype in (np.float32, np.uint8):
        stored = np.clip(given, 0, 255).astype(dtype) if dtype == np.uint8 else given
        clipped = Clipped(stored, 30, 70)
        assert (len(clipped), clipped.shape, clipped.dtype) == (100, given.shape, dtype)
        for index in (3, slice(2, 6), np.array([4, 3, 50]), (slice(None), 0)):
            assert clipped[index].dtype == dtype
            np.testing.assert_array_equal(clipped[index], np.minimum(np.maximum(stored[index], 30), 70))
            high = np.full(given.shape[1:], 70)
            high[0, 2, 2] = 30
            expected = np.minimum(np.maximum(stored, 30), high)[index]
            np.testing.assert_array_equal(Clipped(stored, 30, high)[index], expected)
