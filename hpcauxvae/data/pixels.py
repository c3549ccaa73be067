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


class Pixels(NamedTuple):
    """Of each image (N,)."""

    low: NDArray[np.float64]
    """Its lowest pixel, linear data units."""
    high: NDArray[np.float64]
    """Its peak, the highest pixel."""
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
        whole = low >= 0
        if part.dtype.kind == "f":
            whole &= (part == np.rint(part)).all(1)
        digest = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in part]
        found.append((low, high, whole, np.frombuffer(b"".join(digest), "<u8")))
        mark()
    if not found:
        return Pixels(np.empty(0), np.empty(0), np.empty(0, bool), np.empty(0, np.uint64))
    return Pixels(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def bounds(low_N: NDArray, high_N: NDArray) -> tuple[float, float]:
    """The lowest and the highest pixel of all images but those whose extremes are far beyond those of the others.

    Far is more than `FAR` times as far above the median lowest pixel as the 99th percentile of the peaks, and the same
    turned round. So the unit and the zero of the pixels play no part, and a hot pixel, a sentinel or a cosmic ray in
    one image of a hundred leaves the bounds where they are. Of clean images, and of fewer than 20, they are the
    extremes; so they are where peaks are alike.
    """
    near_N = ~(_beyond(high_N, low_N) | _beyond(-low_N, -high_N))
    return float(low_N[near_N].min()), float(high_N[near_N].max())


def _beyond(far_N: NDArray, near_N: NDArray) -> NDArray[np.bool_]:
    middle = np.median(near_N)
    reach = np.quantile(far_N, _BULK, method="lower") - middle  # of a value that is there, and not the largest
    return (reach > 0) & (len(far_N) >= _FEWEST) & (far_N - middle > FAR * reach)


def outlying(pixels: Pixels) -> NDArray[np.int64]:
    """The numbers of the images whose highest or lowest pixel is outside `bounds`, the worst first."""
    low, high = bounds(pixels.low, pixels.high)
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
