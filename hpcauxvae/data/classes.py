"""Names of classes: what the numbers of a categorical factor stand for, where the catalogue has them as text.

The values of such a factor are 0, 1, 2, …, the places of its `classes`.
"""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.stored import plain
from hpcauxvae.types import Factor, InputError

if TYPE_CHECKING:
    from hpcauxvae.data.hdf5 import ImageSet  # which reads what is here

ATTRIBUTE = "classes"
"""Of `factors`: a text for each factor, its names with a line end between two; empty where numbers are the names."""
_SHOWN = 5
"""Names in a message, at most."""


def put(attributes: Any, factors: Sequence[Factor]) -> None:
    """Writes the names into the attributes of `factors`, if there are any."""
    if any(factor.classes for factor in factors):
        texts = ["\n".join(factor.classes) for factor in factors]
        attributes[ATTRIBUTE] = np.array(texts, h5py.string_dtype())


def read(attributes: Mapping[str, Any], n_factors: int) -> list[tuple[str, ...]]:
    """The names of each factor; none where its numbers are the names."""
    texts = [plain(text) for text in attributes.get(ATTRIBUTE, [""] * n_factors)]
    return [tuple(text.split("\n")) if text else () for text in texts]


def errors(attributes: Mapping[str, Any], n_factors: int) -> Iterator[str]:
    """Faults in the attribute, of factors whose other attributes are in order."""
    if ATTRIBUTE not in attributes:
        return
    found = np.asarray(attributes[ATTRIBUTE])
    if found.shape != (n_factors,) or found.dtype.kind not in "OS":
        yield f"factors, attribute {ATTRIBUTE}: {found} is not a list of {n_factors} texts"
        return
    kinds = attributes.get("kind", [""] * n_factors)
    of_each = zip(attributes["name"], kinds, attributes["low"], attributes["high"], strict=True)
    for names, (name, kind, low, high) in zip(read(attributes, n_factors), of_each, strict=True):
        where = f"factors, {plain(name)}: {ATTRIBUTE}"
        if names and plain(kind) != "categorical":
            yield f"{where} {', '.join(names)[:99]!r} of a factor that is not categorical; allowed: of those that are"
        elif names and (low < 0 or high > len(names) - 1):
            yield f"{where}: {len(names)} names for {low:g} to {high:g}; allowed: a range within 0 to {len(names) - 1}"
        elif odd := next((one for one in names if not one or names.count(one) > 1), None):
            yield f"{where}: {odd!r} is there more than once; allowed: names that differ"
        elif "" in names:
            yield f"{where}: an empty name; allowed: a name for each class"


def value_errors(factor: Factor, values_N: NDArray) -> Iterator[str]:
    """A fault of values that are no places of names."""
    odd = np.flatnonzero((np.rint(values_N) != values_N) & ~np.isnan(values_N) & bool(factor.classes))
    if len(odd):
        yield (
            f"factors, {factor.name}: {values_N[odd[0]]} of sample {odd[0]} names no class ({len(odd)} such values); "
            f"allowed: whole numbers from 0 to {len(factor.classes) - 1}"
        )


def named(factor: Factor, levels: Iterable[float]) -> list[str] | None:
    """The names of these classes; None where their numbers are the names."""
    return [factor.classes[int(level)] for level in levels] if len(factor.classes) > 0 else None


def as_texts(column: Any) -> NDArray[np.str_] | None:
    """The cells (N,) of a column of text, with single spaces, "" where there is none; None where other things are."""
    given = np.ma.asarray(column)
    texts = [plain(cell) if known else "" for cell, known in zip(given.data, ~np.ma.getmaskarray(given), strict=True)]
    texts = ["" if text is None or type(text).__name__ == "NAType" else text for text in texts]
    if given.dtype.kind not in "OSU" or not all(isinstance(text, str) for text in texts):
        return None
    return np.array([" ".join(text.replace("\0", "").split()) for text in texts], np.str_)


def is_number(text: str) -> bool:
    """Whether text is that of a number, or of NaN."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def coded(texts_N: NDArray[np.str_]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Texts as places among their names, which are sorted (N,), and these; NaN where a text is empty, or "nan"."""
    known_N = ~np.isin(np.char.lower(texts_N), ("", "nan"))
    names, place = np.unique(texts_N[known_N], return_inverse=True)
    values_N = np.full(len(texts_N), np.nan)
    values_N[known_N] = place
    return values_N, tuple(names.tolist())


def in_order_of(data: "ImageSet", known: Sequence[Factor], speaks: bool = True) -> "ImageSet":
    """The set with the classes in the order of these factors: another catalogue may have more of them, or fewer.

    A class that is none of theirs is not measured, with a warning if this process speaks. Factors of another name stay
    as they are. Raises InputError where classes have names in one of the two alone.
    """
    factors, values_NF = list(data.factors), data.values
    by_name = {factor.name: factor for factor in known if factor.kind == "categorical"}
    for column, factor in enumerate(data.factors):
        other = by_name.get(factor.name)
        if other is None or other.classes == factor.classes:
            continue
        if not (factor.classes and other.classes):
            one, another = ("numbers", "names") if other.classes else ("names", "numbers")
            raise InputError(
                f"{data.path}: factors, {factor.name}: classes are {one}, but {another} in what the run was trained "
                f"on; allowed: {another}, as its set has them"
            )
        place = [other.classes.index(name) if name in other.classes else np.nan for name in factor.classes]
        measured_N = ~np.isnan(values_NF[:, column])
        values_NF = values_NF.copy()
        values_NF[measured_N, column] = np.array(place)[values_NF[measured_N, column].astype(int)]
        unknown = int((np.isnan(values_NF[:, column]) & measured_N).sum())
        if unknown and speaks:
            names = [name for name in factor.classes if name not in other.classes]
            told = ", ".join(names[:_SHOWN]) + f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
            what = f"{unknown} samples are of a class that the run was not trained on ({told})"
            print(
                f"warning: {data.path}: factors, {factor.name}: {what}; they count as not measured",
                file=sys.stderr,
                flush=True,
            )
        factors[column] = other._replace(unit=factor.unit)
    if values_NF is data.values:
        return data
    return dataclasses.replace(data, factors=tuple(factors), values=values_NF)
