"""What a galaxy looks like before the PSF: a function and a line in PROFILES for each kind.

A function gets the galaxy's factors by name, in the units of its `Profile.factors`, and the catalogue's path, and
returns a GalSim object of that flux, not yet sheared. Every profile is sheared by (g1, g2), then meets PSF and pixel.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import galsim
import numpy as np

from hpcauxvae.data.galaxies import FACTORS
from hpcauxvae.types import Factor, InputError

ACCURACY = galsim.GSParams(maxk_threshold=1e-4, minimum_fft_size=64)
"""The largest pixel error over 4,000 galaxies of Table 2, corners included, is 8e-5 of the peak and 0.006 sigma.

GalSim's own maxk_threshold, 1e-3, gives 3e-3 and 0.06. The smaller FFT costs no accuracy.
"""

BULGE_SIZE = 0.6
"""Half-light radius of a bulge-disk's bulge, in scale radii of its disk."""

FLUX, RADIUS, G1, G2, PSF = FACTORS
_SMALL_SHEAR = (Factor("g1", "", -0.3, 0.3), Factor("g2", "", -0.3, 0.3))


class Profile(NamedTuple):
    """A kind of galaxy."""

    build: Callable[[Mapping[str, float], Path | None], Any]
    """(factors by name, catalogue) -> galsim.GSObject"""
    factors: tuple[Factor, ...]
    """Its factors with the ranges of a design: flux, those of its own, g1, g2, psf."""
    text: str
    """For the provenance of a file."""
    steps: Mapping[str, float] = {}
    """Factors that a design draws on a grid of this spacing only; the file holds the value drawn."""
    catalogue: bool = False
    """Whether it draws from a catalogue; then `galaxy`, its row there, is a factor."""


def exponential(p: Mapping[str, float], catalogue: Path | None) -> Any:
    """The paper's: half of the light lies within 1.678 scale radii."""
    return galsim.Exponential(flux=p["flux"], scale_radius=p["radius"], gsparams=ACCURACY)


def sersic(p: Mapping[str, float], catalogue: Path | None) -> Any:
    """GalSim tabulates each index once (16 ms), so a design draws it in steps."""
    return galsim.Sersic(p["index"], flux=p["flux"], half_light_radius=p["radius"], gsparams=ACCURACY)


def bulge_disk(p: Mapping[str, float], catalogue: Path | None) -> Any:
    """A de Vaucouleurs bulge (Sersic index 4) in an exponential disk, both sheared alike."""
    share = p["bulge_fraction"]
    disk = galsim.Exponential(flux=p["flux"] * (1 - share), scale_radius=p["radius"], gsparams=ACCURACY)
    bulge = galsim.DeVaucouleurs(flux=p["flux"] * share, half_light_radius=BULGE_SIZE * p["radius"], gsparams=ACCURACY)
    return galsim.Sum([disk, bulge], gsparams=ACCURACY)


def real(p: Mapping[str, float], catalogue: Path | None) -> Any:
    """An HST image without its PSF, dilated until its half-light radius is `radius`."""
    stored, radii = _real_catalogue(catalogue)
    row = int(p["galaxy"])
    image = galsim.RealGalaxy(stored, index=row, flux=p["flux"], gsparams=ACCURACY)
    return image.dilate(p["radius"] / radii[row])


def parametric_cosmos(p: Mapping[str, float], catalogue: Path | None) -> Any:
    """The catalogue's own fit to an HST galaxy (Sersic, or bulge and disk), dilated likewise."""
    stored, radii = _parametric_catalogue(catalogue)
    row = int(p["galaxy"])
    fit = stored.makeGalaxy(row, gal_type="parametric", gsparams=ACCURACY)
    return fit.withFlux(p["flux"]).dilate(p["radius"] / radii[row])


@lru_cache(maxsize=1)
def _real_catalogue(path: Path) -> tuple[Any, np.ndarray]:
    """The catalogue and the half-light radii of its galaxies, (n,) in arcsec."""
    try:
        stored = galsim.RealGalaxyCatalog(path.name, dir=str(path.parent))
        fits = galsim.Catalog(f"{path.stem}_fits.fits", dir=str(path.parent), hdu=1)
        radii = np.asarray(fits.data["flux_radius"], float) * stored.pixel_scale
    except (OSError, KeyError, galsim.GalSimError) as error:
        raise InputError(_unreadable(path, error)) from error
    return stored, _positive(radii, path)


@lru_cache(maxsize=1)
def _parametric_catalogue(path: Path) -> tuple[Any, np.ndarray]:
    """The catalogue and the half-light radii of its Sersic fits, (n,) in arcsec."""
    try:
        stored = galsim.COSMOSCatalog(path.name, dir=str(path.parent), use_real=False, exclusion_level="none")
        radii = np.array([stored.getParametricRecord(row)["hlr"][0] for row in range(len(stored))], float)
    except (OSError, KeyError, ValueError, galsim.GalSimError) as error:
        raise InputError(_unreadable(path, error)) from error
    return stored, _positive(radii, path)


def _unreadable(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"--catalogue {path}: cannot be read as a GalSim COSMOS catalogue: {type(error).__name__}: {text}"


def _positive(radii: np.ndarray, path: Path) -> np.ndarray:
    if not (radii > 0).all():
        row = int(np.argmin(radii > 0))
        raise InputError(f"{path}: half-light radius {radii[row]} of galaxy {row}; allowed: above 0")
    return radii


def catalogue_size(profile: str, path: Path) -> int:
    """How many galaxies a catalogue holds. Raises InputError where it cannot be read."""
    stored = _real_catalogue if profile == "real" else _parametric_catalogue
    return len(stored(path)[1])


PROFILES: dict[str, Profile] = {
    "exponential": Profile(exponential, FACTORS, "galsim.Exponential, scale_radius = radius"),
    "sersic": Profile(
        sersic,
        (FLUX, RADIUS, Factor("index", "", 0.5, 4.0), G1, G2, PSF),
        "galsim.Sersic, n = index, half_light_radius = radius",
        {"index": 0.05},
    ),
    "bulge-disk": Profile(
        bulge_disk,
        (FLUX, RADIUS, Factor("bulge_fraction", "", 0.0, 1.0), G1, G2, PSF),
        "galsim.Exponential, scale_radius = radius, and galsim.DeVaucouleurs, "
        f"half_light_radius = {BULGE_SIZE} radius, which has the fraction bulge_fraction of the flux",
    ),
    "real": Profile(
        real,
        (FLUX, Factor("radius", "arcsec", 0.15, 0.45), *_SMALL_SHEAR, Factor("psf", "arcsec", 0.6, 0.9)),
        "galsim.RealGalaxy number galaxy, dilated to the half-light radius radius",
        {"galaxy": 1.0},
        catalogue=True,
    ),
    "parametric-cosmos": Profile(
        parametric_cosmos,
        (FLUX, Factor("radius", "arcsec", 0.1, 1.0), G1, G2, PSF),
        "galsim.COSMOSCatalog fit of galaxy number galaxy, dilated to the half-light radius radius",
        {"galaxy": 1.0},
        catalogue=True,
    ),
}
"""The ranges of `real` keep HST's own PSF, dilated, well inside the new one; outside, its noise is blown up."""


def gaussian(fwhm: float) -> Any:
    """The paper's."""
    return galsim.Gaussian(fwhm=fwhm, gsparams=ACCURACY)


MOFFAT_BETA = 3.5


def moffat(fwhm: float) -> Any:
    """Wings of a telescope in good seeing."""
    return galsim.Moffat(MOFFAT_BETA, fwhm=fwhm, gsparams=ACCURACY)


def kolmogorov(fwhm: float) -> Any:
    """Long exposure through the atmosphere."""
    return galsim.Kolmogorov(fwhm=fwhm, gsparams=ACCURACY)


PSFS: dict[str, tuple[Callable[[float], Any], str]] = {
    "gaussian": (gaussian, "galsim.Gaussian, fwhm = psf"),
    "moffat": (moffat, f"galsim.Moffat, beta = {MOFFAT_BETA}, fwhm = psf"),
    "kolmogorov": (kolmogorov, "galsim.Kolmogorov, fwhm = psf"),
}
"""Full width at half maximum in arcsec -> galsim.GSObject of flux 1, and what it is for the provenance."""
