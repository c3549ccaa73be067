"""Stamps of many galaxies, by the renderer of a scene."""

from collections.abc import Callable
from typing import TypeAlias

import galsim
import numpy as np

from hpcauxvae.simulate.noise import Streams, with_noise_rows
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import InputError

_AT_ONCE = 16  # stamps whose noise is drawn together: their pixels fit the cache

Painter: TypeAlias = Callable[[np.ndarray, int, np.ndarray, Callable[[], None]], None]
"""(values (B, F), number of the first in the design, stamps to fill (B, C, H, W), what to call now and then)"""


def painter_of(scene: Scene, seed: int, device: str = "cpu") -> Painter:
    """What draws the stamps of a scene, with noise where it has any; `device` is the batch renderer's.

    The painter raises InputError, naming the galaxy, where one cannot be drawn.
    """
    if scene.renderer == "galsim":
        return _with_noise(_by_galsim(scene), scene, seed, many=False)
    from hpcauxvae.simulate.batch import Renderer  # loads torch

    return _with_noise(Renderer(scene, device), scene, seed, many=True)


def _with_noise(expected: Painter, scene: Scene, seed: int, many: bool) -> Painter:
    streams = Streams(seed)

    def paint(values: np.ndarray, first: int, stamps: np.ndarray, between: Callable[[], None]) -> None:
        expected(values, first, stamps, between)
        if scene.noiseless:
            return
        if many:
            for low in range(0, len(stamps), _AT_ONCE):
                some = stamps[low : low + _AT_ONCE]
                numbers = range(first + low, first + low + len(some))
                some[:] = with_noise_rows(some, scene.sky, scene.read_noise, streams, numbers)
                between()
            return
        for row, stamp in enumerate(stamps):
            stamps[row] = scene.with_noise(stamp, seed, first + row)
            between()

    return paint


def _by_galsim(scene: Scene) -> Painter:
    def expected(values: np.ndarray, first: int, stamps: np.ndarray, between: Callable[[], None]) -> None:
        for row, one in enumerate(values):
            try:
                stamps[row] = scene.expected(one)
            except (galsim.GalSimError, RuntimeError, MemoryError, OSError) as error:
                named = ", ".join(f"{f.name} = {v:g}" for f, v in zip(scene.factors, one, strict=True))
                text = " ".join(str(error).split())
                raise InputError(f"galaxy {first + row} ({named}) cannot be drawn: {text}") from error
            between()

    return expected
