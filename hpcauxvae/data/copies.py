"""Images that a set holds more than once, so that what is tested on was trained on."""

import hashlib
from collections.abc import Callable

import numpy as np

from hpcauxvae.data.hdf5 import ImageSet, split
from hpcauxvae.data.stored import in_pieces


def digests(image_set: ImageSet, samples: slice = slice(None), mark: Callable[[], None] = lambda: None) -> np.ndarray:
    """64 bits for each of these images, (n,) uint64: equal where all pixels are equal, else different.

    Reads these images, in pieces, and calls `mark` after each. Two of a million images share their bits by chance once
    in 40 million sets.
    """
    parts = [np.empty(0, np.uint64)]
    for _, images in in_pieces(image_set.images, range(*samples.indices(len(image_set)))):
        parts.append(digests_of(images))
        mark()
    return np.concatenate(parts)


def digests_of(images: np.ndarray) -> np.ndarray:
    """Of images in memory, (n, C, H, W) -> (n,) uint64."""
    bits = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(bits, np.uint64)


def about_copies(digest_N: np.ndarray, split_seed: int) -> str | None:
    """A sentence on images that are there more than once and the parts of the split that share them; None if none is.

    digest_N: of every image of a set, in its order.
    """
    distinct, first_N, of_N = np.unique(digest_N, return_index=True, return_inverse=True)
    if len(distinct) == len(digest_N):
        return None
    copy = np.setdiff1d(np.arange(len(digest_N)), first_N)
    told = f"{len(copy)} of {len(digest_N)} images are copies of others: sample {copy[0]} of {first_N[of_N[copy[0]]]}"
    if len(digest_N) < 10:  # no split
        return f"images: {told}"
    train, validation, test = split(len(digest_N), split_seed)
    shared = [np.isin(digest_N[part], digest_N[train]).sum() for part in (validation, test)]
    if not any(shared):
        return f"images: {told}"
    return (
        f"images: {told}; {shared[0]} of {len(validation)} validation images and {shared[1]} of {len(test)} test "
        f"images are training images, too (split seed {split_seed}): their scores show what was learned by heart"
    )
