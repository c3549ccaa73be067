"""Columns that are cosine and sine of an angle."""

import numpy as np
import pytest

from hpcauxvae.data.angles import angles, partner, themselves, typical

TURN = np.random.default_rng(0).uniform(0, 2 * np.pi, 200)


def columns() -> np.ndarray:
    """size, cosine, another size, sine."""
    rng = np.random.default_rng(1)
    return np.stack([rng.uniform(size=200), np.cos(TURN), rng.lognormal(size=200), np.sin(TURN)], 1)


def test_cosine_and_sine_are_found_by_their_values() -> None:
    values = columns()
    assert angles(values) == [(1, 3)]
    values[5, 1], values[6, 3] = np.nan, np.nan
    assert angles(np.round(values, 4)) == [(1, 3)]
    values[7, 3] *= 0.9
    assert angles(values) == []


def test_a_shear_and_a_few_rows_are_no_angle() -> None:
    shear = 0.7 * np.random.default_rng(0).uniform(-1, 1, (200, 2))
    assert angles(shear) == []
    assert angles(columns()[:2]) == []
    assert angles(np.full((50, 2), np.nan)) == []


def test_columns_of_two_classes_are_no_angle_but_thirds_of_a_turn_are() -> None:
    classes = np.eye(2)[np.arange(90) % 2]
    assert angles(classes) == [] and angles(classes * np.where(np.arange(90) % 4 < 2, 1, -1)[:, None]) == []
    for steps in (3, 8, 360):
        turn = 2 * np.pi * np.arange(steps) / steps
        assert angles(np.stack([np.cos(turn), np.sin(turn)], 1)) == [(0, 1)]
    dense = np.linspace(0, 1, 100_000)
    assert angles(np.stack([np.cos(dense), np.sin(dense)], 1)) == [(0, 1)]
    constant = np.array([0.6, 0.8]) + 1e-4 * np.random.default_rng(0).uniform(-1, 1, (200, 2))
    assert angles(constant) == []


@pytest.mark.parametrize(("unit", "times"), [(180 / np.pi, 1), (180 / np.pi, 2), (1, 1), (-1, 1)])
def test_the_angle_itself_is_found_by_its_values(unit: float, times: int) -> None:
    values = np.column_stack([columns(), np.round(TURN / times * unit, 3)])
    assert themselves(values) == ({4: (1, 3)} if unit > 0 else {})
    assert themselves(values[:, [3, 0, 4, 1]]) == ({2: (0, 3)} if unit > 0 else {})
    values[3, 4], values[4, 1] = np.nan, np.nan
    assert themselves(values) == ({4: (1, 3)} if unit > 0 else {})
    values[5, 4] += unit
    assert themselves(values) == {}
    values[:100, 4], values[100:, 1] = np.nan, np.nan
    assert themselves(values) == {}


def test_the_partner_of_a_cosine_is_its_sine_on_the_side_that_is_asked_for() -> None:
    np.testing.assert_allclose(partner(np.cos(TURN), 1.0), np.abs(np.sin(TURN)), atol=1e-12)
    np.testing.assert_allclose(partner(np.cos(TURN), -0.2), -np.abs(np.sin(TURN)), atol=1e-12)


def test_what_is_typical_of_a_heavy_tail_is_its_median_and_of_an_angle_an_angle() -> None:
    values = columns()
    values[0, 2] = 1e6
    values[3, 0] = np.nan
    found = typical(values, angles(values), ["continuous"] * 4)
    assert found[0] == np.nanmedian(values[:, 0]) and found[2] == np.median(values[:, 2]) < 2
    assert found[1] ** 2 + found[3] ** 2 == pytest.approx(1)
    assert [found[1], found[3]] in values[:, [1, 3]].tolist()


def test_what_is_typical_of_classes_and_steps_occurs() -> None:
    values = np.array([[0, 0, 0], [1, 1, 0], [0, np.nan, 2], [1, 1, 2], [np.nan, 0, 2], [np.nan, 3, 1]], float)
    assert typical(values, [], ["ordinal", "categorical", "categorical"]).tolist() in ([0, 0, 2], [0, 1, 2])
    assert typical(values[:, :1], [], ["continuous"]).tolist() == [0.5]
