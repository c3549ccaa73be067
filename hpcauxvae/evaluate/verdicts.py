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


FINDINGS: tuple[Callable[[Block], Iterator[str]], ...] = (ceilings,)
LOOKED_AT = ("codes", "images")
