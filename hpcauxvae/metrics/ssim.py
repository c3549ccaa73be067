"""Structural similarity (Wang et al. 2004) and mean squared error of images and their reconstructions.

Shape suffixes: N images, C channels, H height, W width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.intervals import Array, Score, mean_score
from hpcauxvae.types import InputError

WINDOW = 7
"""Side of the square, uniform window in pixels: the default of scikit-image. Smaller images have no SSIM."""


class ImageScores(NamedTuple):
    """Means for metrics.json beside the values of each image for box plots."""

    means: dict[str, Score]
    per_image: dict[str, Array]
    """`ssim`, `ssim_range_1`, `mse`: (N,) each."""


def score_images(
    originals_NCHW: Any, reconstructions_NCHW: Any, train_max: float, at_once: int | None = None
) -> ImageScores:
    """Compare images in linear data units: the values of `image_values` and their means.

    Passing noiseless images as reconstructions gives the ceiling. at_once: how many images are asked for at once, by a
    slice; all if not given.
    """
    n = len(originals_NCHW)
    pieces = (slice(start, start + (at_once or n)) for start in range(0, n, at_once or n or 1))
    return means_of(
        [image_values(originals_NCHW[r], reconstructions_NCHW[r], train_max, first=r.start) for r in pieces]
    )


def means_of(parts: Sequence[dict[str, Array]]) -> ImageScores:
    """Values of `image_values`, piece after piece, and their means: NaN for the SSIM of images that have none."""
    n = sum(len(part["ssim"]) for part in parts)
    if n < 2:
        raise InputError(f"images: {n} given, at least 2 are needed")
    per_image = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    known = {name: values[~np.isnan(values)] for name, values in per_image.items()}
    if len(known["ssim"]) < 2 and len(known["ssim_range_1"]):
        raise InputError("images: fewer than 2 originals vary at all, expected images with some content")
    nothing = Score(value=np.nan, low=np.nan, high=np.nan, n=0)
    means = {name: mean_score(values) if len(values) else nothing for name, values in known.items()}
    return ImageScores(means, per_image)


def image_values(
    originals_NCHW: NDArray, reconstructions_NCHW: NDArray, train_max: float, first: int = 0
) -> dict[str, Array]:
    """(N,) of each score, of images divided by `train_max`, the maximum of the training images.

    `ssim`: scikit-image's `structural_similarity` with the data range of each original (its own maximum less its
    minimum, over all channels). An original that does not vary has no such range: its value is NaN, and the mean leaves
    it out. `ssim_range_1`: with the data range 1, at which stamps fainter than the brightest look alike whatever
    they show. Both are NaN where a side has fewer pixels than the window. `mse`: mean over pixels and channels of the
    squared difference. first: the number of the first image.
    """
    if originals_NCHW.shape != reconstructions_NCHW.shape or originals_NCHW.ndim != 4:
        shapes = f"{originals_NCHW.shape} and {reconstructions_NCHW.shape}"
        raise InputError(f"images: originals and reconstructions have shapes {shapes}, expected twice (N, C, H, W)")
    if not train_max > 0:
        raise InputError(f"images: train_max is {train_max}, allowed are numbers above 0")
    per_image = {name: np.full(len(originals_NCHW), np.nan) for name in ("ssim", "ssim_range_1", "mse")}
    for i, (original, reconstruction) in enumerate(zip(originals_NCHW, reconstructions_NCHW, strict=True)):
        a = original.astype(np.float64) / train_max
        b = reconstruction.astype(np.float64) / train_max
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise InputError(f"images: number {first + i} has NaN or infinite pixels, expected finite numbers")
        if min(a.shape[1:]) >= WINDOW:
            if np.ptp(a) > 0:
                per_image["ssim"][i] = _similarity(a, b, float(np.ptp(a)))
            per_image["ssim_range_1"][i] = _similarity(a, b, 1.0)
        per_image["mse"][i] = np.square(a - b).mean()
    return per_image


def _similarity(a_CHW: Array, b_CHW: Array, data_range: float) -> float:
    from skimage.metrics import structural_similarity  # half a second, which training does without

    return float(structural_similarity(a_CHW, b_CHW, win_size=WINDOW, data_range=data_range, channel_axis=0))
