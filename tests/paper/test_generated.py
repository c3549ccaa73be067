"""Generated images against GalSim's: lines, errors and responses in closed form."""

from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.data.galaxies import FACTORS
from hpcauxvae.paper import generated
from hpcauxvae.simulate.stamps import noiseless_stamps
from hpcauxvae.types import InputError

NAMES = [factor.name for factor in FACTORS]


def test_a_line_is_scipys() -> None:
    from scipy.stats import linregress

    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, 200)
    y = 0.7 * x + 1 + rng.normal(0, 0.3, 200)
    expected = linregress(x, y)
    found = generated.line(np.append(x, [np.nan, 1]), np.append(y, [1, np.nan]))
    assert found["slope"] == pytest.approx(expected.slope)
    assert found["slope_error"] == pytest.approx(1.959964 * expected.stderr)
    assert found["offset"] == pytest.approx((y - x).mean())
    assert found["scatter"] == pytest.approx(np.std(y - expected.slope * x - expected.intercept, ddof=2))
    assert found["n"] == 200
    assert np.isnan(generated.line(np.ones(5), x[:5])["slope"])


def test_the_grid_has_the_middles_of_equal_parts() -> None:
    u = generated.grid(FACTORS[:3], 2)
    assert len(u) == 8 and u[0].tolist() == pytest.approx([3.25e4, 0.325, -0.25])
    assert u[:, 2].tolist() == pytest.approx([-0.25, 0.25] * 4)


def test_pixel_errors_of_a_scaled_image_and_of_one_wrong_pixel() -> None:
    truth = np.ones((2, 1, 3, 3))
    wrong = truth.copy()
    wrong[0] *= 1.1
    wrong[1, 0, 1, 1] += 0.6
    errors = generated.pixel_errors(wrong, truth)
    assert errors["relative"] == pytest.approx([0.1, 0.6 / 3])
    assert errors["peak"] == pytest.approx([0.1, 0.6])
    assert errors["flux"] == pytest.approx([0.1, 0.6 / 9])
    summary = generated.error_summary({"flux": np.array([-3.0, 1.0, 1.0])})["flux"]
    assert summary["mean"]["value"] == pytest.approx(-1 / 3) and summary["median"] == 1


@pytest.fixture(scope="module")
def grid() -> np.ndarray:
    return generated.grid(FACTORS, 2)


def test_images_that_are_too_bright_and_too_little_sheared_are_found_out(grid: np.ndarray) -> None:
    """In place of a model: GalSim with 1.2 times the flux and half the shear."""
    truth = noiseless_stamps({}, Path("x"), NAMES, grid)
    other = grid.copy()
    other[:, 0] *= 1.2
    other[:, 2:4] /= 2
    made = noiseless_stamps({}, Path("x"), NAMES, other)
    of_truth, of_made = generated.moments_of(truth), generated.moments_of(made)
    report = generated.compare(grid, NAMES, of_truth, of_made)
    errors = generated.pixel_errors(made, truth)
    assert report["lines"]["flux"]["slope"] == pytest.approx(1.2, rel=0.02)
    assert report["lines"]["g1"]["slope"] == pytest.approx(0.5, abs=0.05)
    assert report["responses"]["g2"]["ratio"] == pytest.approx(0.5, abs=0.05)
    assert report["responses"]["flux"]["truth"] * 4.5e4 == pytest.approx(np.log(77500 / 32500))
    assert report["responses"]["flux"]["ratio"] == pytest.approx(1, rel=1e-3)
    assert errors["flux"].mean() == pytest.approx(0.2, abs=0.03)  # the sheared lose more at the edge


def test_the_truth_against_itself_has_no_error(grid: np.ndarray) -> None:
    truth = noiseless_stamps({}, Path("x"), NAMES, grid)
    moments = generated.moments_of(truth)
    report = generated.compare(grid, NAMES, moments, moments)
    for fit in report["lines"].values():
        assert fit["slope"] == pytest.approx(1) and fit["scatter"] == pytest.approx(0, abs=1e-6) and fit["n"] == 32
    pixels = generated.error_summary(generated.pixel_errors(truth, truth))
    assert pixels["relative"]["percentile_95"] == 0
    text = generated.table({"run": "case1", "n": 32, "pixels": pixels} | report)
    assert "| psf | ln size |" in text and "| size [pixels] | 1.0000 ± 0.0000 |" in text


def test_without_galsim_one_line_says_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "hpcauxvae.simulate.stamps", None)
    with pytest.raises(InputError, match=r"galsim, which is not installed; `pip install 'hpcauxvae\[simulate\]'`"):
        generated.moments_of(np.ones((2, 1, 9, 9)))
