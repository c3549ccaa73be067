"""The columns by which factors guide latents: a periodic one by cosine and sine, a categorical one by its classes.

A set gets these columns behind its own (`guided`), and whoever trains and scores sees ordinary ones. Shape suffixes: N
samples, F factors, T columns of a factor.

A categorical factor of c classes has a column for each class but the first: 1 for samples of that class, else 0. What
all of them leave to 1 is the share of the first. So each latent stands for a class; and of 0 and 1 all powers are the
same, so that a latent can follow each power of its column in full, which the explicitness (8) asks for. Columns of a
factor cannot be independent: those of c equal classes correlate by -1/(c - 1), cosine and sine of an even angle by 0.
They are treated as any columns are that correlate, for the prior N(u_j, 1/n) holds a latent at its own.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.classes import named
from hpcauxvae.types import Factor, InputError, Labels

if TYPE_CHECKING:
    from hpcauxvae.data.hdf5 import ImageSet  # which holds what is here

ROOM = 5
"""Latents beside those that are guided, in what is proposed: for what nobody measured."""
_EVEN = 1e-6
"""Of their mean step, by which the steps of an ordinal factor may differ and its values still are its ranks."""


class Guide(NamedTuple):
    """A factor, and the columns by which it guides as many latents."""

    factor: Factor
    columns: tuple[Factor, ...]
    """The factor itself where it guides as it is."""
    levels: tuple[float, ...] = ()
    """Classes of a categorical factor, or levels of an ordinal one, rising."""

    @property
    def plain(self) -> bool:
        """Whether the factor guides one latent by its own values."""
        return self.columns == (self.factor,)

    @property
    def by_classes(self) -> bool:
        """Whether each latent stands for a class."""
        return not self.plain and self.factor.kind == "categorical"

    @property
    def by_angle(self) -> bool:
        """Whether cosine and sine guide."""
        return not self.plain and self.factor.kind == "periodic"

    @property
    def texts(self) -> list[str]:
        """A text for each class or level: its name, or its number."""
        return texts_of(self.factor, self.levels)

    def code(self, values_N: NDArray) -> NDArray[np.float64]:
        """Values in the factor's unit -> columns (N, T) in theirs; NaN where they are NaN, or of no known class."""
        if self.plain:
            return np.asarray(values_N, np.float64)[:, None]
        if self.by_angle:
            angle_N = 2 * np.pi * self.factor.scale(values_N)
            return np.stack([np.cos(angle_N), np.sin(angle_N)], 1)
        levels = np.array(self.levels)
        if not self.by_classes:
            return np.interp(values_N, levels, np.arange(len(levels)))[:, None]
        columns_NT = (np.asarray(values_N)[:, None] == levels[1:]).astype(np.float64)
        columns_NT[~np.isin(values_N, levels)] = np.nan
        return columns_NT

    def told(self, columns_NT: NDArray) -> NDArray[np.float64]:
        """What columns, as latents or regressors have them, say of the factor (N,), in its unit; NaN where one is NaN.

        The angle of cosine and sine, the class with the largest share, the value at a rank.
        """
        first_N = np.asarray(columns_NT[:, 0], np.float64)
        if self.plain:
            return first_N
        if self.by_angle:
            turns_N = np.arctan2(columns_NT[:, 1], first_N) / (2 * np.pi)
            return np.asarray(self.factor.unscale(turns_N % 1))
        levels = np.array(self.levels)
        if not self.by_classes:
            return np.interp(first_N, np.arange(len(levels)), levels)
        shares = np.concatenate([1 - columns_NT.sum(1, keepdims=True), columns_NT], 1)
        return np.where(np.isnan(first_N), np.nan, levels[shares.argmax(1)])

    def scaled(self, values_N: NDArray) -> NDArray[np.float64]:
        """`code` on the scale from 0 to 1 that models see, (N, T)."""
        return np.stack([f.scale(u_N) for f, u_N in zip(self.columns, self.code(values_N).T, strict=True)], 1)

    def unscaled(self, scaled_NT: NDArray) -> NDArray[np.float64]:
        """`told` of columns on the scale from 0 to 1."""
        return self.told(np.stack([f.unscale(z_N) for f, z_N in zip(self.columns, scaled_NT.T, strict=True)], 1))

    def errors(self, values_N: NDArray, errors_N: NDArray) -> NDArray[np.float64]:
        """Standard deviations (N, T) of the columns, of those of the values; NaN where classes or ranks guide."""
        if self.plain:
            return np.asarray(errors_N)[:, None]
        if self.by_angle:
            turned_N2 = self.code(values_N)[:, ::-1]
            return np.abs(turned_N2) * (2 * np.pi * errors_N / (self.factor.high - self.factor.low))[:, None]
        return np.full((len(values_N), len(self.columns)), np.nan)

    def record(self) -> dict[str, Any]:
        """As runs keep it beside the columns themselves: the number of these, and where it is not plain the factor."""
        more = {} if self.plain else {"factor": self.factor.record(), "levels": list(self.levels)}
        return {"columns": len(self.columns)} | more

    @classmethod
    def of_record(cls, record: dict[str, Any], columns: Sequence[Factor]) -> "Guide":
        """The inverse of `record`."""
        factor = Factor.of_record(record["factor"]) if "factor" in record else columns[0]
        return cls(factor, tuple(columns), tuple(record.get("levels", ())))

    def in_words(self, first: int) -> str:
        """Which latents it guides, the first of them counted from 1, and how."""
        name, last = self.factor.name, first + len(self.columns) - 1
        where = f"guides latent {first}" if first == last else f"guides latents {first} and {last}"
        if last > first + 1:
            where = f"guides latents {first} to {last}"
        if self.by_angle:
            return f"{name} {where}: its cosine and sine"
        if self.by_classes:
            return f"{name} {where}: {len(self.levels)} classes, each but {self.texts[0]}"
        return f"{name} {where}: the rank of its {len(self.levels)} levels"


def shown(level: float, digits: int = 6) -> str:
    """A class as text, to so many digits: whole numbers with all of them."""
    return f"{level:.15g}" if float(level).is_integer() and abs(level) < 1e15 else f"{level:.{digits}g}"


def spelled(levels: Sequence[float]) -> list[str]:
    """A text for each of these classes, all different: six digits, or as many more as that takes."""
    texts = ([shown(level, digits) for level in levels] for digits in range(6, 18))  # 17 tell any two floats apart
    return next(found for found in texts if len(set(found)) == len(levels))


def texts_of(factor: Factor, levels: Sequence[float]) -> list[str]:
    """A text for each of these classes of a factor, all different: its name, or its number."""
    return named(factor, levels) or spelled(levels)


def guides_of(data: "ImageSet", names: Sequence[str], labels: Labels) -> tuple[Guide, ...]:
    """How these factors of a set guide: by their kinds, or raw, each by one column of its own values.

    Raises InputError where a name is unknown or given twice.
    """
    factors, taken = measured(data).factors, {factor.name for factor in data.factors}
    columns = [(factors[column], data.values[:, column]) for column in data.column(names)]
    return tuple(_guide(f, values_N, taken) if labels == "kinds" else Guide(f, (f,)) for f, values_N in columns)


def _guide(factor: Factor, values_N: NDArray, taken: set[str]) -> Guide:
    """taken: names that the columns cannot have."""
    name = factor.name
    if factor.kind == "periodic":
        return Guide(factor, tuple(Factor(_free(f"{of} {name}", taken), "", -1, 1) for of in ("cos", "sin")))
    if factor.kind not in ("ordinal", "categorical"):
        return Guide(factor, (factor,))
    levels = tuple(np.unique(values_N[~np.isnan(values_N)]).tolist())
    if len(levels) < 2:
        return Guide(factor, (factor,))
    if factor.kind == "categorical":
        texts = (text.replace(",", ";") for text in texts_of(factor, levels)[1:])  # columns have no commas
        names = [_free(f"{name}={text}", taken) for text in texts]
        return Guide(factor, tuple(Factor(own, "", 0, 1, "ordinal") for own in names), levels)
    steps = np.diff(factor.scale(np.array(levels)))
    if np.ptp(steps) < _EVEN * steps.mean():
        return Guide(factor, (factor,))
    return Guide(factor, (Factor(_free(f"rank of {name}", taken), "", 0, len(levels) - 1, "ordinal"),), levels)


def _free(name: str, taken: set[str]) -> str:
    return _free(f"{name}*", taken) if name in taken else name


def guided(data: "ImageSet", guides: Sequence[Guide]) -> "ImageSet":
    """The set with the columns of these guides behind its own.

    Raises InputError where it lacks a factor of theirs. A class that no guide knows is not measured, with a warning.
    """
    if data.guides == tuple(guides):
        return data
    data, more = measured(data), [guide for guide in guides if not guide.plain]
    places = data.column([guide.factor.name for guide in more])
    factors, values, errors = list(data.factors), [data.values], [data.factor_errors]
    for guide, column in zip(more, places, strict=True):
        values_N = data.values[:, column]
        values.append(guide.code(values_N))
        factors += guide.columns
        if unknown := int((np.isnan(values[-1][:, 0]) & ~np.isnan(values_N)).sum()):
            what = f"factors, {guide.factor.name}: {unknown} samples are of a class that the run was not trained on"
            print(f"warning: {data.path}: {what}; they count as not measured", file=sys.stderr, flush=True)
        if data.factor_errors is not None:
            errors.append(guide.errors(values_N, data.factor_errors[:, column]))
    return dataclasses.replace(
        data,
        factors=tuple(factors),
        values=np.concatenate(values, 1),
        factor_errors=None if data.factor_errors is None else np.concatenate(errors, 1),  # type: ignore[arg-type]
        guides=tuple(guides),
    )


def measured(data: "ImageSet") -> "ImageSet":
    """The set as its file has it."""
    if not data.guides:
        return data
    errors = None if data.factor_errors is None else data.factor_errors[:, : data.own]
    own = {"factors": data.factors[: data.own], "values": data.values[:, : data.own], "factor_errors": errors}
    return dataclasses.replace(data, guides=(), **own)  # type: ignore[arg-type]


def guides_in(data: "ImageSet", names: Sequence[str]) -> tuple[Guide, ...]:
    """Those of a set, or of these factors by their own values where it has none.

    Raises InputError where a name is unknown or given twice.
    """
    return data.guides or guides_of(data, names, "raw")


def guiding(data: "ImageSet", names: Sequence[str]) -> list[int]:
    """The columns that guide latents, in their order, by `guides_in`."""
    return data.column([column.name for guide in guides_in(data, names) for column in guide.columns])


def in_words(guides: Sequence[Guide]) -> list[str]:
    """A line for each factor that does not guide by its values: which latents it guides, and how."""
    pairs = zip(guides, spans(guides), strict=True)
    return [guide.in_words(span.start + 1) for guide, span in pairs if not guide.plain]


def spans(guides: Iterable[Guide]) -> list[slice]:
    """Which latents each factor guides."""
    ends = np.cumsum([0, *(len(guide.columns) for guide in guides)]).tolist()
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def check_latents(guides: Sequence[Guide], latents: int) -> None:
    """Raises InputError where the factors guide more latents than there are."""
    if (total := sum(len(guide.columns) for guide in guides)) <= latents:
        return
    needs = ", ".join(
        f"{guide.factor.name} needs {len(guide.columns)} latent{'s' * (len(guide.columns) > 1)}"
        + f" ({len(guide.levels)} classes)" * guide.by_classes
        for guide in guides
    )
    raise InputError(
        f"aux: {needs}: {total} in all, for latents = {latents}; allowed: {total} or more, best latents = "
        f"{total + ROOM}, of which {ROOM} are for what nobody measured; or labels = raw, by which each factor "
        "guides one latent"
    )
