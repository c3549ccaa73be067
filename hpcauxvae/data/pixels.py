"""What the pixels of a set are, image by image: extremes, counts or not, the same image twice, peaks far beyond others.

Shape suffix: N images.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.stored import images_in, in_pieces

FAR = 10.0
_BULK = 0.99
_FEWEST = 20
"""Images without which there is no bulk."""
_LONE, _LONE_OF_FEW = 0.2, 0.05
"""Share of the usual number of pixels near an extreme below which it is that of a few pixels alone; the second where
fewer than 20 images tell what is usual."""
_MOST_LONE = 0.1
"""Share of the images that may have such extremes, at most, far beyond the others'; and of the positions that may be
stuck."""
_STEADY = 1 / 3
"""Part of its height by which a stuck pixel varies at most."""
_SPREAD, _SPREAD_BYTES = 1000, 32 << 20
"""Images, and bytes of images in float32, that tell which pixels are stuck."""


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


class Stuck(NamedTuple):
    """Pixels of a detector, K of C x H x W, that give nearly the same value in every image."""

    place: NDArray[np.int64]
    """(K,), counted from 0 through C x H x W."""
    value: NDArray[np.float64]
    """(K,), their median, linear data units."""

    def __bool__(self) -> bool:
        return len(self.place) > 0

    def left_out(self, part: NDArray) -> NDArray:
        """Images (B, C x H x W) without these."""
        return np.delete(part, self.place, 1) if self else part

    def highest(self, low: float, high: float, shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """(C, H, W), the value as which every pixel above counts: `low` for these, so that they are always the same."""
        counted = np.full(shape, high)
        counted.flat[self.place] = low
        return counted


_NONE = Stuck(np.empty(0, np.int64), np.empty(0))


def stuck(images: Any) -> Stuck:
    """The pixels that have nearly the same value, far beyond those of all others, in nine images of ten.

    Far is `FAR` times as far above the median lowest pixel as the peak of all other pixels is in nine images of ten,
    or the same turned round. What is bright in the middle of every image is not stuck: it has flanks, down which no
    step from pixel to pixel is that high, and it differs from image to image. Reads up to 1000 images, evenly spread.
    """
    most = max(_FEWEST, min(_SPREAD, images_in(_SPREAD_BYTES, images.shape[1:])))
    rows = np.unique(np.linspace(0, len(images) - 1, most).astype(np.int64))
    seen = np.asarray(images[rows], np.float32).reshape(len(rows), -1)
    low_P, high_P = np.quantile(seen, 0.1, 0, method="lower"), np.quantile(seen, 0.9, 0, method="higher")
    place = np.sort(np.r_[_stuck_high(seen, low_P, high_P), _stuck_high(-seen, -high_P, -low_P)])
    return Stuck(place, np.median(seen[:, place], 0).astype(np.float64))


def _stuck_high(seen: NDArray, low_P: NDArray, high_P: NDArray) -> NDArray[np.int64]:
    others_P = np.ones(seen.shape[1], bool)
    zero = np.median(seen.min(1))
    while True:
        height_P = np.where(others_P, low_P - zero, -np.inf)
        group_P = height_P > height_P.max() / FAR  # heights of a kind; others may follow
        rest_P = others_P & ~group_P
        if not (1 - _MOST_LONE) * rest_P.size <= rest_P.sum() < others_P.sum():
            break
        reach = np.quantile(seen[:, rest_P].max(1), 0.9, method="higher") - zero
        steady_P = high_P - low_P < _STEADY * height_P
        if not (reach > 0 and (height_P[group_P] > FAR * reach).all() and steady_P[group_P].all()):
            break
        others_P = rest_P
    return np.flatnonzero(~others_P)


def look_at(
    images: Any,
    rows: range | NDArray[np.int64] | None = None,
    mark: Callable[[], None] = lambda: None,
    without: Stuck = _NONE,
) -> Pixels:
    """Reads these images (all if not given) in pieces of bytes and calls `mark` after each.

    images: (N, C, H, W), an array or StoredImages; rows: neighbours, or an index in any order; without: pixels that
    count for nothing but the digest.
    """
    found: list[tuple[NDArray, ...]] = []
    for piece, read in in_pieces(images, rows):
        every = read.reshape(len(piece), -1)
        part = without.left_out(every)
        low, high = (part.min(1).astype(np.float64), part.max(1).astype(np.float64))
        tenth = (high - low) / FAR
        dark = np.count_nonzero(part < (high - tenth)[:, None], 1)
        bright = np.count_nonzero(part > (low + tenth)[:, None], 1)
        whole = low >= 0
        if part.dtype.kind == "f":
            whole &= (part == np.rint(part)).all(1)
        digest = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in every]
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


def beyond(images: Any, index_N: NDArray[np.int64], low: float, high: float, without: Stuck = _NONE) -> tuple[int, int]:
    """How many pixels of these images are below `low` and above `high`. Reads in pieces."""
    below = above = 0
    for piece, read in in_pieces(images, np.sort(index_N)):
        part = without.left_out(read.reshape(len(piece), -1))
        below += int(np.count_nonzero(part < low))
        above += int(np.count_nonzero(part > high))
    return below, above
