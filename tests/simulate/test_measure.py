"""Adaptive moments of Gaussians in closed form; noiseless stamps against GalSim's own drawing."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.data.galaxies import FACTORS
from hpcauxvae.simulate.stamps import adaptive_moments, noiseless_stamps
from hpcauxvae.types import InputError

NAMES = [factor.name for factor in FACTORS]


def gaussian(flux: float, sigma: float, g1: float, g2: float, size: int = 65) -> NDArray:
    """A round Gaussian of standard deviation sigma (pixels) under the area-preserving shear, sampled at pixel centres.

    The covariance of x -> S x with S = [[1 + g1, g2], [g2, 1 - g1]] / sqrt(1 - g^2) is sigma^2 S S.
    """
    shear = np.array([[1 + g1, g2], [g2, 1 - g1]]) / np.sqrt(1 - g1**2 - g2**2)
    precision = np.linalg.inv(sigma**2 * shear @ shear)
    y, x = np.mgrid[:size, :size] - size // 2
    distance = precision[0, 0] * x**2 + 2 * precision[0, 1] * x * y + precision[1, 1] * y**2
    return flux / (2 * np.pi * sigma**2) * np.exp(-distance / 2)


@pytest.mark.parametrize(
    ("flux", "sigma", "g1", "g2"), [(1.0, 3.0, 0.0, 0.0), (5e4, 4.0, 0.3, -0.1), (200.0, 2.5, 0, 0.4)]
)
def test_moments_of_a_sheared_gaussian(flux: float, sigma: float, g1: float, g2: float) -> None:
    found = adaptive_moments(gaussian(flux, sigma, g1, g2)[None])
    assert [column[0] for column in found] == pytest.approx([flux, sigma, g1, g2], rel=1e-4, abs=1e-5)


def test_a_stamp_without_a_galaxy_measures_nan() -> None:
    stamps = np.stack([np.zeros((33, 33)), gaussian(10, 2, 0.1, 0, 33), -gaussian(10, 2, 0, 0, 33)])
    found = np.array(adaptive_moments(stamps))
    assert np.isnan(found[:, [0, 2]]).all() and np.isfinite(found[:, 1]).all()


def test_noiseless_stamps_are_what_galsim_draws_whatever_the_order_of_the_columns() -> None:
    values = {"radius": [0.5, 0.3], "psf": [0.3, 0.25], "g2": [-0.2, 0.1], "flux": [3e4, 8e4], "g1": [0.1, 0.0]}
    stamps = noiseless_stamps({}, Path("x.h5"), list(values), np.array(list(values.values())).T)
    for row in range(2):
        p = {name: column[row] for name, column in values.items()}
        galaxy = galsim.Exponential(flux=p["flux"], scale_radius=p["radius"]).shear(g1=p["g1"], g2=p["g2"])
        seen = galsim.Convolve(galaxy, galsim.Gaussian(fwhm=p["psf"]))
        drawn = seen.drawImage(nx=33, ny=33, scale=0.2).array
        assert stamps[row, 0] == pytest.approx(drawn, abs=4e-3 * float(drawn.max()))


def test_factors_of_another_scene_are_refused() -> None:
    with pytest.raises(InputError, match="factors radius, g1; allowed: those of its scene, flux, radius, g1, g2, psf"):
        noiseless_stamps({}, Path("x.h5"), ["radius", "g1"], np.ones((1, 2)))
    with pytest.raises(InputError, match=r"x\.h5: \|g\| = 1\.1"):
        noiseless_stamps({}, Path("x.h5"), NAMES, np.array([[1e4, 0.5, 1.1, 0, 0.3]]))
