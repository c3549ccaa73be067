"""Objects that were seen from all sides: a categorical factor that tells, with the view, which image it is.

N samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hpcauxvae.data.hdf5 import ImageSet

_CROSSED = 0.9
"""Part of all pairs of an object and a view that are there, and of images that no other has object and view of."""
_OBJECTS, _FEWEST, _MOST = 10, 3, 256
"""Values of a view at least, and objects at most: each guides a latent."""


class Objects(NamedTuple):
    """Which columns tell the object, and from where it is seen."""

    column: int
    views: tuple[int, ...]


def objects_in(data: ImageSet, columns: Sequence[int]) -> Objects | None:
    """The first of these columns that names objects: classes seen at all values of other columns, each there once.

    Digits are of no grid: their slants never meet, and of a digit of a width there are many images.
    """
    for column in columns:
        levels = _different(data, (column,))
        if data.factors[column].kind != "categorical" or not _OBJECTS <= levels <= _MOST:
            continue
        views = tuple(
            other
            for other in columns
            if other != column
            and (values := _different(data, (other,))) >= _FEWEST
            and _different(data, (column, other)) >= _CROSSED * levels * values
        )
        if views and _different(data, (column, *views)) >= _CROSSED * len(data):
            return Objects(column, views)
    return None


def _different(data: ImageSet, columns: tuple[int, ...]) -> int:
    """How many different values these columns have together, of the samples in which all are known."""
    values_NC = data.values[:, columns]
    return len(np.unique(values_NC[~np.isnan(values_NC).any(1)], axis=0))
