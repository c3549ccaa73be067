"""The data of the searches."""

from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.data.hdf5 import write
from hpcauxvae.types import Factor

FACTORS = (Factor("radius", "arcsec", 0.1, 1.0), Factor("flux", "counts", 0.0, 100.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 Poisson blobs of 8 x 8 pixels, whose width and brightness are the factors."""
    rng = np.random.default_rng(0)
    u = rng.random((200, 2))
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    profile = np.exp(-(x**2 + y**2) / (0.02 + 0.3 * u[:, 0, None, None]))
    counts = rng.poisson(profile * (20 + 80 * u[:, 1, None, None]))
    values = np.stack([f.unscale(column) for f, column in zip(FACTORS, u.T, strict=True)], 1)
    path = tmp_path_factory.mktemp("data") / "blobs.h5"
    write(path, counts[:, None].astype(np.float32), values, FACTORS, {"simulator": "blobs"})
    return path
