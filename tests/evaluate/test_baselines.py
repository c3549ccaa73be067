"""The plain methods on images with holes: a weaker rival than on whole ones would flatter the model."""

from pathlib import Path

import numpy as np
import pytest

from helpers.trainings import FACTORS
from hpcauxvae.data.hdf5 import ImageSet, open_set, write
from hpcauxvae.data.missing import shown
from hpcauxvae.evaluate.baselines import Baselines

N, LATENTS = 400, 3


def fields(path: Path, lost: float) -> tuple[ImageSet, np.ndarray]:
    """Three smooth patterns far above 0, of which the factors are the strengths; a share of the pixels is missing."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:9, :11] / 10
    values = rng.random((N, len(FACTORS)))
    patterns = np.stack([np.sin(3 * x), np.cos(4 * y), np.sin(5 * x * y)])
    whole = 280 + 10 * np.tensordot(values[:, :3], patterns, 1)[:, None] + 0.05 * rng.standard_normal((N, 1, 9, 11))
    images = whole.astype(np.float32)
    images[rng.random(images.shape) < lost] = np.nan
    factors = [type(f)(f.name, f.unit, 0, 1) for f in FACTORS]
    write(path, images, values, factors, {}, missing_pixels="nan")
    return open_set(path), whole


def test_holes_take_little_from_what_plain_methods_draw_and_read(tmp_path: Path) -> None:
    found = []
    for lost in (0.0, 0.25):
        data, _ = fields(tmp_path / f"{lost}.h5", lost)
        plain, test = Baselines(data, np.arange(300), LATENTS), np.arange(300, N)
        images = shown(data.images, test)
        scores = plain.images(np.nan_to_num(images, nan=250.0), 310.0, np.isfinite(images))
        told = plain.regressed(data, test, [0])[:, 0]
        r = float(np.corrcoef(told, data.values[test, 0])[0, 1])
        found.append((*(scores[name]["mse"]["value"] for name in ("mean_image", "pca")), r))
    (mean, pca, r), (mean_of_holes, pca_of_holes, r_of_holes) = found
    assert mean_of_holes == pytest.approx(mean, rel=0.05)
    assert pca_of_holes < 2 * pca < 0.01 * mean and min(r, r_of_holes) > 0.99
