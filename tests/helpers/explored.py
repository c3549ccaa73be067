"""Small runs of every kind that the explorer knows: of guides, and of pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers.trainings import alone, config
from hpcauxvae.data.hdf5 import write
from hpcauxvae.types import Factor

GUIDES = (
    Factor("azimuth", "deg", -180, 180, "periodic"),
    Factor("kind of star", "", 1, 5, "categorical"),
    Factor("mass", "kg", 1, 1000, "continuous", "log10"),
    Factor("step", "", 1, 8, "ordinal"),
    Factor("cos_tilt", "", -1, 1),
    Factor("sin_tilt", "", -1, 1),
)
SIZE = (Factor("size", "cm", 0, 2),)
MARKUP = (Factor("</script><b id=evil>it's \"& `q` \\", "<i>cm</i>", 0, 2),)
_N = 160


def _all_guides(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    azimuth, kind, mass = rng.uniform(-180, 180, _N), rng.choice([1.0, 2, 5], _N), 10 ** rng.uniform(0, 3, _N)
    step, tilt = rng.choice([1.0, 2, 4, 8], _N), rng.uniform(0, 2 * np.pi, _N)
    values = np.stack([azimuth, kind, mass, step, np.cos(tilt), np.sin(tilt)], 1)
    y, x = np.mgrid[-1:1:12j, -1:1:12j]
    turn = np.radians(azimuth)[:, None, None]
    width = 0.1 + 0.05 * kind[:, None, None]
    peak = (20 * step + np.log10(mass) + 9 * np.cos(tilt))[:, None, None]
    images = peak * np.exp(-(((x - np.cos(turn) / 2) / width) ** 2 + ((y - np.sin(turn) / 2) / width) ** 2))
    return rng.poisson(images)[:, None].astype(np.float32), values


def _coloured(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size, y, x = rng.uniform(0, 2, _N), *np.mgrid[-1:1:12j, -1:1:12j]
    images = 200 * np.exp(-(x**2 + y**2) / (0.1 + size[:, None, None, None])) + np.array([0, 20, 50])[:, None, None]
    return images.astype(np.uint8), size[:, None]


def _bands(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of a field with two signs, land in a corner."""
    size, y, x = rng.uniform(0, 2, _N), *np.mgrid[-1:1:10j, -1:1:12j]
    images = np.sin(3 * x + size[:, None, None, None] + np.arange(5)[:, None, None]) * (1 + y**2)
    images = (images + 0.1 * rng.normal(size=images.shape)).astype(np.float32)
    images[:, :, :3, :4] = np.nan
    return images, size[:, None]


def _spectra(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size, x = rng.uniform(0, 2, _N), np.linspace(-1, 1, 40)
    line = np.exp(-((x / (0.1 + 0.2 * size[:, None])) ** 2))
    images = np.stack([line, 0.5 + line / 3], 1) + 0.02 * rng.normal(size=(_N, 2, 40))
    return images[:, :, None].astype(np.float32), size[:, None]


_KINDS: dict[str, tuple[Callable, tuple[Factor, ...], dict, dict]] = {
    "guides": (_all_guides, GUIDES, {}, {"latents": 12}),
    "colours": (_coloured, SIZE, {}, {"objective": "bernoulli"}),
    "bands": (_bands, SIZE, {"missing_pixels": "nan"}, {"objective": "gaussian"}),
    "markup": (_coloured, MARKUP, {}, {}),
    "lines": (_spectra, SIZE, {}, {"objective": "gaussian"}),
}
KINDS = ("guides", "colours", "bands", "lines")


def explored(kind: str, folder: Path) -> None:
    """Trains such a run: FOLDER/run on FOLDER/data.h5."""
    make, factors, more, fields = _KINDS[kind]
    images, values = make(np.random.default_rng(0))
    write(folder / "data.h5", images, values, factors, {"image_origin": "lower"}, **more)
    names = ",".join(factor.name for factor in factors)
    assert alone(config(folder / "data.h5", folder / "run", aux=names, network="mlp", **fields)) == 0
