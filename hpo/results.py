"""What the trials of a search amount to: the front, the choice, and how busy the workers were. Suffix N: trials."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.pareto import choose, dominated_by, hypervolume, paper_products
from hpo.logbook import Row

STATES = ("finished", "stopped", "failed")
"""Of a trial that ended."""


def finished(rows: Sequence[Row]) -> list[Row]:
    """Those that count: all their epochs done."""
    return [row for row in rows if row.state == "finished"]


def compared(rows: Sequence[Row]) -> NDArray:
    """(N, 2): log10 MSE and 1 - LDS / attainable of those that have them."""
    return np.array([row.objectives.compared for row in rows if row.objectives]).reshape(-1, 2)


def front(rows: Sequence[Row]) -> list[Row]:
    """The Pareto front of the finished trials, from the best MSE to the best LDS."""
    rows = finished(rows)
    best = [row for row, rank in zip(rows, dominated_by(compared(rows)), strict=True) if rank == 0]
    return sorted(best, key=lambda row: row.objectives or ())


def chosen(rows: Sequence[Row]) -> Row | None:
    """The trial that our rule chooses; None where none finished."""
    rows = finished(rows)
    return rows[choose(compared(rows))] if rows else None


def papers_choice(rows: Sequence[Row]) -> Row | None:
    """The trial that the paper's rule would choose."""
    rows = finished(rows)
    if not rows:
        return None
    objectives_N2 = np.array([row.objectives for row in rows])
    return rows[int(paper_products(*objectives_N2.T).argmin())]


def worst(rows: Sequence[Row]) -> NDArray:
    """(2,): the worst finished value of each objective, the reference point of the hypervolume."""
    return compared(finished(rows)).max(0)


def hypervolumes(rows: Sequence[Row], reference_2: NDArray) -> NDArray:
    """(N,): hypervolume of the finished among the first 1, 2, ... N trials that ended, of whatever state."""
    return np.array([hypervolume(compared(finished(rows[: n + 1])), reference_2) for n in range(len(rows))])


def utilisation(rows: Sequence[Row], workers: int) -> float:
    """Fraction of their time that the workers ran trials, from the first start to the last, while there was work.

    The rows are those of a single session.
    """
    began, last = min(row.started for row in rows), max(row.started for row in rows)
    busy = sum(max(0.0, min(row.ended, last) - row.started) for row in rows)
    return busy / (workers * (last - began)) if last > began else 1.0
