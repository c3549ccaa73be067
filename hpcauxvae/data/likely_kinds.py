"""Quantities that are declared to be numbers in order, and of which the images say something else: angles, classes.

N samples, P numbers of an image, G groups of samples.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.angles import angles
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.stored import images_in
from hpcauxvae.types import Kind

_TURNS = ((0.0, 180.0), (0.0, 360.0), (-180.0, 180.0), (0.0, math.pi), (0.0, 2 * math.pi), (-math.pi, math.pi))
"""From where to where one turn goes as angles are written."""
_OTHER_TURNS = ((0.0, 1.0), (0.0, 24.0), (-90.0, 90.0), (-math.pi / 2, math.pi / 2))
"""So phases, clocks and orientations do, but shares and latitudes, too."""
_COVERED = 0.9
"""Part of a turn from the lowest to the highest value, with a step of a grid, at least."""
_AT_EDGES = 0.03
"""Part of the values in the first and in the last tenth of a turn, at least: a normal quantity may reach from -3 to 3,
but seldom lies there."""
_PART = 20
"""An end of a quantity is this part of the samples."""
_FEWEST, _MOST = 10, 200
"""Samples of a group at least, and at most."""
_BYTES = 16 << 20
"""Of the images of a group in float32, at most."""
_SEEN = 6.0
"""Times what chance makes of the squared distance of two mean images, above which they differ."""
_ALIKE = 0.25
"""Squared distance of the two ends over that of an end from the most distant part, of an angle at most."""
_APART = 0.5
"""The same, from which it is none, though its values go all round a turn."""
_OPEN = "LOW:HIGH"
_CLASSES = range(4, 31)
"""Different whole numbers that may be the names of classes."""
_IN_ORDER = 0.75
"""Mean squared distance of neighbours over that of any two, of steps in an order at most: of ten it is .1 to .5."""


class _Means(NamedTuple):
    """Of groups of images, each less its own mean and in units of its own spread: brightness is no shape."""

    mean_GP: NDArray[np.float64]
    chance_G: NDArray[np.float64]
    """Expected squared distance of each from the mean of very many."""

    def apart(self, one: int, other: int) -> float:
        """Squared distance of two, less what chance makes; 0 where it is not seen."""
        squared = float(np.square(self.mean_GP[one] - self.mean_GP[other]).sum())
        chance = float(self.chance_G[[one, other]].sum())
        return squared - chance if squared > _SEEN * chance else 0.0


def turn_of(values_N: NDArray[np.float64]) -> tuple[float, float] | None:
    """From where to where one turn goes, where the values lie all round a turn as angles, phases or clocks have it."""
    return _turn_among(values_N, _TURNS + _OTHER_TURNS)


def _turn_among(values_N: NDArray[np.float64], turns: Iterable[tuple[float, float]]) -> tuple[float, float] | None:
    known_N = values_N[np.isfinite(values_N)]
    values = np.unique(known_N)
    if len(values) < 2:
        return None
    low, high, step = values[0], values[-1], np.diff(values).min()
    for start, end in turns:
        slack = 1e-6 * (end - start)  # of numbers that were rounded
        if start - slack <= low and high <= end + slack and high - low + step >= _COVERED * (end - start):
            edge = max((1 - _COVERED) * (end - start), step) + slack
            if min(np.mean(known_N <= start + edge), np.mean(known_N >= end - edge)) >= _AT_EDGES:
                return start, end
    return None


class Likely(NamedTuple):
    """What a quantity seems to be."""

    name: str
    kind: Kind
    turn: str
    """LOW:HIGH of an angle, or these words where its values do not say what one turn is."""
    why: str

    def __str__(self) -> str:
        what = "an angle" if self.kind == "periodic" else "names of classes"
        turn = f" --range {self.name}={self.turn}" + ", one turn" * (self.turn == _OPEN) if self.turn else ""
        be = "it is" if self.kind == "periodic" else "they are"
        return f"{self.name}: {self.why}: where {be} {what}, `data import` with --kind {self.name}={self.kind}{turn}"


def likely_kinds(data: ImageSet, columns: Iterable[int]) -> Iterator[Likely]:
    """Of those of these columns, declared `continuous`, that seem to be angles or classes.

    The images tell: those at the two ends of an angle are alike and others between are not; those of neighbouring
    classes differ as much as those of any two. Where they do not, values that go all round a turn do. Reads at most 200
    images of each of the groups that are compared.
    """
    sides = {column for pair in angles(data.values) for column in pair}
    for column in columns:
        factor, values_N = data.factors[column], data.values[:, column]
        if factor.kind != "continuous" or column in sides:
            continue
        levels = np.unique(values_N[np.isfinite(values_N)])
        if _are_classes(data, values_N, levels):
            why = f"{len(levels)} different whole numbers, and images of neighbours differ as much as those of any two"
            yield Likely(factor.name, "categorical", "", why)
        elif why := _said_of_round(data, values_N):
            turn = turn_of(values_N)
            yield Likely(factor.name, "periodic", _OPEN if turn is None else f"{turn[0]:.7g}:{turn[1]:.7g}", why)


def _said_of_round(data: ImageSet, values_N: NDArray[np.float64]) -> str:
    """Why this seems to go round, or ""."""
    order = np.argsort(values_N, kind="stable")[: np.count_nonzero(np.isfinite(values_N))]
    size = len(order) // _PART
    if size < _FEWEST:
        return ""
    starts = (0, *(len(order) * quarter // 4 - size // 2 for quarter in (1, 2, 3)), len(order) - size)
    means = _means(data, [order[start : start + size] for start in starts])
    most, ends = max(means.apart(end, middle) for end in (0, 4) for middle in (1, 2, 3)), means.apart(0, 4)
    if ends < _ALIKE * most:
        return "images at its two ends are alike, and others between them are not"
    if _turn_among(values_N, _TURNS) and ends <= _APART * most:
        return "its values go all round a turn" + ", and the images do not tell" * (most == 0)
    return ""


def _are_classes(data: ImageSet, values_N: NDArray[np.float64], levels: NDArray[np.float64]) -> bool:
    if len(levels) not in _CLASSES or (levels != np.rint(levels)).any():
        return False
    groups = [np.flatnonzero(values_N == level) for level in levels]
    groups = [rows for rows in groups if len(rows) >= _FEWEST]
    if len(groups) < _CLASSES[0]:
        return False
    means, numbers = _means(data, groups), range(len(groups))
    every = [means.apart(*pair) for pair in combinations(numbers, 2)]
    neighbours = [means.apart(*pair) for pair in pairwise(numbers)]
    return float(np.mean(neighbours)) > _IN_ORDER * float(np.mean(every))


def _means(data: ImageSet, groups: Sequence[NDArray[np.intp]]) -> _Means:
    most = max(2, min(_MOST, images_in(_BYTES, data.shape)))
    means, chances = [], []
    for rows in groups:
        rows = np.sort(rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(np.intp))])
        images_NP = np.asarray(data.images[rows], np.float64).reshape(len(rows), -1)
        images_NP = images_NP - images_NP.mean(1, keepdims=True)
        images_NP /= np.maximum(images_NP.std(1, keepdims=True), np.finfo(np.float32).tiny)
        means.append(images_NP.mean(0))
        chances.append(images_NP.var(0, ddof=1).sum() / len(rows))
    return _Means(np.stack(means), np.array(chances))
