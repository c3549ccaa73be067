"""Early stopping with two objectives: a trial that too many others dominate at the same epoch is stopped there.

At each rung (a quarter and a half of the epochs) a trial is compared with all that reached it before. It goes on if
none of them dominates it, so the Pareto front of a rung is never discarded, or if fewer dominate it than the median
trial. That is the asynchronous successive halving of Li et al. 2020 (eta = 2) on the dominance rank of Fonseca &
Fleming 1993. DeepHyper's own stoppers know one objective only.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from hpo.problem import Objectives, dominated_by

FRACTIONS = (0.25, 0.5)
FEWEST = 4
"""Trials at a rung, this one included, before one is stopped."""


def rungs(epochs: int) -> list[int]:
    """Epochs after which trials are compared."""
    return sorted({max(1, round(epochs * fraction)) for fraction in FRACTIONS} - {epochs})


def read_curve(run: Path) -> dict[int, Objectives]:
    """Epoch to objectives, from a run's metrics.jsonl; a line that is still being written waits for its end."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return {}
    curve = {}
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            row = json.loads(line)
            curve[row["epoch"]] = Objectives.of(row["validation"])
    return curve


def judge(own: Objectives, others: list[Objectives]) -> dict[str, Any]:
    """What happens to a trial at a rung: by how many of how many others it is dominated, and whether it goes on."""
    values_N2 = np.array([objectives.compared for objectives in (own, *others) if objectives.finite])
    ranks_N = dominated_by(values_N2)
    goes_on = ranks_N[0] == 0 or len(ranks_N) < FEWEST or bool(ranks_N[0] < np.median(ranks_N))
    return {**own._asdict(), "dominated_by": int(ranks_N[0]), "of": len(ranks_N) - 1, "goes_on": bool(goes_on)}
