"""Factors that guide by several columns, or by ranks, in their own terms: degrees, classes and values, not columns.

Shape suffixes: N samples, F factors, D columns that guide.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.guides import Guide, spans
from hpcauxvae.metrics.by_kind import agreement
from hpcauxvae.types import Factor

Block = dict[str, Any]

NOT_READ, IN_PART = 0.1, 0.5
"""Skills below which a factor is not read, and read in part: a tenth, and half, of what a constant answer leaves."""
WORSE_THAN_PLAIN = 0.05
"""Skill by which the ridge regression must be better before it is told."""
STEERS_WELL = 0.8
"""Share of the skill in real images below which a factor steers in part."""


def by_factor(guides: Sequence[Guide], values_ND: NDArray, told: dict[str, NDArray]) -> dict[str, Block]:
    """metrics.by_kind.agreement of each factor that does not guide by its own values, by its name.

    values_ND: the columns that guide, in their units, as measured; told: by a name what somebody tells of them, (N, D)
    each. Each block has a score for each of these names beside `kind`, `unit`, `columns` (their names), `classes` (how
    many), `absent` (those without a sample) and `chance`.
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
            "absent": _absent(guide, values_N),
            "chance": chance,
        } | {name: {key: score for key, score in of.items() if key != "chance"} for name, of in scores.items()}
    return found


def _absent(guide: Guide, values_N: NDArray) -> list[str]:
    """The classes of which there is no sample."""
    texts = zip(guide.levels, guide.texts, strict=True) if guide.by_classes else ()
    return [text for level, text in texts if not (values_N == level).any()]


def in_units(scaled_ND: NDArray, columns: Sequence[Factor]) -> NDArray[np.float64]:
    """Columns on the scale from 0 to 1 in their units."""
    return np.stack([f.unscale(z_N) for f, z_N in zip(columns, scaled_ND.T, strict=True)], 1)


def of_classes(block: Block) -> dict[str, str]:
    """The factor of each column of `reading` and the like that stands for a class: the factor speaks for them."""
    found = block.get("factors", {})
    return {column: name for name, of in found.items() if of["classes"] for column in of["columns"]}


def without_classes(block: Block, key: str, most: bool = False) -> dict[str, Block]:
    """What a part of the block has of columns, without those of classes.

    most: of each factor that column stays of which residual latents tell most.
    """
    classes, found = of_classes(block), block.get(key, {})
    stays = set[str]()
    for factor in {classes[name] for name in found if name in classes} if most else ():
        own = [name for name in found if classes.get(name) == factor]
        stays.add(max(own, key=lambda name: found[name]["means"]["value"]))
    return {name: of for name, of in found.items() if name not in classes or name in stays}


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


def as_a_whole(block: Block) -> Iterator[str]:
    """Factors of which their latents together tell little, or less than the ridge regression does."""
    for name, of in block.get("factors", {}).items():
        if absent := of.get("absent"):
            yield (
                f"no image here is of class {', '.join(absent)} of {name}: no score tells whether these are read, or "
                "steer"
            )
        own, plain = skill(of["latents"], of["chance"]), skill(of["regressor"], of["chance"])
        worse = _bounds(of["regressor"], of["chance"])[0] - _bounds(of["latents"], of["chance"])[1] > WORSE_THAN_PLAIN
        figures = f"{in_words(of['latents'], of)}; by chance {of['chance']:.2g}"
        figures += f"; the ridge regression has {score_of(of['regressor'])['value']:.3g}" * (plain > own)
        if own < NOT_READ:
            yield f"{name} is not read ({figures})"
        elif own < IN_PART:
            yield f"{name} is read in part ({figures})"
        elif worse:
            yield f"{name} is read less well than could be ({figures})"


def steering(block: Block) -> Iterator[str]:
    """Factors that do not steer the image, as a whole."""
    for name, of in (block.get("control") or {}).get("factors", {}).items():
        asked, real = skill(of["asked"], of["chance"]), skill(of["real"], of["chance"])
        figures = f"what is read of what was asked for: {in_words(of['asked'], of)}; on real images: "
        figures += f"{in_words(of['real'], of)}; by chance {of['chance']:.2g}"
        if real < IN_PART:
            yield f"{name}: the reader does not find it in real images: whether it steers cannot be judged ({figures})"
        elif asked < IN_PART * real:
            yield f"{name} does not steer the image: {figures}"
        elif asked < STEERS_WELL * real:
            yield f"{name} steers the image in part: {figures}"


def _bounds(found: Block, chance: float) -> tuple[float, float]:
    """Of the skill, the lower first."""
    low, high = sorted((skill(found, chance, "low"), skill(found, chance, "high")))
    return low, high
