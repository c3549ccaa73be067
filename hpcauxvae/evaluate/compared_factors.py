"""Runs beside each other in the terms of a factor: how far each misses an angle, how often it tells the class.

So runs can be compared that a factor guides in different ways, by cosine and sine or by its own values. Shape suffixes:
N samples, Z latents, C runs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.guides import Guide, spans
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.metrics.by_kind import misses
from hpcauxvae.metrics.codes import FEWEST
from hpcauxvae.metrics.intervals import Score, mean_score
from hpcauxvae.metrics.reading import nearest
from hpcauxvae.types import Factor


class Row(NamedTuple):
    """A score of each run, and what each differs by from the first."""

    name: str
    better: str
    unit: str
    values: list[Score]
    differences: list[Score]


def of_factors(
    data: ImageSet, index_N: NDArray, guides: Sequence[tuple[Guide, ...]], mean_CNZ: Sequence[NDArray]
) -> list[Row]:
    """Of each factor that guides in all runs, and not in all by its own values.

    guides: of each run; mean_CNZ: its posterior means. Samples whose class some run does not know are left out.
    """
    rows = []
    for factor, own in shared(guides):
        if all(guide.plain for guide in own):
            continue
        values_N = data.values[index_N, data.column([factor.name])[0]]
        known_N = ~np.isnan(values_N)
        for guide in own:
            known_N &= np.isin(values_N, guide.levels) if guide.by_classes else True
        if np.count_nonzero(known_N) < FEWEST:
            continue
        off_CN = np.stack(
            [
                misses(values_N, _told(guide, of_run, mean_NZ, values_N[known_N]), factor)[known_N]
                for guide, of_run, mean_NZ in zip(own, guides, mean_CNZ, strict=True)
            ]
        )
        classes = factor.kind == "categorical"
        score_CN = 1 - off_CN if classes else off_CN
        name, better = ("accuracy of", "higher") if classes else ("mean error of", "lower")
        differences = [mean_score(one_N - score_CN[0]) for one_N in score_CN]
        unit = "" if classes else factor.unit
        rows.append(Row(f"{name} {factor.name}", better, unit, [*map(mean_score, score_CN)], differences))
    return rows


def shared(guides: Sequence[tuple[Guide, ...]]) -> list[tuple[Factor, list[Guide]]]:
    """The factors that guide in all runs, in the order of the first, and how they do in each."""
    by_name = [{guide.factor[:2]: guide for guide in of_run} for of_run in guides]
    return [
        (guide.factor, [named[guide.factor[:2]] for named in by_name])
        for guide in guides[0]
        if all(guide.factor[:2] in named for named in by_name)
    ]


def left_out(names: Sequence[str], guides: Sequence[tuple[Guide, ...]]) -> list[str]:
    """A line on each factor that is not compared, or of which the latents are not, and why. names: of the runs."""
    lines, alike = [], {factor[:2]: own for factor, own in shared(guides)}
    for factor in dict.fromkeys(guide.factor[:2] for of_run in guides for guide in of_run):
        pairs = zip(names, guides, strict=True)
        where = [name for name, of_run in pairs if factor in {guide.factor[:2] for guide in of_run}]
        if factor not in alike:
            lines.append(f"{factor[0]} is not compared: it guides in {', '.join(where)} alone")
        elif any(guide != alike[factor][0] for guide in alike[factor]):
            how = "; ".join(f"in {name} {_how(guide)}" for name, guide in zip(names, alike[factor], strict=True))
            lines.append(
                f"{factor[0]} guides in different ways ({how}): what is told of it is compared, not its latents"
            )
    return lines


def _told(guide: Guide, of_run: tuple[Guide, ...], mean_NZ: NDArray, values_N: NDArray) -> NDArray:
    """What a run tells of a factor, (N,), in its unit; of classes the nearest of those that occur."""
    told_N = guide.unscaled(mean_NZ[:, spans(of_run)[of_run.index(guide)]])
    return nearest(told_N, np.unique(values_N)) if guide.factor.kind == "categorical" and guide.plain else told_N


def _how(guide: Guide) -> str:
    if guide.plain:
        return "by its values"
    if guide.by_angle:
        return "by cosine and sine"
    return f"by {len(guide.levels)} {'classes' if guide.by_classes else 'ranks'}"
