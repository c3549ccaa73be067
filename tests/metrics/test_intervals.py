"""A 95 % interval must cover in 90 to 99 % of repeats, and a percentile bootstrap must not come back."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import correlate
from hpcauxvae.metrics.intervals import (
    Score,
    correlation_score,
    mean_score,
    pooled_score,
    ratio_score,
    share_score,
)
from hpcauxvae.metrics.lds import linear_disentanglement
from hpcauxvae.metrics.sap import predictability_gap

Statistic = Callable[[NDArray], NDArray]


def sampled_codes(rng: np.random.Generator, leak: float, draws: int) -> tuple[NDArray, list[NDArray]]:
    """Three aligned latents, four that carry `leak` of every factor and noise of the data, three of noise alone."""
    n, d = 800, 3
    u = rng.random((n, d))
    aligned = u + 0.03 * rng.standard_normal((n, d))
    used = rng.standard_normal((n, 4)) + leak * (u @ np.array([[1, -1, 1, 0], [0, 1, -1, 1], [1, 0, 0.5, -1]]))
    return u, [
        np.c_[aligned + 0.03 * rng.standard_normal((n, d)), used, rng.standard_normal((n, 3))] for _ in range(draws)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("leak", [0, 0.2])
@pytest.mark.parametrize(
    ("statistic", "draws", "least", "most"),
    [(linear_disentanglement, 1, 0.9, 0.99), (linear_disentanglement, 6, 0.9, 0.99), (predictability_gap, 1, 0.9, 1)],
)
def test_intervals_of_correlation_scores_cover_the_expected_score(
    statistic: Statistic, draws: int, least: float, most: float, leak: float
) -> None:
    rng = np.random.default_rng(11)
    rows = []
    for seed in range(250):
        u, codes = sampled_codes(rng, leak, draws)
        score = correlation_score(statistic, correlate(u, codes), len(u), (0, 1), seed)
        rows.append((score["value"], score["low"], score["high"]))
    value, low, high = np.array(rows).T
    covered = np.mean((low <= value.mean()) & (value.mean() <= high))
    assert least <= covered <= most
    assert np.mean(high - low) / 2 / 1.96 < 2 * value.std()


def test_a_percentile_bootstrap_would_miss() -> None:
    """The reason for all this: resampled scores lie below the value that they should surround."""
    rng = np.random.default_rng(12)
    u, codes = sampled_codes(rng, 0, 1)
    rows = rng.integers(0, len(u), (300, len(u)))
    resampled = [linear_disentanglement(correlate(u[r], [codes[0][r]]).values_SDZ)[0] for r in rows]
    score = correlation_score(linear_disentanglement, correlate(u, codes), len(u), (0, 1), 0)
    assert np.quantile(resampled, 0.9) < score["value"]
    assert score["low"] < score["value"] < score["high"]


def test_intervals_stay_within_the_limits_of_a_score() -> None:
    u = np.random.default_rng(13).random((50, 1))
    codes = [np.c_[u, np.random.default_rng(14).random((50, 1))]]
    score = correlation_score(linear_disentanglement, correlate(u, codes), 50, (0, 1), 0)
    assert score["high"] == 1


def test_intervals_of_means_and_ratios_cover() -> None:
    """Skewed values, as SSIM and squared errors are: exponential numbers x, and the ratio of 2 x + y to x."""
    rng = np.random.default_rng(15)
    covered = []
    for _ in range(1000):
        x, y = rng.exponential(1, (2, 200))
        mean, ratio = mean_score(x), ratio_score(2 * x + y, x)
        covered.append((mean["low"] <= 1 <= mean["high"], ratio["low"] <= 3 <= ratio["high"]))
    assert np.all(np.mean(covered, 0) > 0.92)
    assert np.all(np.mean(covered, 0) < 0.97)


def test_mean_score_is_the_textbook_interval() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    score = mean_score(values)
    half = 1.959964 * np.sqrt(14 / 3 / 4)
    assert score == {"value": 3.0, "low": pytest.approx(3 - half), "high": pytest.approx(3 + half), "n": 4}


def test_shares_have_an_interval_where_all_hit() -> None:
    """Wilson's, by his formula; and it covers where hits are rare, as the normal one does not."""
    score, z = share_score(np.ones(179)), 1.959964
    assert score == {"value": 1.0, "low": pytest.approx(179 / (179 + z**2), rel=1e-6), "high": 1.0, "n": 179}
    hits = np.random.default_rng(3).random((2000, 60)) < 0.02
    scores = [share_score(row) for row in hits]
    assert np.mean([one["low"] <= 0.02 <= one["high"] for one in scores]) > 0.93
    assert np.mean([one["low"] <= 0.02 <= one["high"] for one in map(mean_score, 1.0 * hits)]) < 0.75


def test_scores_of_parts_pooled_are_those_of_all_samples() -> None:
    """Of unequal parts with other means and spreads; a part without samples counts for nothing."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(mean, spread, n) for mean, spread, n in ((0, 1, 5), (3, 0.1, 40), (-2, 2, 2))]
    nothing = Score(value=np.nan, low=np.nan, high=np.nan, n=0)
    found, expected = pooled_score([*map(mean_score, parts), nothing]), mean_score(np.concatenate(parts))
    assert found == pytest.approx(expected)
    assert np.isnan(pooled_score([nothing])["value"])


def test_the_interval_of_what_is_never_negative_ends_at_nought() -> None:
    squares, signed = np.array([0.0, 0.0, 0.0, 9.0]), np.array([-1.0, 0.0, 1.0, 9.0])
    assert mean_score(squares)["low"] == 0 and mean_score(squares)["high"] > 2 * 2.25
    assert mean_score(signed)["low"] < 0
