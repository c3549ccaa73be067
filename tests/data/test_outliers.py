"""Peaks far outside the rest are found whatever the unit, and in none of the sets that are in order."""

import numpy as np
import pytest

from hpcauxvae.data.outliers import outlying


def peaks(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The darkest and the brightest pixel of n images of a kind that is in order."""
    rng = np.random.default_rng(n)
    if kind == "galaxies":  # flux over area, noise down to 0
        return np.zeros(n), rng.uniform(1e4, 1e5, n) / (1 + 40 * rng.uniform(0.1, 1, n) ** 2)
    if kind == "uint8":
        return np.zeros(n, np.uint8), np.full(n, 255, np.uint8)
    if kind == "kelvin":
        return rng.normal(260, 1, n), rng.normal(302, 2, n)
    return rng.normal(-4, 0.5, n), rng.normal(4, 0.5, n)  # anomalies


@pytest.mark.parametrize("kind", ["galaxies", "uint8", "kelvin", "anomalies"])
@pytest.mark.parametrize("n", [2, 20, 600, 5000])
def test_a_set_in_order_has_none(kind: str, n: int) -> None:
    low_N, high_N = peaks(kind, n)
    assert not outlying(low_N, high_N).any()
    assert not outlying(-3 * high_N.astype(float) + 7, -3 * low_N.astype(float) + 7).any()


@pytest.mark.parametrize("kind", ["galaxies", "kelvin", "anomalies"])
@pytest.mark.parametrize(("n", "bad"), [(20, 1), (600, 1), (600, 5), (5000, 49)])
def test_hot_and_dead_pixels_are_found(kind: str, n: int, bad: int) -> None:
    low_N, high_N = peaks(kind, n)
    where = np.random.default_rng(1).permutation(n)[:bad]
    hot_N, dead_N = high_N.copy(), low_N.copy()
    hot_N[where] = np.geomspace(1e7, 1e8, bad)
    dead_N[where] = -1e8
    for factor, constant in ((1, 0), (1e-6, 0), (1e3, -50)):
        assert np.flatnonzero(outlying(low_N * factor + constant, hot_N * factor + constant)).tolist() == sorted(where)
        assert np.flatnonzero(outlying(dead_N * factor + constant, high_N * factor + constant)).tolist() == sorted(
            where
        )


def test_unsigned_pixels_do_not_wrap() -> None:
    high_N = np.full(600, 3, np.uint8)
    high_N[7] = 255
    assert np.flatnonzero(outlying(np.ones(600, np.uint8), high_N)).tolist() == [7]


def test_where_peaks_are_alike_there_is_no_measure_of_far() -> None:
    high_N = np.zeros(600)
    high_N[5] = 1
    assert not outlying(np.zeros(600), high_N).any()
