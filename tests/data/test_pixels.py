"""Extremes image by image, and bounds that no single image decides."""

import numpy as np
import pytest

from hpcauxvae.data.pixels import beyond, bounds, look_at, outlying, seen_in


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
    assert len(set(whole.digest.tolist())) == 99 and whole.digest[7] == whole.digest[90]
    parts = [look_at(given, range(first, min(first + 33, 100))) for first in range(0, 100, 33)]
    for all_at_once, *in_parts in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(all_at_once, np.concatenate(in_parts))
    assert all(len(values) == 0 for values in look_at(given, range(0)))
    assert seen_in(whole.digest[:10], whole.digest[10:]) == 1
    some = np.array([7, 4, 3])
    assert beyond(given, some, 40, 60) == ((given[some] < 40).sum(), (given[some] > 60).sum())
    assert look_at(given.astype(np.uint8)).whole.all()


@pytest.mark.parametrize("n", [20, 100, 600])
def test_one_image_does_not_decide_the_bounds(n: int) -> None:
    given = images(n)
    clean = float(given.min()), float(given.max())
    assert bounds(*look_at(given)[:2]) == clean and len(outlying(look_at(given))) == 0
    given[7, 0, 1, 1] = 1e8
    assert bounds(*look_at(given)[:2]) == clean and outlying(look_at(given)).tolist() == [7]
    given[8, 0, 1, 1] = -9999
    low, high = bounds(*look_at(given)[:2])
    if n >= 100:
        assert (low, high) == clean and outlying(look_at(given)).tolist() == [7, 8]


def test_bounds_of_clean_images_are_their_extremes() -> None:
    rng = np.random.default_rng(1)
    for peaks in (
        rng.lognormal(3, 1, 100_000),  # of a catalogue of fluxes
        rng.uniform(1, 1000, 600),
        np.r_[np.zeros(990), rng.uniform(1, 9, 10)],  # blank but for some
        -rng.uniform(1, 9, 50),
        rng.normal(0, 1, 19) * [1e8] + [0] * 19,  # too few for a bulk
    ):
        assert bounds(-peaks, peaks) == (-peaks.max(), peaks.max()) == (np.min(-peaks), np.max(peaks))
