"""What the pixels of a set are, image by image: extremes, counts or not, the same image twice, peaks far beyond others.

Shape suffix: N images.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.stored import in_pieces

FAR = 10.0
_BULK = 0.99
_FEWEST = 20
"""Images without which there is no bulk."""
_LONE, _LONE_OF_FEW = 0.2, 0.05
"""Share of the usual number of pixels near an extreme below which it is that of a few pixels alone; the second where
fewer than 20 images tell what is usual."""
_MOST_LONE = 0.1
"""Share of the images that may have such extremes, at most, far beyond the others'."""


class Pixels(NamedTuple):
    """Of each image (N,)."""

    low: NDArray[np.float64]
    """Its lowest pixel, linear data units."""
    high: NDArray[np.float64]
    """Its peak, the highest pixel."""
    dark: NDArray[np.int64]
    """How many of its pixels are not in the upper tenth between lowest pixel and peak,"""
    bright: NDArray[np.int64]
    """and how many are not in the lower tenth."""
    whole: NDArray[np.bool_]
    """Whether every pixel is a whole number, at least 0: as counts are."""
    digest: NDArray[np.uint64]
    """64 bits of a hash of its pixels: the same for the same image."""


def look_at(
    images: Any, rows: range | NDArray[np.int64] | None = None, mark: Callable[[], None] = lambda: None
) -> Pixels:
    """Reads these images (all if not given) in pieces of bytes and calls `mark` after each.

    images: (N, C, H, W), an array or StoredImages; rows: neighbours, or an index in any order.
    """
    found: list[tuple[NDArray, ...]] = []
    for piece, read in in_pieces(images, rows):
        part = read.reshape(len(piece), -1)
        low, high = (part.min(1).astype(np.float64), part.max(1).astype(np.float64))
        tenth = (high - low) / FAR
        dark = np.count_nonzero(part < (high - tenth)[:, None], 1)
        bright = np.count_nonzero(part > (low + tenth)[:, None], 1)
        whole = low >= 0
        if part.dtype.kind == "f":
            whole &= (part == np.rint(part)).all(1)
        digest = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in part]
        found.append((low, high, dark, bright, whole, np.frombuffer(b"".join(digest), "<u8")))
        mark()
    if not found:
        none = np.empty(0, np.int64)
        return Pixels(np.empty(0), np.empty(0), none, none, np.empty(0, bool), np.empty(0, np.uint64))
    return Pixels(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def bounds(pixels: Pixels) -> tuple[float, float]:
    """The lowest and the highest pixel of all images but extremes far beyond those of the others.

    Far is more than `FAR` times as far above the median lowest pixel as the 99th percentile of the peaks, and the same
    turned round. So the unit and the zero of the pixels play no part. A peak of few pixels alone, beside what is usual
    in the set, is judged by the peaks of the other images: hot pixels and cosmic rays in up to a tenth of the images
    leave the bounds where they are, and so does a hot pixel among few images. A peak of many pixels, as of a bright
    star, must be that of one image of a hundred, and of fewer than 20 images none is far. Of clean images the bounds
    are the extremes; so they are where peaks are alike.
    """
    above_N = _far(pixels.high, pixels.low, pixels.bright)
    below_N = _far(-pixels.low, -pixels.high, pixels.dark)
    return float(pixels.low[~below_N].min()), float(pixels.high[~above_N].max())


def _far(peak_N: NDArray, low_N: NDArray, pixels_N: NDArray) -> NDArray[np.bool_]:
    share = _LONE if len(peak_N) >= _FEWEST else _LONE_OF_FEW
    height_N, lone_N = peak_N - np.median(low_N), pixels_N < share * np.median(pixels_N)
    lone_N &= _beyond(height_N, height_N[~lone_N])
    if np.count_nonzero(lone_N) > max(1, _MOST_LONE * len(peak_N)):  # no accident
        lone_N[:] = False
    others = height_N[~lone_N]
    return lone_N | (_beyond(height_N, others) & (len(others) >= _FEWEST))


def _beyond(height_N: NDArray, others: NDArray) -> NDArray[np.bool_]:
    reach = np.quantile(others, _BULK, method="lower")  # of a value that is there, and not the largest
    return np.asarray((reach > 0) & (height_N > FAR * reach))


def outlying(pixels: Pixels) -> NDArray[np.int64]:
    """The numbers of the images whose highest or lowest pixel is outside `bounds`, the worst first."""
    low, high = bounds(pixels)
    beyond_N = np.maximum(pixels.high - high, low - pixels.low)
    order = np.argsort(-beyond_N, kind="stable")
    return order[beyond_N[order] > 0]


def seen_in(digest_N: NDArray[np.uint64], others: NDArray[np.uint64]) -> int:
    """How many of these images are, pixel by pixel, among the others."""
    return int(np.isin(digest_N, others).sum())


def beyond(images: Any, index_N: NDArray[np.int64], low: float, high: float) -> tuple[int, int]:
    """How many pixels of these images are below `low` and above `high`. Reads in pieces."""
    below = above = 0
    for _, part in in_pieces(images, np.sort(index_N)):
        below += int(np.count_nonzero(part < low))
        above += int(np.count_nonzero(part > high))
    return below, above
