"""Stamps of many galaxies, by the renderer of a scene."""

from collections.abc import Callable
from typing import TypeAlias

import galsim
import numpy as np

from hpcauxvae.simulate.noise import add_noise_by_torch
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import InputError

Painter: TypeAlias = Callable[[np.ndarray, int, np.ndarray, Callable[[], None]], None]
"""(values (B, F), number of the first in the design, stamps to fill (B, C, H, W), what to call now and then)"""


def painter_of(scene: Scene, seed: int, device: str = "cpu") -> Painter:
    """What draws the stamps of a scene, with noise where it has any; `device` is the batch renderer's.

    The painter raises InputError, naming the galaxy, where one cannot be drawn.
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
