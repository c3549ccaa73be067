"""Flux, size and shear of stamps by GalSim's adaptive moments, and the noiseless stamps to hold others against.

N stamps, F factors, H = W stamp size.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import galsim
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.simulate.painter import painter_of
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import InputError

Array = NDArray[np.float64]


class Moments(NamedTuple):
    """What each of N stamps measures; NaN where the fit did not converge, or to light below 0."""

    flux: Array
    """Of the best elliptical Gaussian, in the stamp's unit: a share of the galaxy's own that its profile decides."""
    size: Array
    """Its (det M)^(1/4), pixels: the standard deviation of a round Gaussian."""
    g1: Array
    """Its reduced shear along the axes."""
    g2: Array
    """Its reduced shear along the diagonals."""


def adaptive_moments(stamps_NHW: NDArray) -> Moments:
    """Moments of the elliptical Gaussian that fits each stamp best under itself as weight (Hirata & Seljak 2003).

    By galsim.hsm.FindAdaptiveMom; the first row of a stamp has the smallest y. Nothing is taken off for PSF or pixel.
    """
    found = np.full((4, len(stamps_NHW)), np.nan)
    for row, stamp in enumerate(stamps_NHW):
        image = galsim.ImageD(np.ascontiguousarray(stamp, np.float64))
        shape = galsim.hsm.FindAdaptiveMom(image, strict=False)
        if shape.moments_status == 0 and shape.moments_amp > 0:
            e = shape.observed_shape
            found[:, row] = shape.moments_amp, shape.moments_sigma, e.g1, e.g2
    return Moments(*found)


def noiseless_stamps(
    provenance: dict[str, Any], source: Path, names: Sequence[str], values_NF: NDArray
) -> NDArray[np.float32]:
    """Expected counts (N, C, H, W) of galaxies with these factors, physical units, in the scene of a simulated file.

    names: of the F columns, in any order. Raises InputError where they are not the factors of the scene, or a galaxy
    cannot be drawn.
    """
    scene = dataclasses.replace(Scene.of(provenance, source), noiseless=True)
    known = [factor.name for factor in scene.factors]
    if sorted(names) != sorted(known):
        raise InputError(f"{source}: factors {', '.join(names)}; allowed: those of its scene, {', '.join(known)}")
    ordered = np.asarray(values_NF, np.float64)[:, [list(names).index(name) for name in known]]
    scene.check(ordered, str(source))
    stamps = np.empty((len(ordered), *scene.shape), np.float32)
    painter_of(scene, seed=0)(ordered, 0, stamps, lambda: None)
    return stamps
