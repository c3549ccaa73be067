"""From the factors of a galaxy to its stamp: profile, PSF, bands and pixels.

N galaxies, C bands, H = W stamp size, F factors.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import galsim
import numpy as np

from hpcauxvae.data.galaxies import PIXEL_SCALE, STAMP_SIZE
from hpcauxvae.simulate.profiles import ACCURACY, PROFILES, PSFS, catalogue_size
from hpcauxvae.types import Factor, InputError

RENDERERS = ("galsim", "batch", "batch-fine")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything about a stamp but the galaxy's factors."""

    profile: str = "exponential"
    psf: str = "gaussian"
    bands: tuple[str, ...] = ()
    """Names of the channels, each with a flux of its own; none: a single channel."""
    stamp_size: int = STAMP_SIZE
    """Pixels on a side."""
    pixel_scale: float = PIXEL_SCALE
    """Arcsec a pixel."""
    noiseless: bool = False
    """Expected counts above the sky in place of noisy ones."""
    sky: float = 0.0
    """Counts a pixel; their noise stays, their mean is taken off."""
    read_noise: float = 0.0
    """Standard deviation of Gaussian noise, counts a pixel."""
    renderer: str = "galsim"
    catalogue: Path | None = None
    """Of HST galaxies, for the profiles that draw them."""

    def __post_init__(self) -> None:
        """Raises InputError, naming the option, where a value is not allowed."""
        for name, known in (("profile", PROFILES), ("psf", PSFS), ("renderer", RENDERERS)):
            if getattr(self, name) not in known:
                raise InputError(f"--{name} {getattr(self, name)}: allowed: {', '.join(known)}")
        rules = (
            ("stamp-size", self.stamp_size, 8 <= self.stamp_size <= 1024, "8 to 1024 pixels"),
            ("pixel-scale", self.pixel_scale, 0 < self.pixel_scale < np.inf, "above 0 arcsec"),
            ("sky", self.sky, 0 <= self.sky < np.inf, "0 counts or more"),
            ("read-noise", self.read_noise, 0 <= self.read_noise < np.inf, "0 counts or more"),
        )
        for name, value, good, allowed in rules:
            if not good:
                raise InputError(f"--{name} {value}: allowed is {allowed}")
        if len(set(self.bands)) < len(self.bands) or not all(self.bands):
            raise InputError(f"--bands {','.join(self.bands)}: each needs a name of its own")
        if self._kind.catalogue and self.catalogue is None:
            raise InputError(f"--profile {self.profile}: needs --catalogue, a COSMOS catalogue of GalSim")
        if self.catalogue is not None and not self._kind.catalogue:
            raise InputError(f"--catalogue {self.catalogue}: --profile {self.profile} draws from no catalogue")
        if self.renderer != "galsim" and self._kind.catalogue:
            raise InputError(f"--renderer {self.renderer}: draws no {self.profile} galaxies; allowed: galsim")

    @property
    def _kind(self) -> Any:
        return PROFILES[self.profile]

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """The factors, in the order of a file's columns, with the ranges of a design."""
        flux, *rest = self._kind.factors
        fluxes = [flux._replace(name=f"flux_{band}") for band in self.bands] or [flux]
        if self.catalogue is not None:
            last = catalogue_size(self.profile, self.catalogue) - 1
            rest.append(Factor("galaxy", "", 0, last, "categorical"))
        return (*fluxes, *rest)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        return max(1, len(self.bands)), self.stamp_size, self.stamp_size

    def on_grid(self, values: np.ndarray, factors: tuple[Factor, ...]) -> np.ndarray:
        """(N, F) of a design within the ranges of `factors`, in place, with those that come in steps put on them."""
        for column, factor in enumerate(factors):
            if step := self._kind.steps.get(factor.name):
                count = round((factor.high - factor.low) / step)
                chosen = np.minimum(np.floor(factor.scale(values[:, column]) * (count + 1)), count)  # equally often
                values[:, column] = np.minimum(np.round(factor.low + chosen * step, 9), factor.high)
        return values

    def check(self, values: np.ndarray, source: str) -> None:
        """Raises InputError, naming `source` and the first galaxy, where values (N, F) cannot be drawn."""
        named = dict(zip((factor.name for factor in self.factors), values.T, strict=True))
        for name, column in named.items():
            if name.startswith("flux") or name in ("radius", "psf"):
                _refuse(source, name, column, column > 0, "above 0")
        g = np.hypot(named["g1"], named["g2"])
        _refuse(source, "|g|", g, g < 1, "below 1")
        if "index" in named:
            _refuse(source, "index", named["index"], (named["index"] >= 0.3) & (named["index"] <= 6.2), "0.3 to 6.2")
        if "bulge_fraction" in named:
            share = named["bulge_fraction"]
            _refuse(source, "bulge_fraction", share, (share >= 0) & (share <= 1), "0 to 1")
        if "galaxy" in named:
            row, last = named["galaxy"], self.factors[-1].high
            good = (row == np.floor(row)) & (row >= 0) & (row <= last)
            _refuse(source, "galaxy", row, good, f"whole numbers, 0 to {last:.0f}")

    def expected(self, row: np.ndarray) -> np.ndarray:
        """Expected counts of one galaxy above the sky, by GalSim: (C, H, W) float32; row (F,).

        Rounding leaves some pixels slightly below zero (some 1e-6 of the peak).
        """
        channels = self.shape[0]
        p = dict(zip((factor.name for factor in self.factors[channels:]), map(float, row[channels:]), strict=True))
        fluxes = [float(flux) for flux in row[:channels]]
        galaxy = self._kind.build(p | {"flux": fluxes[0]}, self.catalogue).shear(g1=p["g1"], g2=p["g2"])
        seen = galsim.Convolve(galaxy, PSFS[self.psf][0](p["psf"]), gsparams=ACCURACY)
        first = self._draw(seen)
        return np.stack([first, *(first * np.float32(flux / fluxes[0]) for flux in fluxes[1:])])

    def _draw(self, seen: Any) -> np.ndarray:
        """(H, W) float32: what GSObject.drawImage gives, to the last bit, without its questions (1.2 times faster)."""
        n = self.stamp_size
        in_pixels = self._wcs.profileToImage(seen)
        if n % 2 == 0:
            in_pixels = in_pixels.shift(-0.5, -0.5)  # the centre of an even stamp lies between pixels
        stamp = galsim.ImageF(galsim.BoundsI(-(n // 2), n - 1 - n // 2, -(n // 2), n - 1 - n // 2), scale=1.0)
        galsim.Convolve(in_pixels, _PIXEL, gsparams=ACCURACY).drawFFT(stamp)
        return stamp.array

    @cached_property
    def _wcs(self) -> Any:
        return galsim.PixelScale(self.pixel_scale)

    @property
    def description(self) -> dict[str, str | float]:
        """What a stamp is, for the provenance of a file; `scene` is for `Scene.of`."""
        noisy = f"Poisson, sky level {self.sky:g}" + (f", read noise {self.read_noise:g}" if self.read_noise else "")
        stored = {name: value for name, value in asdict(self).items() if value != getattr(Scene, name)}
        return {
            "scene": json.dumps(stored, default=str),
            "noise": "none" if self.noiseless else noisy,
            "profile": f"{self._kind.text}, reduced shear (g1, g2)",
            "psf_profile": PSFS[self.psf][1],
            "bands": ",".join(self.bands),
            "pixel_scale": self.pixel_scale,
            "image_unit": "counts",
            "image_origin": "lower",
            "renderer": self.renderer,
            "gsparams": repr(ACCURACY),
            "galsim": galsim.__version__,
        }

    @classmethod
    def of(cls, provenance: dict[str, Any], source: Path) -> "Scene":
        """The scene of a file, from what it records. Raises InputError where that cannot be used."""
        try:
            stored = json.loads(provenance.get("scene", "{}"))
            stored["bands"] = tuple(stored.get("bands", ()))
            stored["catalogue"] = Path(stored["catalogue"]) if stored.get("catalogue") else None
            return cls(**stored)
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: attribute scene cannot be used: {error}") from error


_PIXEL = galsim.Pixel(1.0, gsparams=ACCURACY)


def _refuse(source: str, name: str, values: np.ndarray, good: np.ndarray, allowed: str) -> None:
    if not good.all():  # NaN is not good either
        first = int(np.argmin(good))
        raise InputError(f"{source}: {name} = {values[first]} of sample {first} cannot be drawn; allowed: {allowed}")
