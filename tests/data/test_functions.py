"""Columns that follow from another are found, and columns that only go with it are not."""

import numpy as np
import pytest

from hpcauxvae.data.functions import follows, functions_of


def columns(n: int, steps: int | None) -> np.ndarray:
    """An angle in degrees, of so many steps if any; a class; cosine, sine, twice the angle's sine, a size of the class,
    and what goes with both but not quite."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 360, n) if steps is None else rng.integers(0, steps, n) * 360 / steps
    kind, turn = rng.integers(0, 20, n), np.radians(angle)
    sizes = rng.permutation(20) ** 2.0
    return np.stack([
        angle, kind, np.cos(turn), np.sin(turn), np.sin(2 * turn), sizes[kind],
        np.sin(turn) + 0.3 * rng.standard_normal(n), sizes[kind] + 60 * rng.standard_normal(n), rng.random(n),
    ], 1)  # fmt: skip


@pytest.mark.parametrize(("n", "steps"), [(1440, 72), (300, None), (60_000, None)])
def test_functions_of_an_angle_and_a_class_are_found(n: int, steps: int | None) -> None:
    values = columns(n, steps)
    assert functions_of(values, [0, 1], range(2, 9)) == [2, 3, 4, 5]
    assert functions_of(values, [1], range(2, 9)) == [5]
    assert functions_of(values, [2, 3], [0, 1, 5, 6]) == [0], "the angle, of cosine and sine together"
    assert functions_of(values, [8], range(8)) == []


def test_missing_values_constant_columns_and_few_samples() -> None:
    values = columns(600, 72)
    values[::3, 0] = values[1::5, 2] = np.nan
    assert follows(values[:, 2], values[:, 0]) and not follows(values[:, 6], values[:, 0])
    assert not follows(np.ones(600), values[:, 0]) and not follows(values[:20, 2], values[:20, 0])
    assert functions_of(values[:0], [0], [1, 2]) == [] == functions_of(values[:1], [0], [1, 2])
