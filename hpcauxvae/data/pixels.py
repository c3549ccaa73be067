"""What the pixels of a set are, image by image: extremes, counts or not, and those beyond a range.

Shape suffix: N images.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.copies import digests_of
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.stored import in_pieces

_PIECE_BYTES = 4 << 20  # of images read in any order


class Pixels(NamedTuple):
    """Of each image (N,)."""

    low: NDArray[np.float64]
    """Its lowest pixel, linear data units."""
    high: NDArray[np.float64]
    """Its peak, the highest pixel."""
    whole: NDArray[np.bool_]
    """Whether every pixel is a whole number, at least 0: as counts are."""
    digest: NDArray[np.uint64]
    """As copies.digests."""


def look_at(data: ImageSet, samples: slice = slice(None), mark: Callable[[], None] = lambda: None) -> Pixels:
    """Reads these images, in pieces, and calls `mark` after each."""
    none = np.empty(0)
    found: list[tuple[NDArray, ...]] = [(none, none, none.astype(bool), none.astype(np.uint64))]
    for _, images in in_pieces(data.images, range(*samples.indices(len(data)))):
        low, high = images.min((1, 2, 3)).astype(np.float64), images.max((1, 2, 3)).astype(np.float64)
        whole = low >= 0
        if images.dtype.kind == "f":
            whole &= (images == np.rint(images)).all((1, 2, 3))
        found.append((low, high, whole, digests_of(images)))
        mark()
    return Pixels(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def beyond(data: ImageSet, index_N: NDArray, low: float, high: float) -> tuple[int, int]:
    """How many pixels of these images are below `low` and above `high`, in linear data units. Reads in pieces."""
    below = above = 0
    step = max(1, _PIECE_BYTES // (4 * int(np.prod(data.shape))))
    for start in range(0, len(index_N), step):
        images = data.images[np.sort(index_N)[start : start + step]]
        below += int(np.count_nonzero(images < low))
        above += int(np.count_nonzero(images > high))
    return below, above
