"""Intervals hold what they say, adapt, and are as wide as the truth demands; their arrays are scikit-learn's trees."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from hpcauxvae.metrics.conformal import FEW, LEVELS, AngleReader, Reader, Trees, distance, fitted, p_value, quantile

WIDTH = {0.68: 2 * 0.9945, 0.95: 2 * 1.96}
"""Of the interval of a normal number that covers so much, in standard deviations."""


def samples(n: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Truths u, readings z that run backwards over another range, and features; the noise is .01 or .1, as the first
    feature tells."""
    rng = np.random.default_rng(seed)
    z_N, features_NX = rng.uniform(1, 3, n), rng.random((n, 4))
    noise_N = np.where(features_NX[:, 0] < 0.5, 0.01, 0.1)
    return (3 - z_N) / 2 + noise_N * rng.standard_normal(n), z_N, features_NX


def of_line(u_N: NDArray, z_N: NDArray, features_NX: NDArray) -> Reader:
    return fitted(u_N, u_N[:, None], z_N[:, None], features_NX)


def shares(reader: Reader, u_N: NDArray, z_N: NDArray, features_NX: NDArray) -> list[float]:
    _, intervals = reader(z_N[:, None], features_NX)
    return [float(((low <= u_N) & (u_N <= high)).mean()) for low, high in intervals]


def test_intervals_cover_what_they_say_and_adapt() -> None:
    u_N, z_N, features_NX = samples(20_000, 1)
    quiet = features_NX[:, 0] < 0.5
    readers = [of_line(*samples(1500, seed)) for seed in range(2, 8)]
    for part in (quiet, ~quiet):
        found = np.mean([shares(reader, u_N[part], z_N[part], features_NX[part]) for reader in readers], 0)
        assert found == pytest.approx(LEVELS, abs=0.05)
    found = np.mean([shares(reader, u_N, z_N, features_NX) for reader in readers], 0)
    assert found == pytest.approx(LEVELS, abs=0.01)
    told_N, intervals = readers[0](z_N[:, None], features_NX)
    for level, (low_N, high_N) in zip(LEVELS, intervals, strict=True):
        for part, noise in ((quiet, 0.01), (~quiet, 0.1)):
            assert np.median((high_N - low_N)[part]) == pytest.approx(noise * WIDTH[level], rel=0.25)
    assert np.mean(told_N - u_N) == pytest.approx(0, abs=0.003), "no bias, though z runs backwards over 1 to 3"


def test_the_level_of_a_truth_says_in_which_intervals_it_lies() -> None:
    reader, (u_N, z_N, features_NX) = of_line(*samples(997, 2)), samples(3000, 3)
    level_N = reader.level(z_N[:, None], features_NX, u_N)
    for level, (low_N, high_N) in zip(LEVELS, reader(z_N[:, None], features_NX)[1], strict=True):
        assert np.array_equal(level_N < level, (low_N <= u_N) & (u_N <= high_N))
    assert np.isnan(reader.level(z_N[:1, None], features_NX[:1], np.array([np.nan]))).all()


def test_what_is_not_read_has_the_interval_of_the_factor_itself() -> None:
    """Turned round, the line of z on u would give any number."""
    rng = np.random.default_rng(4)
    u_N, z_N, features_NX = rng.random(2000), rng.random(2000), rng.random((2000, 3))
    told_N, (_, (low_N, high_N)) = of_line(u_N, z_N, features_NX)(z_N[:, None], features_NX)
    assert np.ptp(told_N) < 0.1 and np.median(high_N - low_N) == pytest.approx(0.95, abs=0.03)


def test_few_samples_have_plain_intervals_and_very_few_have_no_end() -> None:
    u_N, z_N, features_NX = samples(FEW - 1, 5)
    reader = of_line(u_N, z_N, features_NX)
    widths = np.diff(reader(z_N[:, None], features_NX)[1], axis=1)
    assert len(reader.usual.root_T) == 0 and np.ptp(widths, axis=-1).max() < 1e-9
    assert len(of_line(*samples(FEW, 5)).usual.root_T) > 0
    u_N[10:] = np.nan
    reader = of_line(u_N, z_N, features_NX)
    (low_N, _), (lowest_N, highest_N) = reader(z_N[:, None], features_NX)[1]
    assert len(reader.score_M) == 10 and np.isfinite(low_N).all()
    assert np.isneginf(lowest_N).all() and np.isposinf(highest_N).all(), "19 are needed for 95 %"


def test_each_score_is_of_a_line_and_of_trees_that_have_not_seen_its_sample() -> None:
    """Trees know copies of what they were fitted to: scores are smaller where those are in other folds. Neighbours, as
    the views of an object, are in the same fold."""
    of_one = samples(400, 6)
    together, apart = (
        of_line(*(of.take(rows, 0) for of in of_one)) for rows in (np.repeat(range(400), 10), np.tile(range(400), 10))
    )
    assert quantile(apart.score_M, 0.95) < 0.8 * quantile(together.score_M, 0.95)


def test_quantiles_and_p_values_are_those_of_their_definition() -> None:
    score_M = np.arange(1.0, 20.0)
    assert [quantile(score_M, level) for level in (0.05, 0.5, 0.951)] == [1, 10, np.inf]
    assert quantile(score_M, 0.95) == 19
    assert p_value(score_M, np.array([0, 1, 10.5, 19, 20, np.nan])) == pytest.approx([1, 1, 0.5, 0.1, 0.05, 1])


def test_trees_tell_what_scikit_learn_tells() -> None:
    rng = np.random.default_rng(7)
    known_MX, new_NX = rng.random((500, 5)), rng.random((3000, 5))
    forests = [
        ExtraTreesRegressor(4, min_samples_leaf=5, max_depth=8, random_state=seed).fit(known_MX, known_MX.sum(1) ** 2)
        for seed in (0, 1)
    ]
    expected_N = np.mean([forest.predict(new_NX) for forest in forests], 0)
    np.testing.assert_allclose(Trees.of(forests)(new_NX), expected_N, rtol=1e-12)
    assert (Trees.of([])(new_NX) == 1).all()


def test_distance_is_to_the_fifth_nearest() -> None:
    known_MX = np.arange(10.0)[:, None]
    assert distance(np.array([[0.0], [20.0]]), known_MX) == pytest.approx([4, 15])
    assert distance(np.array([[0.0]]), known_MX[:3]) == pytest.approx([2])


def angles(n: int, seed: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Turns from 0 to 1, their cosine and sine on the scale from 0 to 1, latents that run backwards and twice as far,
    and features; the noise is .01 or .05 of a turn, as the first feature tells."""
    rng = np.random.default_rng(seed)
    u_N, features_NX = rng.random(n), rng.random((n, 4))
    seen_N = u_N + np.where(features_NX[:, 0] < 0.5, 0.01, 0.05) * rng.standard_normal(n)

    def columns(turn_N: NDArray) -> NDArray:
        return (1 + np.stack([np.cos(2 * np.pi * turn_N), np.sin(2 * np.pi * turn_N)], 1)) / 2

    return u_N, columns(u_N), 1 - 2 * columns(seen_N), features_NX


def test_an_angle_has_an_interval_about_it_the_shorter_way_round() -> None:
    readers = [fitted(*angles(1500, seed), AngleReader) for seed in range(2, 6)]
    u_N, _, z_N2, features_NX = angles(20_000, 1)
    for part in (features_NX[:, 0] < 0.5, features_NX[:, 0] >= 0.5, (u_N < 0.05) | (u_N > 0.95)):
        found = []
        for reader in readers:
            told_N, intervals = reader(z_N2[part], features_NX[part])
            assert ((told_N >= 0) & (told_N < 1)).all()
            found.append([float(((u_N[part] - low_N) % 1 <= high_N - low_N).mean()) for low_N, high_N in intervals])
        assert np.mean(found, 0) == pytest.approx(LEVELS, abs=0.05)
    told_N, intervals = readers[0](z_N2, features_NX)
    level_N = readers[0].level(z_N2, features_NX, u_N)
    for level, (low_N, high_N) in zip(LEVELS, intervals, strict=True):
        assert np.array_equal(level_N < level, (u_N - low_N) % 1 <= high_N - low_N)
        for part, noise in ((features_NX[:, 0] < 0.5, 0.01), (features_NX[:, 0] >= 0.5, 0.05)):
            assert np.median((high_N - low_N)[part]) == pytest.approx(noise * WIDTH[level], rel=0.25)
    assert intervals[1][0].min() < 0 and intervals[1][1].max() > 1, "ends lie beyond 0 and 1"


def test_an_angle_that_is_not_read_may_be_all_round() -> None:
    u_N, columns_N2, z_N2, features_NX = angles(1000, 6)
    reader = fitted(u_N, columns_N2, z_N2[::-1], features_NX, AngleReader)
    low_N, high_N = reader(z_N2, features_NX)[1][1]
    assert 0.9 < np.median(high_N - low_N) <= 1 and (high_N - low_N).max() <= 1
    few = fitted(u_N[:10], columns_N2[:10], z_N2[:10], features_NX[:10], AngleReader)
    low_N, high_N = few(z_N2, features_NX)[1][1]
    np.testing.assert_allclose(high_N - low_N, 1)
