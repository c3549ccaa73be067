"""A made set with an angle, classes and a size, and the same with hand-made columns."""

from pathlib import Path

import numpy as np

from hpcauxvae.data.hdf5 import write
from hpcauxvae.types import Factor

AZIMUTH = Factor("azimuth", "deg", 0, 360, "periodic")
SHAPE = Factor("shape", "", 1, 5, "categorical")
SIZE = Factor("size", "cm", 0, 2)
HAND_MADE = (
    *(Factor(name, "", -1, 1) for name in ("side", "front")),
    *(Factor(name, "", 0, 1) for name in ("is2", "is5")),
)
N = 120


def drawn(path: Path, n: int = N, seed: int = 0) -> Path:
    """A stroke that points to the azimuth, as long as the size and as thick as the shape (1, 2 or 5); 120 of them."""
    rng = np.random.default_rng(seed)
    azimuth, shape, size = rng.uniform(0, 360, n), rng.choice([1.0, 2, 5], n), rng.uniform(0.3, 2, n)
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    turn = np.radians(azimuth)[:, None, None]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    thick = 0.1 + 0.1 * shape[:, None, None]
    images = 50 * np.exp(-((across / thick) ** 2)) * (along > 0) * (along < size[:, None, None]) + 1
    angle = 2 * np.pi * azimuth / 360
    values = np.stack([azimuth, shape, size, np.cos(angle), np.sin(angle), shape == 2, shape == 5], 1)
    write(path, rng.poisson(images)[:, None].astype(np.float32), values, (AZIMUTH, SHAPE, SIZE, *HAND_MADE), {})
    return path
