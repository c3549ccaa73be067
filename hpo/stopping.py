"""Early stopping with two objectives: a trial that too many others beat at the same epoch is stopped there.

At each rung (an eighth, a quarter and a half of the epochs) a trial is compared with all that reached it before, by the
best that each had so far in either objective: LDS goes up and down while the learning rate is high. A trial beats
another if it is better in both objectives by more than the noise of an unfinished training. A trial goes on if no other
beats it, so the Pareto front of a rung is never discarded, or if fewer beat it than the median trial. That is the
asynchronous successive halving of Li et al. 2020 (eta = 2) on the dominance rank of Fonseca & Fleming 1993, with
margins. DeepHyper's own stoppers know a single objective.
"""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpo.logbook import Row
from hpo.problem import Objectives

FRACTIONS = (0.125, 0.25, 0.5)
MARGINS = (0.05, 0.3)
"""By how many decades of MSE and how much of 1 - LDS / attainable a trial must be better to beat another; what narrower
and wider margins save and lose is in results/search/README.md."""
FEWEST = 4
"""Trials at a rung, the judged trial included, before any is stopped."""


def rungs(epochs: int) -> list[int]:
    """Epochs after which trials are compared."""
    return sorted({max(1, round(epochs * fraction)) for fraction in FRACTIONS} - {epochs})


def read_curve(run: Path) -> dict[int, Objectives]:
    """Epoch to objectives, from a run's metrics.jsonl; a line that is still being written waits for its end.

    Damaged lines are left out.
    """
    path = run / "metrics.jsonl"
    if not path.exists():
        return {}
    curve = {}
    for line in path.read_text(errors="replace").splitlines(keepends=True):
        with contextlib.suppress(ValueError, KeyError, TypeError, ZeroDivisionError):
            if line.endswith("\n"):
                row = json.loads(line)
                curve[row["epoch"]] = Objectives.of(row["validation"])
    return curve


def expected(row: Row, finished: Sequence[Row]) -> tuple[float, float] | None:
    """log10 MSE and gap of a trial at the end of its training: for a stopped trial by the median change of others.

    The change from the rung where it was stopped, of the finished trials that were looked at there; None before the
    first of them.
    """
    assert row.objectives is not None
    if row.state != "stopped":
        return row.objectives.compared
    rung = row.rungs[-1]
    changes = [
        np.subtract(other.objectives.compared, Objectives(seen["mse"], seen["gap"]).compared)
        for other in finished
        for seen in other.rungs
        if seen["epoch"] == rung["epoch"] and other.objectives
    ]
    if not changes:
        return None
    log_mse, gap = Objectives(rung["mse"], rung["gap"]).compared + np.median(changes, 0)
    return float(log_mse), float(gap)


def best_so_far(curve: Mapping[int, Objectives], epoch: int) -> Objectives:
    """The smallest value of either objective up to an epoch, those that are not finite aside."""
    known = [o for at, o in curve.items() if at <= epoch and o.finite]
    return Objectives(min(o.mse for o in known), min(o.gap for o in known)) if known else Objectives(math.nan, math.nan)


def judge(own: Objectives, others: list[Objectives]) -> dict[str, Any]:
    """What happens to a trial at a rung: by how many of how many others it is beaten, and whether it goes on.

    Of each the best so far.
    """
    values_N2 = np.array([objectives.compared for objectives in (own, *others) if objectives.finite])
    beaten_by_N = (values_N2[:, None] + MARGINS <= values_N2[None]).all(-1).sum(0)
    count, few = int(beaten_by_N[0]), len(beaten_by_N) < FEWEST
    goes_on = count == 0 or few or bool(count < np.median(beaten_by_N))
    median = float(np.median(beaten_by_N))
    return {"beaten_by": count, "of": len(beaten_by_N) - 1, "median": median, "goes_on": goes_on}
