"""What the pixels of a set are, image by image: extremes, counts or not, the same image twice, peaks far beyond others.

Shape suffix: N images.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FAR = 10.0
"""A peak is far beyond the bulk of peaks above this many times their 99th percentile."""
_BULK = 0.99
_FEWEST = 20
"""Images without which there is no bulk."""
_PIECE_BYTES = 32 << 20


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


def look_at(images: Any, rows: range | None = None, mark: Callable[[], None] = lambda: None) -> Pixels:
    """Reads these images (all if not given) in pieces of bytes and calls `mark` after each.

    images: (N, C, H, W), an array or StoredImages; rows: neighbours, in their order.
    """
    rows = range(len(images)) if rows is None else rows
    found: list[tuple[NDArray, ...]] = []
    for start in rows[:: images_in(_PIECE_BYTES, images.shape[1:])]:
        stop = min(start + images_in(_PIECE_BYTES, images.shape[1:]), rows.stop)
        part = np.asarray(images[start:stop]).reshape(stop - start, -1)
        low, high = (part.min(1).astype(np.float64), part.max(1).astype(np.float64))
        whole = (low >= 0) & (part == np.rint(part)).all(1)
        digest = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in part]
        found.append((low, high, whole, np.frombuffer(b"".join(digest), "<u8")))
        mark()
    if not found:
        return Pixels(np.empty(0), np.empty(0), np.empty(0, bool), np.empty(0, np.uint64))
    return Pixels(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def images_in(n_bytes: int, shape: Sequence[int], most: int = 1 << 62) -> int:
    """How many images (C, H, W) of 4 bytes a pixel take so many bytes: at least 1, at most `most`."""
    return max(1, min(most, n_bytes // (4 * int(np.prod(shape)))))


def bounds(low_N: NDArray, high_N: NDArray) -> tuple[float, float]:
    """The lowest and the highest pixel of all images whose extremes are not far beyond those of the bulk.

    A peak is far beyond the bulk above `FAR` times the 99th percentile of the positive peaks; so is a lowest pixel
    whose depth below 0 is above `FAR` times that and the 99th percentile of all depths. A hot pixel, a sentinel or a
    cosmic ray in one image of a hundred leaves the bounds where they are; of clean images they are the extremes, and of
    fewer than 20 images too.
    """
    if len(high_N) < _FEWEST:
        return float(low_N.min()), float(high_N.max())
    positive = high_N[high_N > 0]
    top = _bulk(positive) if len(positive) >= _FEWEST else float(high_N.max())
    depth = max(top, _bulk(np.maximum(-low_N, 0)))
    return float(low_N[-low_N <= FAR * depth].min()), float(high_N[high_N <= max(FAR * top, 0)].max())


def _bulk(amounts: NDArray) -> float:
    return float(np.quantile(amounts, _BULK, method="lower"))  # a value that is there, and not the largest


def outlying(pixels: Pixels) -> NDArray[np.int64]:
    """The numbers of the images whose highest or lowest pixel is outside `bounds`, the worst first."""
    low, high = bounds(pixels.low, pixels.high)
    beyond_N = np.maximum(pixels.high - high, low - pixels.low)
    order = np.argsort(-beyond_N, kind="stable")
    return order[beyond_N[order] > 0]


def seen_in(digest_N: NDArray[np.uint64], others: NDArray[np.uint64]) -> int:
    """How many of these images are, pixel by pixel, among the others."""
    return int(np.isin(digest_N, others).sum())
