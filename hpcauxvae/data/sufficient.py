"""Whether the parts of a split tell enough of a factor that guides: what training refuses, and what no score can judge.

N samples.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.splits import Parts

FEWEST = 4
"""Samples of a part in which a factor must be measured: a score needs as many (metrics/codes.py)."""
_NAMES = "training", "validation", "test"


def faults(data: ImageSet, guide: Guide, parts: Parts) -> Iterator[str]:
    """Why training refuses the guide with these parts: it is known too seldom, or the training part does not vary."""
    name, values_N = guide.factor.name, _values(data, guide)
    for part_name, part in zip(_NAMES[:2], parts[:2], strict=True):
        known = np.count_nonzero(~np.isnan(values_N[part]))
        if known < FEWEST:
            told = f"{name}: measured in {known} of {len(part)} {part_name} samples"
            yield f"{told}; allowed as an auxiliary variable: in {FEWEST} or more"
    train_N = values_N[parts[0]]
    for level, text in zip(guide.levels, guide.texts, strict=True) if guide.by_classes else ():
        if not (train_N == level).any():
            yield (
                f"{name}: the training part has none of the samples of class {text} "
                f"({np.count_nonzero(values_N == level)} in all); allowed as an auxiliary variable: classes that it "
                f"has; {_otherwise(data, values_N)}, and a label that is NaN counts as not measured"
            )
    for told, value, _ in _constant(guide, values_N, (parts[0],)):
        yield f"{told}, {value:g} in each; allowed as an auxiliary variable: what varies"


def _otherwise(data: ImageSet, values_N: NDArray) -> str:
    """What helps where a part lacks a class."""
    groups: list[object] = [] if data.group is None else np.unique(data.group).tolist()
    if len(groups) and all(len(np.unique(values_N[data.group == one])) == 1 for one in groups):
        return "each group is of one class and in one part, so that no seed helps: leave the class out of --aux"
    return "another --split-seed deals anew"


def doubts(data: ImageSet, guide: Guide, parts: Parts) -> Iterator[str]:
    """What validation or test cannot say of the guide."""
    values_N = _values(data, guide)
    known = np.count_nonzero(~np.isnan(values_N[parts[2]]))
    if known < FEWEST:
        yield (
            f"{guide.factor.name}: measured in {known} of {len(parts[2])} test samples, but a score needs {FEWEST}: "
            "evaluate will score no code"
        )
    for part_name, part in zip(_NAMES[1:] if guide.by_classes else (), parts[1:], strict=False):
        there = np.isin(guide.levels, values_N[part])
        if lacking := [text for text, is_there in zip(guide.texts, there, strict=True) if not is_there]:
            yield (
                f"{guide.factor.name}: no {part_name} sample is of class {', '.join(lacking)}: no score can say there "
                "whether it is told"
            )
    for told, value, part_name in () if guide.by_classes else _constant(guide, values_N, parts):
        if part_name != "training":
            yield f"{told}, {value:g} in each: no score can say there whether it is read"


def _values(data: ImageSet, guide: Guide) -> np.ndarray:
    """Of the factor (N,), in its unit."""
    return np.asarray(data.values[:, data.column([guide.factor.name])[0]])


def _constant(guide: Guide, values_N: np.ndarray, parts: tuple[np.ndarray, ...]) -> Iterator[tuple[str, float, str]]:
    """Columns that have one value in a part in which enough of them is known: what is told of it, value and part."""
    for column, values in zip(guide.columns, guide.code(values_N).T, strict=True):
        for part_name, part in zip(_NAMES, parts, strict=False):
            known = values[part][~np.isnan(values[part])]
            if len(known) >= FEWEST and np.ptp(known) == 0:
                told = f"{column.name}: measured in {len(known)} of {len(part)} {part_name} samples"
                yield told, float(known[0]), part_name
