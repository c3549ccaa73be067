"""Factors that guide by several columns, or by ranks, in their own terms: degrees, classes and values, not columns.

Shape suffixes: N samples, F factors, D columns that guide.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.guides import Guide, spans
from hpcauxvae.metrics.by_kind import agreement
from hpcauxvae.types import Factor

Block = dict[str, Any]


def by_factor(guides: Sequence[Guide], values_ND: NDArray, told: dict[str, NDArray]) -> dict[str, Block]:
    """metrics.by_kind.agreement of each factor that does not guide by its own values, by its name.

    values_ND: the columns that guide, in their units, as measured; told: by a name what somebody tells of them, (N, D)
    each. Each block has a score for each of these names beside `kind`, `unit`, `columns` (their names), `classes` (how
    many) and `chance`.
    """
    found = {}
    for guide, span in zip(guides, spans(guides), strict=True):
        if guide.plain:
            continue
        values_N = guide.told(values_ND[:, span])
        scores = {
            name: agreement(values_N, guide.told(told_ND[:, span]), guide.factor) for name, told_ND in told.items()
        }
        if not all(scores.values()):
            continue
        chance = next(iter(scores.values()))["chance"]
        found[guide.factor.name] = {
            "kind": guide.factor.kind,
            "unit": guide.factor.unit,
            "columns": [column.name for column in guide.columns],
            "classes": len(guide.levels) if guide.by_classes else 0,
            "chance": chance,
        } | {name: {key: score for key, score in of.items() if key != "chance"} for name, of in scores.items()}
    return found


def in_units(scaled_ND: NDArray, columns: Sequence[Factor]) -> NDArray[np.float64]:
    """Columns on the scale from 0 to 1 in their units."""
    return np.stack([f.unscale(z_N) for f, z_N in zip(columns, scaled_ND.T, strict=True)], 1)


def of_classes(block: Block) -> dict[str, str]:
    """The factor of each column of `reading` and the like that stands for a class: the factor speaks for them."""
    found = block.get("factors", {})
    return {column: name for name, of in found.items() if of["classes"] for column in of["columns"]}


def score_of(found: Block) -> Block:
    """Of `agreement`: the accuracy, or the error."""
    return found.get("accuracy") or found["error"]


def in_words(found: Block, of: Block) -> str:
    """`accuracy .93`, `mean error 12 deg`: what `agreement` found of a factor with the block `of`."""
    value = score_of(found)["value"]
    return f"accuracy {value:.2f}" if "accuracy" in found else f"mean error {value:.3g} {of['unit']}".rstrip()


def skill(found: Block, chance: float, end: str = "value") -> float:
    """1 where all is told, 0 where no more is than by a constant answer."""
    value = score_of(found)[end]
    if "accuracy" in found:
        return float((value - chance) / (1 - chance)) if chance < 1 else 0.0
    return float(1 - value / chance) if chance > 0 else 0.0
