"""Errors of angles the shorter way round, and shares of classes, beside a constant answer."""

import numpy as np
import pytest

from hpcauxvae.metrics.by_kind import agreement
from hpcauxvae.types import Factor


def test_angles_differ_by_the_shorter_way_round() -> None:
    azimuth = Factor("azimuth", "deg", 0, 360, "periodic")
    found = agreement(np.array([350.0, 10, 90, np.nan]), np.array([10.0, 350, 120, 3]), azimuth)
    assert found["error"]["value"] == pytest.approx((20 + 20 + 30) / 3) and found["error"]["n"] == 3
    even = agreement(np.arange(0.0, 360), np.full(360, 5.0), azimuth)
    assert even["error"]["value"] == pytest.approx(90)
    narrow = agreement(np.array([350.0, 10.0, 0.0]), np.zeros(3), azimuth)
    assert narrow["chance"] == pytest.approx(20 / 3)  # their mean direction is 0


def test_classes_are_right_or_wrong() -> None:
    shape = Factor("shape", "", 1, 9, "categorical")
    found = agreement(np.array([1.0, 1, 1, 9]), np.array([1.0, 9, 1, 9]), shape)
    assert found["accuracy"]["value"] == 0.75 and found["chance"] == 0.75
    assert agreement(np.array([1.0, np.nan]), np.array([1.0, 1]), shape) == {}


def test_levels_differ_in_their_unit() -> None:
    grade = Factor("grade", "kg", 0, 100, "ordinal")
    found = agreement(np.array([0.0, 1, 10, 100]), np.array([1.0, 1, 10, 90]), grade)
    assert found["error"]["value"] == 2.75 and found["chance"] == pytest.approx(np.mean([5.5, 4.5, 4.5, 94.5]))
