"""What a training keeps of its data, so that its model can be used without them: a few numbers, as plain JSON values.

N samples, D auxiliary factors, K stuck pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.angles import angles, typical
from hpcauxvae.data.guides import guides_in
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.pixels import Pixels, Stuck, look_at, stuck

QUANTILES = (0.05, 0.5, 0.95)
"""Of the training labels that are kept."""
_ENDS = (0.01, 0.99)
"""Quantiles of the peaks of training images between which a peak is a usual one."""
_SPREAD = 300
"""Images that tell of their peaks, where not all have been looked at."""
_TOLD = ("image_unit", "image_origin", "bands")
"""What is kept of where the data come from: how images are to be shown."""


class Summary(NamedTuple):
    """Of the training part of a data set; labels are of the auxiliary factors, in their units."""

    typical: list[float]
    """(D,): the labels that are typical (data/angles.py)."""
    quantiles: list[list[float]]
    """(3, D): `QUANTILES` of the labels."""
    angles: list[tuple[int, int]]
    """Which two of the factors are cosine and sine of an angle."""
    darkest: float
    """The median of the images' lowest pixels, linear data units."""
    peaks: tuple[float, float]
    """Between these, in linear data units, lie 98 of 100 images' highest pixels."""
    stuck: list[int]
    """(K,): pixels that have the same value in every image, counted from 0 through C x H x W."""
    provenance: dict[str, str]
    """How images are to be shown: their unit, where their first row is, whether their channels are bands."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """From the fields as JSON has them. What a later version adds is passed over."""
        fields = {name: record[name] for name in cls._fields}
        pairs = [(one, other) for one, other in record["angles"]]
        return cls(**fields | {"angles": pairs, "peaks": tuple(record["peaks"])})


def summarise(
    data: ImageSet, names: Sequence[str], train: NDArray, pixels: Pixels | None = None, fixed: Stuck | None = None
) -> Summary:
    """Of the samples `train` of a data set with auxiliary factors of these names.

    pixels: of all images, without the stuck ones `fixed`; if they are not given, some hundred images are read.
    """
    train = np.sort(train)
    guides = guides_in(data, names)
    of_train = data.values[train][:, data.column([guide.factor.name for guide in guides])]
    own = [j for j, guide in enumerate(guides) if guide.plain]
    pairs = [(own[one], own[other]) for one, other in angles(of_train[:, own])]
    middle = typical(of_train, pairs, [guide.factor.kind for guide in guides])
    for j, guide in enumerate(guides):
        if guide.by_angle:
            middle[j] = guide.told(typical(guide.code(of_train[:, j]), [(0, 1)], ["continuous"] * 2)[None])[0]
    if fixed is None or pixels is None:
        fixed = stuck(data.images)
        some = train[np.unique(np.linspace(0, len(train) - 1, _SPREAD).astype(int))]
        pixels = look_at(data.images, some, without=fixed)
    else:
        pixels = Pixels(*(values[train] for values in pixels))
    low, high = np.quantile(pixels.high, _ENDS).tolist()
    return Summary(
        typical=middle.tolist(),
        quantiles=np.nanquantile(of_train, QUANTILES, 0).tolist(),
        angles=pairs,
        darkest=float(np.median(pixels.low)),
        peaks=(low, high),
        stuck=fixed.place.tolist(),
        provenance={name: str(data.provenance[name]) for name in _TOLD if name in data.provenance},
    )
