"""Pixels that are missing: which these are, and what stands in their place. Shape legend in types.py."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hpcauxvae.data.stored import in_pieces, rows_of


class Filled:
    """(N, C, H, W) images whose missing pixels count as the lowest known pixel of their own image.

    So nothing that is looked for in all images (extremes, counts, copies, principal components) meets what a file holds
    there, be it NaN or 1e30. Read as the images themselves are.
    """

    def __init__(self, images: Any, weights: Any, nan: bool) -> None:
        """weights: (N or 1, C, H or 1, W or 1), or None; nan: whether NaN stands for a missing pixel."""
        self.raw, self.weights, self.nan = images, weights, nan
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> np.ndarray:
        part = np.array(self.raw[index])
        missing = np.broadcast_to(self.missing(index, part), part.shape)
        if missing.any():
            most = np.inf if part.dtype.kind == "f" else np.iinfo(part.dtype).max
            lowest = np.where(missing, most, part).min((-3, -2, -1), keepdims=True)
            np.copyto(part, lowest.astype(part.dtype), where=missing)
        return part

    def missing(self, index: Any, part: np.ndarray) -> np.ndarray:
        """Which pixels of these rows are, (..., C, H, W) or broadcastable. part: the rows as the file has them."""
        found = np.isnan(part) if self.nan else np.zeros((1,) * part.ndim, bool)
        return found if self.weights is None else found | (rows_of(self.weights, index) == 0)

    def zeroed(self, index: Any) -> tuple[np.ndarray, np.ndarray]:
        """The images of these rows with 0 for a missing pixel, and their weights as `weights_at` gives them."""
        part, weights = np.array(self.raw[index]), self.weights_at(index)
        np.copyto(part, 0, where=np.broadcast_to(weights == 0, part.shape))
        return part, weights

    def weights_at(self, index: Any) -> np.ndarray:
        """Inverse variances of the pixels of these rows, float32, 0 where missing; 1 elsewhere where none are known.

        (..., C, H, W) or broadcastable.
        """
        if self.weights is not None and not self.nan:
            return np.array(rows_of(self.weights, index), np.float32)
        known = ~self.missing(index, np.asarray(self.raw[index]))
        return known.astype(np.float32) if self.weights is None else np.where(known, rows_of(self.weights, index), 0)


def scored_by(images: Filled, index: Any) -> np.ndarray:
    """What the scores of these rows weigh pixels by: their weights, or which are known where there are none."""
    return images.weights_at(index) if images.weights is not None else images.weights_at(index) > 0


def shown(images: Any, index: Any) -> np.ndarray:
    """The images of these rows as an encoder is given them: NaN where a pixel is missing."""
    part = images[index]
    return np.where(images.weights_at(index) > 0, part, np.float32(np.nan)) if isinstance(images, Filled) else part


def count_missing(images: Any, samples: range | None = None) -> int:
    """Pixels of these samples, or of all, that are missing; images of another kind than Filled have none."""
    if not isinstance(images, Filled):
        return 0
    count = 0
    for rows, part in in_pieces(images.raw, samples):
        missing = images.missing(slice(rows.start, rows.stop), part)
        count += int(np.count_nonzero(np.broadcast_to(missing, part.shape)))
    return count


def pixel_errors(
    images: Any, samples: range, weights: Any = None, nan: bool = False, mark: Any = lambda: None
) -> Iterator[str]:
    """Faults in the pixels of these samples and in their weights: of each kind the first, and how many have any.

    Pixels that are missing may be anything; an image of nothing else is a fault.
    """
    seen = Filled(images, weights, nan)
    first: dict[str, str] = {}
    count = dict.fromkeys(("infinite", "weight", "empty"), 0)
    for rows, part in in_pieces(images, samples):
        index = slice(rows.start, rows.stop)
        missing = np.broadcast_to(seen.missing(index, part), part.shape)
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(part if part.dtype.itemsize <= 4 else part.astype(np.float32)) & ~missing
        faults = {"infinite": (bad, part), "empty": (missing.all((1, 2, 3), keepdims=True), part)}
        if weights is not None:
            own = rows_of(weights, index)
            faults["weight"] = (~((own >= 0) & np.isfinite(own)), own)
        for kind, (wrong, values) in faults.items():
            at = np.argwhere(wrong)
            if len(at):
                sample, channel, row, column = at[0]
                where = f"sample {rows[sample]}"
                if kind != "empty":
                    where = f"{values[tuple(at[0])]} in {where}, channel {channel}, pixel ({row}, {column})"
                first.setdefault(kind, where)
                count[kind] += len(np.unique(at[:, 0]))
        mark()
    of = f"of {len(samples)} samples"
    if "infinite" in first:
        yield f"images: {first['infinite']} is not finite ({count['infinite']} {of} have such pixels)"
    if "weight" in first:
        yield f"weights: {first['weight']} is not allowed; 0, where a pixel is missing, or positive and finite"
    if "empty" in first:
        yield f"images: every pixel of {first['empty']} is missing ({count['empty']} {of} are so); leave it out"
