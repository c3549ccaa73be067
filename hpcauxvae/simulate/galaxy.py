"""From the parameters of a galaxy to its stamp, as in Table 2 and section B.1 of the paper.

N galaxies; a galaxy's parameters are five float64 numbers in the order and units of `hpcauxvae.data.galaxies.FACTORS`.
"""

import galsim
import numpy as np
from scipy.stats import qmc

from hpcauxvae.data.galaxies import FACTORS, PIXEL_SCALE, STAMP_SIZE
from hpcauxvae.types import InputError

ACCURACY = galsim.GSParams(maxk_threshold=1e-4, minimum_fft_size=64)
"""The largest pixel error over Table 2, corners included, is 3e-5 of the peak and 0.003 of the Poisson noise.

GalSim's own maxk_threshold, 1e-3, gives 2e-3 of the peak and 0.05 of the noise. The smaller FFT costs no accuracy.
"""

DESCRIPTION: dict[str, str | float] = {
    "galsim": galsim.__version__,
    "profile": "galsim.Exponential, scale_radius = radius, reduced shear (g1, g2)",
    "psf_profile": "galsim.Gaussian, fwhm = psf",
    "pixel_scale": PIXEL_SCALE,
    "image_unit": "counts",
    "image_origin": "lower",
    "gsparams": repr(ACCURACY),
}
"""What a stamp is, for the provenance of a file."""

# Streams of one seed: (0,) the design, (1, index) the noise of one galaxy.
_DESIGN, _NOISE = 0, 1


def latin_hypercube(n: int, seed: int) -> np.ndarray:
    """(n, 5): a Latin hypercube over Table 2, by scipy."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_DESIGN,))))
    unit = qmc.LatinHypercube(len(FACTORS), rng=generator).random(n)
    return np.stack([f.unscale(column) for f, column in zip(FACTORS, unit.T, strict=True)], axis=1)


def check(parameters: np.ndarray, source: str) -> None:
    """Raises InputError, naming `source` and the first galaxy, where parameters (N, 5) cannot be drawn."""
    flux, radius, g1, g2, psf = parameters.T
    rules = (
        ("flux", flux, flux > 0, "above 0"),
        ("radius", radius, radius > 0, "above 0"),
        ("|g|", np.hypot(g1, g2), np.hypot(g1, g2) < 1, "below 1"),
        ("psf", psf, psf > 0, "above 0"),
    )
    for name, values, good, allowed in rules:
        if not good.all():  # NaN is not good either
            first = int(np.argmin(good))
            raise InputError(
                f"{source}: {name} = {values[first]} of sample {first} cannot be drawn; allowed: {allowed}"
            )


def noiseless(parameters: np.ndarray) -> np.ndarray:
    """Expected counts of one galaxy, (33, 33) float32; parameters (5,).

    An exponential disk of this flux (counts) and scale radius (arcsec; half of the light lies within 1.678 of them),
    sheared by the reduced shear (g1, g2), convolved with a Gaussian PSF and the pixel. Rounding leaves some pixels
    slightly below zero (some 1e-6 of the peak).
    """
    flux, radius, g1, g2, psf = (float(value) for value in parameters)
    disk = galsim.Exponential(flux=flux, scale_radius=radius, gsparams=ACCURACY).shear(g1=g1, g2=g2)
    seen = galsim.Convolve(disk, galsim.Gaussian(fwhm=psf, gsparams=ACCURACY), gsparams=ACCURACY)
    stamp = galsim.ImageF(STAMP_SIZE, STAMP_SIZE, scale=PIXEL_SCALE)
    return seen.drawImage(image=stamp).array


def with_noise(stamp: np.ndarray, seed: int, index: int) -> np.ndarray:
    """Poisson counts around a noiseless stamp without sky, float32, from the stream that is this galaxy's own.

    The stream is numpy's PCG64(SeedSequence(seed, spawn_key=(1, index))); pixels below zero count as zero.
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_NOISE, index))))
    return stream.poisson(np.maximum(stamp, 0)).astype(np.float32)
