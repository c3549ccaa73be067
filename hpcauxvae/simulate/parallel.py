"""From a plan to a set, on one process or many MPI ranks, killed or not: the same data.

Chunks are dealt to the ranks, which append them to journals in the folder OUT.parts; when all are there, the ranks copy
them into the set. A start after a kill, on any number of ranks, draws what is missing: a galaxy depends on its factors,
the seed and its number in the design alone.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcauxvae.data.dealt import Made, Missing, found_in, journals_of, make_dealt, missing_of, next_journal, with_made
from hpcauxvae.data.hdf5 import refuse_existing
from hpcauxvae.data.journal import Stored
from hpcauxvae.runtime.lock import RunLock, freed_by_signals
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.runtime.ranks import Ranks
from hpcauxvae.simulate.plan import Plan
from hpcauxvae.simulate.stamps import Painter, painter_of
from hpcauxvae.simulate.storage import store
from hpcauxvae.types import InputError

_LINE_EVERY_S = 10.0


class Done(NamedTuple):
    """What a start did."""

    drawn: int
    """Galaxies; the others were left by an earlier start."""
    idle: float
    """Mean share of the drawing's time that ranks waited at its end."""


def run(prepare: Callable[[], tuple[Plan, np.ndarray]], ranks: Ranks) -> tuple[Plan, Done]:
    """Makes the set that `prepare`, called on rank 0, plans; the array is its factors' values (N, F).

    What was done is known to rank 0 only.

    Raises InputError, on every rank, where the output exists or is being written, or the disk does not take it.
    """
    locks: list[RunLock] = []
    plan = ranks.first(lambda: _claim(*prepare(), locks))
    try:
        with freed_by_signals(locks):
            paths = ranks.first(lambda: journals_of(plan.parts))
            found = found_in(paths, plan.rows, ranks)
            missing = ranks.first(lambda: _missing(plan, found))
            own = next_journal(plan.parts, paths, ranks.rank)
            drawn = ranks.each(lambda: _draw(plan, missing, ranks, own))
            if ranks.rank == 0:
                paths, found = with_made(paths, found, drawn)
            store(plan, ranks, paths, found)
            ranks.first(lambda: shutil.rmtree(plan.parts, ignore_errors=True))
    finally:
        for lock in locks:
            lock.release()
    return plan, _summary(plan, missing, drawn) if ranks.rank == 0 else Done(0, 0.0)


def _summary(plan: Plan, missing: Missing, drawn: list[Made]) -> Done:
    galaxies = plan.rows.count(missing.runs)
    seconds = np.array([part.seconds for part in drawn])
    idle = 1 - seconds.mean() / seconds.max() if galaxies else 0.0
    return Done(galaxies, float(idle))


def _claim(plan: Plan, values: np.ndarray, locks: list[RunLock]) -> Plan:
    """Takes the output and its folder of parts, if they are free and what is in it is of this plan."""
    refuse_existing(plan.out)
    if plan.shards.exists() and not plan.parts.exists():
        raise InputError(f"{plan.shards}: exists already; remove it or name another file")
    lock = RunLock(plan.parts)
    lock.acquire()
    try:
        plan.record(values)
    except BaseException:
        lock.release()
        raise
    locks.append(lock)
    return plan


def _missing(plan: Plan, found: Stored) -> Missing:
    """The chunks to be drawn. Raises InputError where the disk has no room for these and the set."""
    missing = missing_of(plan.rows, found)
    needed, disk = (plan.rows.n + plan.chunk * len(missing)) * plan.rows.row_bytes, shutil.disk_usage(plan.parts)
    if disk.total > 0 and disk.free < needed:
        if len(missing) == plan.rows.chunks:
            shutil.rmtree(plan.parts)
        raise InputError(
            f"{plan.out}: {needed / 1e9:.2g} GB are needed, for what is drawn and for the set made of it; "
            f"{disk.free / 1e9:.2g} GB are free"
        )
    return missing


def _draw(plan: Plan, missing: Missing, ranks: Ranks, path: Path) -> Made:
    """Draws and stores the chunks that are dealt to this rank."""
    progress = Progress(
        plan.rows.count(missing.runs),
        "galaxy",
        speaks=ranks.rank == 0,
        every_s=_LINE_EVERY_S,
        lines_to=sys.stderr,  # what is piped on is the result alone
    )

    def maker() -> Callable[[int, Callable[[], None]], bytes]:
        values = np.load(plan.values_path, mmap_mode="r")
        painter = painter_of(plan.scene, plan.seed, plan.device)
        return lambda chunk, serve: _paint(plan, painter, values, chunk, serve)

    with progress:
        return make_dealt(ranks, plan.rows, missing, path, maker, progress, lambda: f"{progress.rate:.0f} a second")


def _paint(plan: Plan, painter: Painter, values: np.ndarray, chunk: int, serve: Callable[[], None]) -> bytes:
    """The stamps of a chunk."""
    rows = plan.rows.of(chunk)
    stamps = np.empty((len(rows), *plan.scene.shape), "<f4")
    painter(np.asarray(values[rows.start : rows.stop]), plan.start + rows.start, stamps, serve)
    return stamps.tobytes()
