"""Arrays of a simulated set with the noise of each pixel: python results/real/with_noise.py SET.h5 ARRAYS.npz"""

import sys
from typing import Any

import numpy as np

from hpcauxvae import open_set

SKY = 200.0
"""Counts a pixel, whose mean is taken off and whose noise stays."""


def main(path: str, to: str) -> None:
    """Writes `image`, `noise` and each factor by its name."""
    data = open_set(path)
    images = np.asarray(data.images[:])
    noise = np.sqrt(np.maximum(images, 0) + SKY).astype(np.float32)
    columns: dict[str, Any] = {factor.name: data.values[:, number] for number, factor in enumerate(data.factors)}
    np.savez(to, image=images, noise=noise, **columns)


if __name__ == "__main__":
    main(*sys.argv[1:])
