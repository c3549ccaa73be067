"""What the scores of a set say, in words: one line a finding, each with the figure that it rests on.

A finding is a function of the set's block of metrics.json, which yields lines; a block without the scores that it looks
at gives none. A new finding is a function here and a line in `FINDINGS`.
"""

from collections.abc import Callable, Iterator
from typing import Any

Block = dict[str, Any]

CEILING_PASSED = 1.02
"""Share of its ceiling above which a score says more of the factors than of the code: a perfect code has 1."""
CEILING_LOW = 0.7
"""A ceiling below this leaves less room above it than a lost factor costs."""

READABLE = 0.5
"""Correlation with a factor of real images below which the reader cannot tell whether the factor steers."""
STEERS = 0.5
"""Share of the reader's correlation in real images below which a factor does not steer the image."""
STEERS_ALONE = 0.3
"""Share of its slope there, beside the other factors, below which a factor is followed through the others alone."""


def verdicts(block: Block) -> list[str]:
    """The findings on a set; where there are none, a line that says what was looked at."""
    found = [line for finding in FINDINGS for line in finding(block)]
    return found or [f"nothing found in {', '.join(name for name in LOOKED_AT if block.get(name))}"]


def ceilings(block: Block) -> Iterator[str]:
    """A ceiling that was passed, or that is low."""
    score = block["codes"].get("lds")
    if score is None:
        return
    share = score["value"] / score["attainable"]
    if share > CEILING_PASSED:
        yield f"LDS is {share:.2f} of its ceiling"
    if score["attainable"] < CEILING_LOW:
        yield f"the ceiling of LDS is {score['attainable']:.2f}"


def control(block: Block) -> Iterator[str]:
    """Factors that do not steer the image, or of which nothing can be said."""
    if "control" not in block:
        return
    if block["control"]["effectiveness"] is None:
        yield "whether factors steer the image cannot be judged: too few images to train a reader, or to ask for"
        return
    for name, found in block["control"]["effectiveness"].items():
        asked, real = found["asked"], found["real"]
        figures = (
            f"asked against read r = {asked['r']['value']:.2f} (slope {asked['slope']['value']:.2f}), "
            f"{real['r']['value']:.2f} on real images"
        )
        if real["r"]["value"] < READABLE:
            yield (
                f"{name}: the reader does not find it in real images (r = {real['r']['value']:.2f}): whether it steers "
                "the image cannot be judged"
            )
        elif asked["r"]["high"] < 0:
            yield f"{name} steers the image backwards: {figures}"
        elif asked["r"]["high"] < STEERS * real["r"]["value"]:
            yield f"{name} does not steer the image: {figures}"
        elif asked["own"]["high"] < STEERS_ALONE * real["own"]["value"]:
            yield (
                f"{name} does not steer the image but through factors that go with it: slope beside them "
                f"{asked['own']['value']:.2f}, {real['own']['value']:.2f} on real images"
            )


FINDINGS: tuple[Callable[[Block], Iterator[str]], ...] = (ceilings, control)
LOOKED_AT = ("codes", "images", "control")
