"""The simulated galaxies of the paper: Table 2, the stamps, and the three cases of section 3."""

from hpcauxvae.types import Factor

FACTORS: tuple[Factor, ...] = (
    Factor("flux", "counts", 1e4, 1e5),
    Factor("radius", "arcsec", 0.1, 1.0),
    Factor("g1", "", -0.5, 0.5),
    Factor("g2", "", -0.5, 0.5),
    Factor("psf", "arcsec", 0.2, 0.4),
)
"""Table 2, in its order: total flux, scale radius of the disk, reduced shear, full width at half maximum of the PSF."""

STAMP_SIZE = 33
"""Pixels on a side."""

PIXEL_SCALE = 0.2
"""Arcsec a pixel."""

CASES: dict[int, tuple[str, ...]] = {
    1: ("radius", "g1", "g2", "flux", "psf"),
    2: ("radius", "g1", "g2"),
    3: ("flux", "psf"),
}
"""Auxiliary factors of each case. The ones that cases 1 and 2 share come first, so that they have the same latents."""
