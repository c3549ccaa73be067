"""What is read of true factors is found from labels with errors, also of few samples, and its intervals hold it."""

import numpy as np
import pytest

from hpcauxvae.metrics.intervals import Score
from hpcauxvae.metrics.true_factor import likely, read_true
from hpcauxvae.types import Factor

FACTOR = Factor("thickness", "px", 0, 2)
ERRORS, SHARES = np.array([0.02, 0.3, 1.0]), (0.3, 0.3, 0.4)


def found(n: int, seed: int, goes_with_errors: float = 0.0) -> dict[str, Score]:
    """Of a code with slope .9 and an error of .28 or, where it is the larger the poorer the label, of .1 and more."""
    rng = np.random.default_rng(seed)
    u_N, s_N = rng.normal(0, 0.9, n), rng.choice(ERRORS, n, p=SHARES)
    off_N = 0.1 + goes_with_errors * s_N if goes_with_errors else np.full(n, 0.28)
    label_N, z_N = u_N + s_N * rng.standard_normal(n), 0.9 * u_N + off_N * rng.standard_normal(n)
    label_N[::10] = np.nan
    return read_true(label_N, z_N, s_N, FACTOR)


def test_few_labels_of_which_some_are_good_tell_the_error() -> None:
    """All alike would give .4 to .8 px, by chance."""
    scores = [found(330, seed) for seed in range(60)]
    truth = {"r": 0.81 / np.hypot(0.81, 0.28), "slope": 0.9, "error": 2 * np.hypot(0.28, 0.1 * 0.9)}
    for name, true in truth.items():
        values = [score[name]["value"] for score in scores]
        held = [score[name]["low"] <= true <= score[name]["high"] for score in scores]
        assert np.mean(values) == pytest.approx(true, rel=0.03) and np.mean(held) > 0.85, name
    assert np.std([score["error"]["value"] for score in scores]) < 0.05


def test_good_labels_do_not_speak_for_images_that_are_read_worse() -> None:
    """The good ones alone would give .28 px."""
    error = found(6000, 0, goes_with_errors=0.5)["error"]
    mean_square = ((0.1 + 0.5 * ERRORS) ** 2) @ SHARES + (0.1 * 0.9) ** 2
    assert error["value"] == pytest.approx(2 * np.sqrt(mean_square), rel=0.1)
    assert error["low"] < 2 * np.sqrt(mean_square) < error["high"]


def test_what_is_likely_of_a_label_has_the_slope_and_with_its_share_the_r_of_the_true_factor() -> None:
    rng = np.random.default_rng(2)
    u_N, s_N = rng.normal(0.5, 0.2, 40_000), rng.choice([0.0, 0.1, 0.4], 40_000)
    label_N, z_N = u_N + s_N * rng.standard_normal(40_000), 0.7 * u_N + 0.1 * rng.standard_normal(40_000)
    found = likely(label_N, s_N)
    assert found.guess_N.var() == pytest.approx(found.share * u_N.var(), rel=0.02) and 0.6 < found.share < 0.8
    assert np.mean((found.guess_N - u_N) ** 2) == pytest.approx(found.unknown, rel=0.03)
    assert np.cov(found.guess_N, z_N)[0, 1] / found.guess_N.var() == pytest.approx(0.7, rel=0.02)
    r, off = np.corrcoef(found.guess_N, z_N)[0, 1], 2 * np.sqrt(np.mean((z_N - found.guess_N) ** 2))
    scores = {name: Score(value=value, low=value, high=value, n=9) for name, value in (("r", r), ("error", off))}
    true = found.of_true(scores, 2.0)
    assert true["r"]["value"] == pytest.approx(np.corrcoef(u_N, z_N)[0, 1], abs=0.01)
    unread = 2 * np.sqrt(np.mean((z_N - found.guess_N) ** 2) - found.unknown)
    assert true["error"]["value"] == pytest.approx(unread)
    exact = likely(u_N, np.zeros(40_000))
    assert np.array_equal(exact.guess_N, u_N) and (exact.share, exact.unknown) == (1, 0)


def test_labels_that_are_exact_or_equally_poor_weigh_alike() -> None:
    rng = np.random.default_rng(1)
    u_N, noise_N = rng.random(2000), rng.standard_normal((2, 2000))
    z_N = u_N + 0.1 * noise_N[0]
    exact = read_true(u_N, z_N, np.zeros(2000), FACTOR)
    assert exact["error"]["value"] == pytest.approx(2 * np.sqrt(np.mean((z_N - u_N) ** 2)))
    assert exact["r"]["value"] == pytest.approx(np.corrcoef(u_N, z_N)[0, 1])
    label_N = u_N + 0.2 * noise_N[1]
    poor = read_true(label_N, z_N, np.full(2000, 0.2), FACTOR)
    assert poor["error"]["value"] == pytest.approx(2 * np.sqrt(np.mean((z_N - label_N) ** 2) - 0.04))
    reliable = 1 - 0.04 / label_N.var()
    assert poor["r"]["value"] == pytest.approx(np.corrcoef(label_N, z_N)[0, 1] / np.sqrt(reliable))
    constant = read_true(np.full(50, 0.5), np.full(50, 0.5), np.zeros(50), FACTOR)
    assert [constant[name]["value"] for name in ("r", "slope", "error")] == [0, 0, 0]
