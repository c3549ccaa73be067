"""Structural similarity (Wang et al. 2004) and mean squared error of images and their reconstructions.

Shape suffixes: N images, C channels, H height, W width.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.intervals import Array, Score, mean_score
from hpcauxvae.types import InputError

WINDOW = 7
"""Side of the square, uniform window in pixels: the default of scikit-image. Smaller images have no SSIM."""
_BYTES = 1 << 20
"""Of the images that are compared at once: of what fits in a cache."""


class ImageScores(NamedTuple):
    """Means for metrics.json beside the values of each image for box plots."""

    means: dict[str, Score]
    per_image: dict[str, Array]
    """`ssim`, `ssim_range_1`, `mse`, and `chi2` where the noise is known: (N,) each."""


def score_images(
    originals_NCHW: Any, reconstructions_NCHW: Any, train_max: float, at_once: int | None = None, weights: Any = None
) -> ImageScores:
    """Compare images in linear data units: the values of `image_values` and their means.

    Passing noiseless images as reconstructions gives the ceiling. at_once: how many images are asked for at once, by a
    slice; all if not given. weights: as in `image_values`, asked for like the images.
    """
    n = len(originals_NCHW)
    pieces = (slice(start, start + (at_once or n)) for start in range(0, n, at_once or n or 1))
    given = ((r, None if weights is None else weights[r]) for r in pieces)
    return means_of(
        [
            image_values(originals_NCHW[r], reconstructions_NCHW[r], train_max, first=r.start, weights=w)
            for r, w in given
        ]
    )


def means_of(parts: Sequence[dict[str, Array]]) -> ImageScores:
    """Values of `image_values`, piece after piece, and their means: NaN for the SSIM of images that have none."""
    n = sum(len(part["ssim"]) for part in parts)
    if n < 2:
        raise InputError(f"images: {n} given, at least 2 are needed")
    per_image = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    known = {name: values[~np.isnan(values)] for name, values in per_image.items()}
    if len(known["ssim"]) < 2 <= len(known["ssim_range_1"]):
        raise InputError("images: fewer than 2 originals vary at all, expected images with some content")
    nothing = Score(value=np.nan, low=np.nan, high=np.nan, n=0)
    means = {name: mean_score(values) if len(values) > 1 else nothing for name, values in known.items()}
    return ImageScores(means, per_image)


def image_values(
    originals_NCHW: NDArray,
    reconstructions_NCHW: NDArray,
    train_max: float,
    first: int = 0,
    weights: NDArray | None = None,
) -> dict[str, Array]:
    """(N,) of each score, of images divided by `train_max`, the maximum of the training images.

    `ssim`: that of scikit-image's `structural_similarity` with the data range of each original (its own maximum less
    its minimum, over all channels). An original that does not vary has no such range: its value is NaN, and the mean
    leaves it out. `ssim_range_1`: with the data range 1, at which stamps fainter than the brightest look alike whatever
    they show. Both are NaN where a side has fewer pixels than the window. `mse`: mean over pixels and channels of the
    squared difference. first: the number of the first image.

    weights: (N, C, H, W) or broadcastable, inverse variances of the pixels in data units, 0 where one is missing: such
    pixels take no part, and `ssim` is over windows about the others; and there is `chi2`, the mean over pixels of the
    squared difference in units of its variance. Weights of type bool say which pixels are there, and no more.
    """
    if originals_NCHW.shape != reconstructions_NCHW.shape or originals_NCHW.ndim != 4:
        shapes = f"{originals_NCHW.shape} and {reconstructions_NCHW.shape}"
        raise InputError(f"images: originals and reconstructions have shapes {shapes}, expected twice (N, C, H, W)")
    if not train_max > 0:
        raise InputError(f"images: train_max is {train_max}, allowed are numbers above 0")
    n, *shape = originals_NCHW.shape
    per_image = {name: np.full(n, np.nan) for name in ("ssim", "ssim_range_1", "mse")}
    if weights is not None:
        weights = np.broadcast_to(weights, originals_NCHW.shape)
        if weights.dtype != bool:
            per_image["chi2"] = np.full(n, np.nan)
    at_once = max(1, _BYTES // (8 * math.prod(shape)))
    for start in range(0, n, at_once):
        piece = slice(start, start + at_once)
        a, b = (images[piece].astype(np.float64) / train_max for images in (originals_NCHW, reconstructions_NCHW))
        whole = np.isfinite(a).all((1, 2, 3)) & np.isfinite(b).all((1, 2, 3))
        if not whole.all():
            number = first + start + int(np.argmin(whole))
            raise InputError(f"images: number {number} has NaN or infinite pixels, expected finite numbers")
        known = None if weights is None or weights[piece].all() else weights[piece] > 0
        if min(shape[1:]) >= WINDOW:
            ranges = [np.ptp(a, (1, 2, 3)), np.ones(len(a))]
            per_image["ssim"][piece], per_image["ssim_range_1"][piece] = _similarity(a, b, ranges, known)
        of_known: Any = True if known is None else known
        square = np.square(a - b)
        per_image["mse"][piece] = square.mean((1, 2, 3), where=of_known)
        if "chi2" in per_image and weights is not None:
            in_variances = square * (weights[piece].astype(np.float64) * train_max**2)
            per_image["chi2"][piece] = in_variances.mean((1, 2, 3), where=of_known)
    return per_image


def _similarity(a_NCHW: Array, b_NCHW: Array, ranges: list[Array], known: NDArray | None = None) -> list[Array]:
    """Eq. (13) of Wang et al. (2004) of each window that lies in the image, its means over the windows and channels:
    (N,) for each data range (N,), NaN where that is 0.

    known: the pixels that take part; then windows are those about such a pixel, with another beside it. NaN where there
    is none.
    """
    from scipy.ndimage import uniform_filter  # a fifth of a second, which training does without

    half = WINDOW // 2
    inner = slice(None), slice(None), slice(half, -half), slice(half, -half)
    pixels: Any = WINDOW**2
    windows: Any = True
    if known is not None:
        pixels = np.rint(uniform_filter(known.astype(np.float64), (1, 1, WINDOW, WINDOW))[inner] * WINDOW**2)
        windows = known[inner] & (pixels > 1)
        pixels = np.maximum(pixels, 2)

    def mean(values_NCHW: Array) -> Array:
        if known is None:
            over: Array = uniform_filter(values_NCHW, (1, 1, WINDOW, WINDOW))
            return over[inner]
        seen = uniform_filter(np.where(known, values_NCHW, 0), (1, 1, WINDOW, WINDOW))
        return np.asarray(seen[inner] * WINDOW**2 / pixels)

    mean_a, mean_b = mean(a_NCHW), mean(b_NCHW)
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance, variances = (
        pixels / (pixels - 1) * (mean(of) - less)
        for of, less in ((a_NCHW * b_NCHW, product), (a_NCHW**2 + b_NCHW**2, squares))
    )
    found = []
    for range_N in ranges:
        c1, c2 = ((k * np.where(range_N > 0, range_N, np.nan)[:, None, None, None]) ** 2 for k in (0.01, 0.03))
        above, below = (2 * product + c1) * (2 * covariance + c2), (squares + c1) * (variances + c2)
        similar = above / below
        count_N = np.broadcast_to(windows, similar.shape).sum((1, 2, 3))
        found.append(similar.sum((1, 2, 3), where=windows) / np.where(count_N, count_N, np.nan))
    return found
