"""Whether a set is a series, whose neighbours are alike: then parts that are blocks of neighbours judge it.

Shape suffix: N samples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.missing import shown
from hpcauxvae.data.stored import images_in

_ALIKE = 0.75
"""Share of the images that are nearer to their neighbour than to another one, from which on neighbours are alike: of
images in no order it is a half, of yearly fields of a climate .85."""
_PAIRS, _BYTES = 300, 16 << 20
"""Neighbours that are compared, and bytes of them in float32."""
_STEPS, _EVEN, _VALUES = 0.95, 0.25, 0.1
"""Share of the steps that are even, to so much of their median, as those of months are in days; and how many values
the column has, of the samples. Sorted by a quantity, the steps are not even."""
_FEWEST = 50
"""Images of a series."""


class Series(NamedTuple):
    """A set whose neighbours are alike."""

    alike: float
    """The share of the images that are nearer to their neighbour than to another one."""
    timed: bool
    """Whether a column goes on from one sample to the next in even steps, as times do, some breaks apart. A grid of few
    angles does not. Without such a column the rows may be sorted by what the images show, as by a class."""


def series(image_set: ImageSet) -> Series | None:
    """None where neighbours are not much more alike than others, and for a file with groups or parts of its own, which
    say what belongs together. Reads 300 pairs, evenly spread."""
    n = len(image_set)
    if n < _FEWEST or image_set.group is not None or image_set.split is not None:
        return None
    most = max(_FEWEST, min(_PAIRS, images_in(_BYTES, image_set.shape)))
    first = np.unique(np.linspace(0, n - 2, most).astype(np.int64))
    other = (first + np.random.default_rng(0).integers(2, n - 1, len(first))) % n
    nearer = []
    for rows in np.array_split(np.arange(len(first)), -(-len(first) // images_in(_BYTES, image_set.shape))):
        seen, near, far = (_pixels(image_set, chosen[rows]) for chosen in (first, first + 1, other))
        nearer.append(np.nanmean(np.square(seen - near), 1) < np.nanmean(np.square(seen - far), 1))
    share = float(np.concatenate(nearer).mean())
    return Series(share, _ordered(image_set)) if share >= _ALIKE else None


def _ordered(image_set: ImageSet) -> bool:
    columns = (of for f, of in zip(image_set.factors, image_set.values.T, strict=True) if f.kind == "continuous")
    return any(_goes_on(column_N) for column_N in columns)


def _goes_on(column_N: NDArray) -> bool:
    step_N = np.diff(column_N)
    if column_N[0] in (0, 1) and (step_N == 1).all():  # a running number, of rows in whatever order
        return False
    typical = np.median(step_N)
    even = np.abs(step_N - typical) <= _EVEN * abs(typical)
    return bool(typical != 0 and even.mean() > _STEPS and len(np.unique(column_N)) > _VALUES * len(column_N))


def _pixels(image_set: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(., P), NaN where a pixel is missing."""
    return np.asarray(shown(image_set.images, rows), np.float64).reshape(len(rows), -1)
