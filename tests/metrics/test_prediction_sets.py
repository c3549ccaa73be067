"""Sets of classes hold the right one as often as they say, and probabilities are those of being right."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.metrics.conformal import LEVELS
from hpcauxvae.metrics.prediction_sets import ClassReader, fitted_classes, probabilities, shares

CLASSES = 6


def samples(n: int, seed: int, clear: float = 2.0) -> tuple[NDArray, NDArray, NDArray]:
    """Numbers of classes, drawn by probabilities that are the sharper the clearer; their columns; and latents that tell
    the probabilities on another scale, with a little noise."""
    rng = np.random.default_rng(seed)
    p_NK = probabilities(clear * rng.standard_normal((n, CLASSES)), 1)
    class_N = (rng.random((n, 1)) > p_NK.cumsum(1)).sum(1).clip(0, CLASSES - 1)
    columns_NT = np.eye(CLASSES)[class_N][:, 1:]
    return class_N, columns_NT, 3 - 2 * p_NK[:, 1:] + 0.02 * rng.standard_normal(columns_NT.shape)


def covered(reader: ClassReader, class_N: NDArray, z_NT: NDArray) -> list[float]:
    return [float(of[np.arange(len(class_N)), class_N].mean()) for of in reader(z_NT)[2]]


def test_sets_hold_the_class_as_often_as_they_say() -> None:
    class_N, _, z_NT = samples(20_000, 0)
    readers = [fitted_classes(*samples(800, seed)) for seed in range(1, 9)]
    told_N, p_N, sets = readers[0](z_NT)
    right = float((told_N == class_N).mean())
    assert 0.6 < right < 0.68
    assert np.mean([covered(reader, class_N, z_NT) for reader in readers], 0) == pytest.approx(LEVELS, abs=0.015)
    sizes = [of.sum(1).mean() for of in sets]
    assert 1 < sizes[0] < 1.5 < 2 < sizes[1] < 4.5, "of 6 classes"
    sure = p_N > np.median(p_N)
    assert sets[1][sure].sum() < 0.7 * sets[1][~sure].sum(), "sets are small where the class is clear"
    for low in np.quantile(p_N, [0, 0.2, 0.4, 0.6, 0.8]):
        part = (p_N >= low) & (p_N <= np.quantile(p_N, min(1, (p_N < low).mean() + 0.2)))
        assert p_N[part].mean() == pytest.approx((told_N == class_N)[part].mean(), abs=0.06)


def test_the_level_of_a_class_says_in_which_sets_it_is() -> None:
    reader, (class_N, _, z_NT) = fitted_classes(*samples(797, 1)), samples(3000, 2)
    told_N, _, sets = reader(z_NT)
    level_N = reader.level(z_NT, class_N)
    for level, of in zip(LEVELS, sets, strict=True):
        assert np.array_equal(level_N < level, of[np.arange(3000), class_N])
    assert (level_N[told_N == class_N] == 0).all() and all(of[np.arange(3000), told_N].all() for of in sets)
    assert np.isnan(reader.level(z_NT[:1], np.array([-1]))).all()


def test_each_score_is_of_lines_that_have_not_seen_its_sample() -> None:
    """With 40 classes and hardly more samples of each, lines know their own samples by heart."""
    rng = np.random.default_rng(3)
    class_N = rng.integers(0, 40, 120)
    columns_NT = np.eye(40)[class_N][:, 1:]
    reader = fitted_classes(class_N, columns_NT, rng.standard_normal(columns_NT.shape))
    fresh_N = rng.integers(0, 40, 4000)
    found = covered(reader, fresh_N, rng.standard_normal((4000, 39)))
    assert found == pytest.approx(LEVELS, abs=0.08)


def test_clear_classes_are_certain_and_few_samples_have_all() -> None:
    reader = fitted_classes(*samples(500, 4, clear=300))
    _, p_N, sets = reader(samples(1000, 5, clear=300)[2])
    assert np.quantile(p_N, 0.01) > 0.95 and (sets[1].sum(1) == 1).all()
    class_N, columns_NT, z_NT = samples(10, 6)
    assert fitted_classes(class_N, columns_NT, z_NT)(z_NT)[2][1].all(), "19 are needed for 95 %"
    none = fitted_classes(np.full(10, -1), columns_NT, z_NT)
    assert all(of.all() for of in none(z_NT)[2])


def test_what_all_others_leave_is_of_the_first_class() -> None:
    share_NK = shares(np.array([[0.2, 0.1], [0.9, 0.3]]))
    np.testing.assert_allclose(share_NK, [[0.7, 0.2, 0.1], [-0.2, 0.9, 0.3]])
    hot, cold = (probabilities(share_NK, temperature) for temperature in (10, 0.01))
    np.testing.assert_allclose(hot, 1 / 3, atol=0.04)
    np.testing.assert_allclose(cold, [[1, 0, 0], [0, 1, 0]], atol=1e-9)
