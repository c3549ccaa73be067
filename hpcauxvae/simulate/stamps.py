"""Stamps of many galaxies: drawn by the renderer of a scene, with noise, and measured.

Noise comes from a stream that is the galaxy's own: Poisson around stamp and sky, less the sky; Gaussian read noise.
B or N stamps, C bands, F factors, H = W stamp size.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import galsim
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import InputError

_NOISE = 1  # (1, index) is a galaxy's noise among the streams of a seed; (0,) is the design's
_STREAMS = 2**32  # seeds that torch's generator tells apart

Array = NDArray[np.float64]
Painter: TypeAlias = Callable[[np.ndarray, int, np.ndarray, Callable[[], None]], None]
"""(values (B, F), number of the first in the design, stamps to fill (B, C, H, W), what to call now and then)"""


def painter_of(scene: Scene, seed: int, device: str = "cpu") -> Painter:
    """What draws the stamps of a scene, with noise where it has any; `device` is the batch renderer's.

    The painter raises InputError, naming the galaxy that cannot be drawn.
    """
    if scene.renderer == "galsim":
        return _with_noise(_by_galsim(scene), scene, seed, by_torch=False)
    from hpcauxvae.simulate.batch import Renderer  # loads torch

    return _with_noise(Renderer(scene, device), scene, seed, by_torch=True)


def _with_noise(expected: Painter, scene: Scene, seed: int, by_torch: bool) -> Painter:
    def paint(values: np.ndarray, first: int, stamps: np.ndarray, between: Callable[[], None]) -> None:
        expected(values, first, stamps, between)
        if scene.noiseless:
            return
        if by_torch:
            add_noise_by_torch(stamps, scene.sky, scene.read_noise, seed, range(first, first + len(stamps)))
            return
        for row, stamp in enumerate(stamps):
            stamps[row] = with_noise(stamp, scene.sky, scene.read_noise, seed, first + row)
            between()

    return paint


def _by_galsim(scene: Scene) -> Painter:
    def expected(values: np.ndarray, first: int, stamps: np.ndarray, between: Callable[[], None]) -> None:
        for row, galaxy in enumerate(values):
            try:
                stamps[row] = scene.expected(galaxy)
            except (galsim.GalSimError, RuntimeError, MemoryError, OSError) as error:
                named = ", ".join(f"{f.name} = {v:g}" for f, v in zip(scene.factors, galaxy, strict=True))
                text = " ".join(str(error).split())
                raise InputError(f"galaxy {first + row} ({named}) cannot be drawn: {text}") from error
            between()

    return expected


def with_noise(stamp: np.ndarray, sky: float, read_noise: float, seed: int, index: int) -> np.ndarray:
    """Counts around expected counts (C, H, W) above the sky, float32; pixels below zero count as zero.

    From numpy's PCG64(SeedSequence(seed, spawn_key=(1, index))).
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_NOISE, index))))
    counts = stream.poisson(np.maximum(stamp + np.float32(sky), 0)).astype(np.float32)
    if sky:
        counts -= np.float32(sky)
    if read_noise:
        counts += stream.normal(0, read_noise, stamp.shape).astype(np.float32)
    return counts


def add_noise_by_torch(stamps: np.ndarray, sky: float, read_noise: float, seed: int, numbers: Sequence[int]) -> None:
    """The same distribution from torch's generator, in place and in two thirds of the time: stamps (B, C, H, W).

    Galaxy i has the stream of the Mersenne twister (CPU) seeded with i plus a hash of `seed`, modulo 2**32.
    """
    import torch

    base = int(np.random.SeedSequence(seed, spawn_key=(_NOISE,)).generate_state(1)[0])
    stream = torch.Generator()
    for stamp, number in zip(torch.from_numpy(stamps), numbers, strict=True):
        stream.manual_seed((base + number) % _STREAMS)
        stamp.copy_(torch.poisson((stamp + sky).clamp_(min=0), stream))
        stamp -= sky
        if read_noise:
            stamp += read_noise * torch.randn(stamp.shape, generator=stream)


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
