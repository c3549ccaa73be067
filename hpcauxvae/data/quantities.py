"""The measured quantities of a set, in words: which go together, have a heavy tail, or seem to be angles or classes.

N samples, F factors.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.guides import Guide, spans
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.likely_kinds import Likely, likely_kinds
from hpcauxvae.types import Factor

_LONG = 3.5
"""Ratio of the two ends of a heavy-tailed quantity, from median to 99 % over from 1 % to median, at least: of
exponential values it is 6, of those within a factor of e about their median (one standard deviation) 10."""
_EVENER = 0.55
"""Part of the logarithm of that ratio that may be left, up or down, where the quantity's logarithm is taken."""
_TOGETHER = 0.3
"""|r| from which two quantities are named."""
_COPY = 0.999
"""|r| above which two quantities are the same, but for unit, sign and noise."""
_MOST = 12
"""Quantities of which a matrix is still read, and pairs that are named."""
_LONGEST = 10
"""Letters of a name above a column."""
_FEWEST, _SAMPLES = 3, 100_000
"""Samples with both that a correlation needs, and samples that tell it at most, evenly spread: to within .003."""


def heavy_tailed(factor: Factor, values_N: NDArray) -> bool:
    """Whether a positive quantity, not yet scaled by its logarithm, has a long tail which that makes an even end."""
    measured = values_N[~np.isnan(values_N)]
    if factor.kind != "continuous" or factor.transform != "linear" or measured.min(initial=np.inf) <= 0:
        return False
    ends = _ends(measured)
    return ends > _LONG and bool(abs(np.log(_ends(np.log(measured)))) < _EVENER * np.log(ends))


def _ends(values_N: NDArray) -> float:
    """Of values of which more than half are the lowest one they have no ratio: 1."""
    low, middle, high = np.quantile(values_N, (0.01, 0.5, 0.99))
    return float((high - middle) / (middle - low)) if middle > low else 1.0


def correlations(values_NF: NDArray) -> NDArray[np.float64]:
    """Pearson correlations (F, F), of each two columns in the samples that have both, of 100,000 of them at most; NaN
    where too few have, or where one is constant there."""
    values_NF = values_NF[:: -(-len(values_NF) // _SAMPLES) or 1]
    count = values_NF.shape[1]
    found = np.full((count, count), np.nan)
    for one in range(count):
        for other in range(one + 1):
            pair = values_NF[:, [one, other]]
            pair = pair[np.isfinite(pair).all(1)]
            if len(pair) >= _FEWEST and np.ptp(pair, 0).all():
                centred = pair - pair.mean(0)
                size = np.sqrt(np.square(centred).sum(0))
                found[one, other] = found[other, one] = (centred / size).prod(1).sum()
    return found


def doubled(data: ImageSet, guides: Sequence[Guide]) -> dict[int, str]:
    """Which of these guides say what another of them says already, by their places, and how: latents that are guided by
    the same quantity cannot be told apart.

    Of two the one with more columns guides, or the first. Classes of which there are many are not looked at.
    """
    few = [place for place, guide in enumerate(guides) if len(guide.columns) <= _MOST]
    own = [guides[place].scaled(data.values[:, data.column([guides[place].factor.name])[0]]) for place in few]
    r_TT = np.abs(correlations(np.concatenate(own, 1))) if own else np.empty((0, 0))
    columns = dict(zip(few, spans(guides[place] for place in few), strict=True))
    kept, found = list[int](), dict[int, str]()
    for place in sorted(few, key=lambda place: -len(guides[place].columns)):
        for other in kept:
            same = np.flatnonzero((r_TT[columns[place], columns[other]] > _COPY).any(0))
            if len(same):
                found[place] = _copied(guides[other], guides[other].columns[same[0]].name)
                break
        else:
            kept.append(place)
    return found


def _copied(guide: Guide, column: str) -> str:
    if guide.by_angle:
        return f"{guide.factor.name} guides by its own cosine and sine"
    return f"it is a copy of {column}" + f", by which {guide.factor.name} guides" * (not guide.plain)


def described(data: ImageSet) -> Iterator[str]:
    """Lines on the quantities that are numbers in order: their correlations, and with what to do heavy tails, and those
    that seem to be angles or classes."""
    columns = [n for n, factor in enumerate(data.factors) if factor.kind in ("continuous", "ordinal")]
    names = [data.factors[column].name for column in columns]
    if len(columns) > 1:
        yield from _matrix(names, correlations(data.scaled()[:, columns]))
    logarithmic = []
    for column, name in zip(columns, names, strict=True):
        if heavy_tailed(data.factors[column], data.values[:, column]):
            middle, most = np.nanmedian(data.values[:, column]), np.nanmax(data.values[:, column])
            logarithmic.append(name)
            yield (
                f"{name}: half of its values are below {middle:.3g}, and the largest is {most:.3g}; `data import` with "
                f"--log {name} scales it by its logarithm"
            )
    likely = list(likely_kinds(data, columns))
    yield from map(str, likely)
    if likely or logarithmic:
        yield f"all of that: {_corrected(data.path, likely, logarithmic)}"
        yield "the command below takes them as they are; `data check` of the new set proposes another"


def _corrected(path: Path, likely: Sequence[Likely], logarithmic: Sequence[str]) -> str:
    """The command that makes a set in which quantities are what they seem to be."""
    kinds = [f"{one.name}={one.kind}" for one in likely]
    turns = [f"{one.name}={one.turn}" for one in likely if one.turn]
    words = ["hpcauxvae", "data", "import", str(path), str(path.with_stem(f"{path.stem}-kinds"))]
    for option, given in (("--kind", kinds), ("--range", turns), ("--log", logarithmic)):
        words += [option, ",".join(given)] if given else []
    return shlex.join(words)


def _matrix(names: list[str], r_FF: NDArray) -> Iterator[str]:
    """Below the diagonal; and in words what is far from 0."""
    rows = range(1, len(names))
    if len(names) <= _MOST:
        first = max(len("correlations"), *map(len, names[1:]))
        heads = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names[:-1]]
        wide = [max(5, len(head)) for head in heads]
        yield "  ".join([f"{'correlations':{first}}", *(f"{h:>{w}}" for h, w in zip(heads, wide, strict=True))])
        for row in rows:
            cells = (f"{_shown(r):>{w}}" for r, w in zip(r_FF[row, :row], wide, strict=False))
            yield "  ".join([f"{names[row]:{first}}", *cells])
    pairs = [(one, other) for one in rows for other in range(one) if abs(r_FF[one, other]) >= _TOGETHER]
    pairs.sort(key=lambda pair: -abs(r_FF[pair]))
    if pairs:
        told = ", ".join(
            f"{names[other]} and {names[one]} (r = {_shown(r_FF[one, other])})" for one, other in pairs[:_MOST]
        )
        more = f" and {len(pairs) - _MOST} more pairs" if len(pairs) > _MOST else ""
        yield f"go together: {told}{more}; so will the latents that they guide"


def _shown(r: float) -> str:
    return "–" if np.isnan(r) else f"{r:z.2f}"
