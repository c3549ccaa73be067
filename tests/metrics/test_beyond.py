"""What features tell beyond other variables: the level of the test, its power, and gains in closed form."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom
from scipy.stats import t as student

from hpcauxvae.metrics.beyond import Beyond, Part, beyond, missed
from hpcauxvae.metrics.regression import fitted, forest, shares

OTHERS, FEATURES = 2, 3


def drawn(
    seed: int, n: int, adds: float, *, square: bool = False, alike: bool = False
) -> tuple[NDArray, NDArray, NDArray]:
    """u, features and a target, which u tells in curves and with errors of its own size; features lean on u too.

    alike: the first by the same curves.
    """
    rng = np.random.default_rng(seed)
    u_NU, z_NF = rng.random((n, OTHERS)), rng.standard_normal((n, FEATURES))
    new_N = z_NF[:, 1].copy()
    curve_N = 2 * np.sin(4 * u_NU[:, 0]) + u_NU[:, 0] * u_NU[:, 1]
    z_NF[:, 0] = curve_N + 0.5 * z_NF[:, 0] if alike else z_NF[:, 0] + 0.5 * np.sin(5 * u_NU[:, 0])
    z_NF[:, 2] *= 0.5 + u_NU[:, 1]
    new_N = (new_N**2 - 1) / np.sqrt(2) if square else new_N
    error_N = rng.standard_normal(n) * (0.5 + u_NU[:, 0])
    return u_NU, z_NF, (curve_N + error_N + adds * new_N)[:, None]


def found_at(seed: int, adds: float, sizes: tuple[int, int, int] = (300, 150, 150), **how: bool) -> Beyond:
    """Sizes: of the samples that the regression on u, that on features, and the judge are given."""
    u_NU, z_NF, target_NT = drawn(seed, sum(sizes), adds, **how)
    first, second, judged = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:2])
    error_NT = target_NT - fitted(u_NU[first], target_NT[first], np.arange(len(first)), 0, or_mean=True)(u_NU)
    parts = [Part(z_NF[rows], u_NU[rows], error_NT[rows], np.arange(len(rows))) for rows in (second, judged)]
    spread_N = np.square(target_NT[judged] - target_NT[judged].mean(0)).sum(1)
    return beyond(parts[0], parts[1], spread_N, 0)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("alike", [False, True])
def test_the_level_holds_where_nothing_is_added(alike: bool) -> None:
    """200 draws; as many rejections as a fair test of this level has but once in a thousand."""
    p = np.array([found_at(seed, 0.0, alike=alike).p for seed in range(200)])
    for level in (0.2, 0.05, 0.01):
        assert (p < level).sum() <= binom.ppf(0.999, len(p), level)


@pytest.mark.slow
@pytest.mark.parametrize("square", [False, True])
def test_what_is_added_is_found(square: bool) -> None:
    """A third of the variance that u leaves, by a feature itself and by its square, at level 0.005."""
    p = np.array([found_at(seed, 0.7, square=square).p for seed in range(20)])
    assert (p < 0.005).sum() >= 19


def test_the_gain_is_that_of_a_normal_law() -> None:
    """target = u + b z + e: of its variance z adds b^2 / (1/12 + b^2 + s^2), in these samples what b z itself does."""
    rng, n, b, s = np.random.default_rng(2), 3000, 0.6, 0.4
    u_N1, z_NF, e_N = rng.random((n, 1)), rng.standard_normal((n, 2)), s * rng.standard_normal(n)
    error_NT = (b * z_NF[:, 0] + e_N)[:, None]
    target_NT = u_N1 + error_NT
    half = np.split(np.arange(n), 2)
    parts = [Part(z_NF[rows], u_N1[rows], error_NT[rows], np.arange(len(rows))) for rows in half]
    judged = target_NT[half[1]]
    found = beyond(parts[0], parts[1], np.square(judged - judged.mean(0)).sum(1), 0)
    own = 1 / 12 + b**2 + s**2
    here = 1 - (np.square(e_N[half[1]]).sum() + judged.size / 12) / np.square(judged - judged.mean()).sum()
    assert found.gain["value"] == pytest.approx(here, abs=0.02)
    assert found.gain["low"] < b**2 / own < found.gain["high"]
    assert found.p == pytest.approx(student.sf(found.z, len(judged) - 1), rel=1e-6)
    # z of the product of b z + e with b z, whose mean is b^2 and variance 2 b^4 + b^2 s^2
    assert found.z == pytest.approx(b / np.sqrt((2 * b**2 + s**2) / len(half[1])), rel=0.1)


def waves(u_NU: NDArray) -> NDArray:
    return 2 * np.sin(6 * (u_NU[:, 0] + u_NU[:, 1])) * np.cos(6 * (u_NU[:, 2] - u_NU[:, 3]))


@pytest.mark.parametrize(
    ("law", "hard"), [(waves, True), (lambda u_NU: np.sin(3 * u_NU[:, 0]) + u_NU[:, 1] * u_NU[:, 2], False)]
)
def test_what_the_regressions_miss_is_seen_by_a_forest(law: Callable[[NDArray], NDArray], hard: bool) -> None:
    """Features that are the law and noise: nothing is added. Where the regressions miss the law the test says it is,
    and so does the forest that they miss something; else neither does."""
    rng, n = np.random.default_rng(0), 2000
    u_NU = rng.random((n, 4))
    target_N1, z_N1 = law(u_NU)[:, None] + 0.5 * law(u_NU).std() * rng.standard_normal((2, n, 1))
    first, held = np.arange(1200), np.arange(1200, n)
    told_N1 = fitted(u_NU[first], target_N1[first], first, 0)(u_NU)
    error_N1, spread_N = target_N1 - told_N1, np.square(target_N1 - target_N1.mean(0)).sum(1)
    parts = [Part(z_N1[rows], u_NU[rows], error_N1[rows], np.arange(len(rows))) for rows in np.split(held, [400])]
    more_N1 = forest(u_NU[first], target_N1[first], 0)(u_NU) - told_N1
    found = missed(more_N1[held], error_N1[held], spread_N[held], np.arange(len(held)))
    assert (beyond(parts[0], parts[1], spread_N[held[400:]], 0).p < 0.005) == hard
    assert (found["low"] > 0 and found["value"] > 0.01) == hard


def test_what_is_missed_is_the_best_multiple() -> None:
    """Half of the error is what the other regression finds, which says it twice too large and with a noise of its own:
    of an error of variance 2 it tells 1 * 1 / (1 + 1/4), by regression."""
    rng, n = np.random.default_rng(1), 20000
    law_N, noise_N, own_N = rng.standard_normal((3, n))
    found = missed((2 * law_N + own_N)[:, None], (law_N + noise_N)[:, None], np.full(n, 4.0), np.arange(n))
    assert found["value"] == pytest.approx(0.8 / 4, abs=0.01)
    assert missed(-law_N[:, None], law_N[:, None], np.ones(n), np.arange(n))["value"] == 0


def test_one_object_is_no_test() -> None:
    u_NU, z_NF, target_NT = drawn(6, 100, 0.0)
    part = Part(z_NF, u_NU, target_NT, np.arange(100))
    with pytest.raises(ValueError, match="one object"):
        beyond(part, part._replace(object_N=np.zeros(100, int)), np.square(target_NT).sum(1), 0)


def test_what_features_tell_of_the_others_does_not_count() -> None:
    """Errors that u still tells in full, as of a regression that has learned nothing, and features made of u and noise:
    independent given u. One good regression on u of the two is enough."""
    rng = np.random.default_rng(5)
    u_N1, noise_NF = rng.random((800, 1)), rng.standard_normal((800, 2))
    error_NT = np.sin(6 * u_N1) - np.sin(6 * u_N1).mean() + 0.3 * rng.standard_normal((800, 1))
    z_NF = np.sin(6 * u_N1) + 0.3 * noise_NF
    half = np.split(np.arange(800), 2)
    parts = [Part(z_NF[rows], u_N1[rows], error_NT[rows], np.arange(400)) for rows in half]
    found = beyond(parts[0], parts[1], np.square(error_NT[half[1]]).sum(1), 0)
    assert np.corrcoef(z_NF[:, 0], error_NT[:, 0])[0, 1] > 0.8
    assert abs(found.z) < 3


def test_samples_of_one_object_count_as_one() -> None:
    """Every judged sample four times: the same z as once."""
    u_NU, z_NF, target_NT = drawn(3, 400, 0.7)
    error_NT = target_NT - target_NT.mean(0)
    fit = Part(z_NF[:200], u_NU[:200], error_NT[:200], np.arange(200))
    found = []
    for times in (1, 4):
        rows = np.repeat(np.arange(200, 400), times)
        judged = Part(z_NF[rows], u_NU[rows], error_NT[rows], rows - 200)
        found.append(beyond(fit, judged, np.square(error_NT[rows]).sum(1), 0))
    assert found[1].z == pytest.approx(found[0].z, rel=0.1)
    assert found[0].z > 4


@pytest.mark.parametrize("features", [0, 2])
def test_features_that_say_nothing_gain_nothing(features: int) -> None:
    u_NU, _, target_NT = drawn(4, 300, 0.0)
    part = Part(np.zeros((300, features)), u_NU, target_NT - target_NT.mean(0), np.arange(300))
    found = beyond(part, part, np.square(part.error_NT).sum(1), 0)
    assert (found.z, found.p) == (0, 1)
    assert found.gain["value"] == pytest.approx(0, abs=1e-12)


def explained(truth_N: NDArray, told_N: NDArray) -> float:
    return float(1 - np.square(truth_N - told_N).sum() / np.square(truth_N - truth_N.mean()).sum())


def test_regressions_fit_curves_and_steps_and_tell_noise() -> None:
    rng = np.random.default_rng(0)
    x_NF, numbers = rng.random((1200, 2)), np.arange(800)
    curve_N = np.sin(6 * x_NF[:, 0]) * x_NF[:, 1]
    step_N = np.floor(4 * x_NF[:, 0]) % 2 + (x_NF[:, 1] > 0.3)
    for truth_N, least in ((curve_N, 0.99), (step_N, 0.9)):
        predict = fitted(x_NF[:800], truth_N[:800, None], numbers, 0)
        assert explained(truth_N[800:], predict(x_NF[800:])[:, 0]) > least
    noise_N1 = rng.standard_normal((800, 1))
    told_NT = fitted(x_NF[:800], noise_N1, numbers, 0, or_mean=True)(x_NF[800:])
    np.testing.assert_allclose(told_NT, noise_N1.mean())


def test_features_that_are_not_measured_are_features() -> None:
    """A target that is 1 more where a feature is missing, and a curve in another, which trees hardly know."""
    rng = np.random.default_rng(0)
    x_NF, missing_N = rng.random((600, 2)), rng.random(600) < 0.3
    target_N = np.sin(6 * x_NF[:, 1]) + missing_N
    x_NF[missing_N, 0] = np.nan
    predict = fitted(x_NF[:300], target_N[:300, None], np.arange(300), 0)
    assert explained(target_N[300:], predict(x_NF[300:])[:, 0]) > 0.999


def test_shares_tell_which_feature_counts() -> None:
    """A loss that knows the target 3 x0 + x1: importances 9 to 1, and none of the third."""
    x_NF = np.random.default_rng(0).standard_normal((4000, 3))
    target_N = 3 * x_NF[:, 0] + x_NF[:, 1]
    found = shares(lambda x: float(np.square(target_N - 3 * x[:, 0] - x[:, 1]).sum()), x_NF, [[0], [1], [2]], 0)
    np.testing.assert_allclose(found, [0.9, 0.1, 0], atol=0.01)
    assert shares(lambda x: 1.0, x_NF, [[0], [1, 2]], 0).tolist() == [0, 0]
