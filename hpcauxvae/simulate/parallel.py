"""From a plan to a set, on one process or many MPI ranks, killed or not: the same data.

Chunks are dealt to the ranks, which append them to journals in the folder OUT.parts; when all are there, the ranks copy
them into the set. A start after a kill, on any number of ranks, draws what is missing: a galaxy depends on its factors,
the seed and its number in the design alone.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpcauxvae.data import journal
from hpcauxvae.data.hdf5 import refuse_existing
from hpcauxvae.data.journal import SUFFIX, Journal, Stored
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.simulate.dealer import Dealer
from hpcauxvae.simulate.plan import Missing, Plan, intervals
from hpcauxvae.simulate.ranks import Ranks
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


class _Drawn(NamedTuple):
    """The part of a rank: the name of its journal, its records (M, 3), seconds of drawing."""

    name: str
    records: np.ndarray
    seconds: float


def run(prepare: Callable[[], tuple[Plan, np.ndarray]], ranks: Ranks) -> tuple[Plan, Done]:
    """Makes the set that `prepare`, called on rank 0, plans; the array is its factors' values (N, F).

    What was done is known to rank 0 only.

    Raises InputError, on every rank, where the output exists or is being written, or the disk does not take it.
    """
    locks: list[RunLock] = []
    plan = ranks.first(lambda: _claim(*prepare(), locks))
    try:
        with _no_lock_left_by_signals(locks):
            paths, found = _found(plan, ranks)
            missing = ranks.first(lambda: _missing(plan, found))
            name = f"{len(paths):06d}"
            drawn = ranks.each(lambda: _draw(plan, Missing(missing), ranks, name))
            if ranks.rank == 0:
                paths, found = _with_new(plan, paths, found, drawn)
            store(plan, ranks, paths, found)
            ranks.first(lambda: shutil.rmtree(plan.parts, ignore_errors=True))
    finally:
        for lock in locks:
            lock.release()
    return plan, _summary(plan, missing, drawn) if ranks.rank == 0 else Done(0, 0.0)


@contextmanager
def _no_lock_left_by_signals(locks: list[RunLock]) -> Iterator[None]:
    """A signal, such as a batch system sends at the time limit, frees the locks and then ends the process as always."""

    def end(number: int, frame: Any) -> None:
        for lock in locks:
            lock.release()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if not locks or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summary(plan: Plan, missing: np.ndarray, drawn: list[_Drawn]) -> Done:
    galaxies = plan.rows.count(missing)
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


def _found(plan: Plan, ranks: Ranks) -> tuple[list[Path], Stored]:
    """The journals of earlier starts and, on rank 0, the whole chunks in them."""
    paths = ranks.first(plan.journals)
    parts = ranks.each(
        lambda: [
            journal.scan(path, number, plan.rows)
            for number, path in enumerate(paths)
            if number % ranks.size == ranks.rank
        ]
    )
    empty = Stored(*(np.empty(0, np.int64) for _ in Stored._fields))
    return paths, journal.distinct([empty, *(found for part in parts for found in part)])


def _missing(plan: Plan, found: Stored) -> np.ndarray:
    """(M, 2): runs of chunks to be drawn. Raises InputError where the disk has no room for these and the set."""
    absent = np.ones(plan.rows.chunks, bool)
    absent[found.chunk] = False
    needed, disk = (plan.rows.n + plan.chunk * int(absent.sum())) * plan.rows.row_bytes, shutil.disk_usage(plan.parts)
    if disk.total > 0 and disk.free < needed:
        if absent.all():
            shutil.rmtree(plan.parts)
        raise InputError(
            f"{plan.out}: {needed / 1e9:.2g} GB are needed, for what is drawn and for the set made of it; "
            f"{disk.free / 1e9:.2g} GB are free"
        )
    return intervals(np.flatnonzero(absent))


def _with_new(plan: Plan, paths: list[Path], found: Stored, drawn: list[_Drawn]) -> tuple[list[Path], Stored]:
    """With the journals of this start."""
    parts = [found]
    for part in drawn:
        if part.name:
            chunk, offset, crc = part.records.T
            parts.append(Stored(chunk, np.full(len(chunk), len(paths), np.int64), offset, crc))
            paths.append(plan.parts / part.name)
    return paths, journal.distinct(parts)


def _draw(plan: Plan, missing: Missing, ranks: Ranks, name: str) -> _Drawn:
    """Draws and stores the chunks that are dealt to this rank."""
    values = np.load(plan.values_path, mmap_mode="r")
    painter = painter_of(plan.scene, plan.seed, plan.device)
    dealer = Dealer(ranks, len(missing))
    stored: Journal | None = None
    began = time.monotonic()
    try:
        with (
            closing(dealer.grants()) as grants,
            Progress(
                plan.rows.count(missing.runs),
                "galaxy",
                speaks=ranks.rank == 0,
                every_s=_LINE_EVERY_S,
                lines_to=sys.stderr,  # what is piped on is the result alone
            ) as progress,
        ):
            for position in grants:
                chunk = missing[position]
                stored = stored or Journal(plan.parts / f"{name}-{ranks.rank:06d}{SUFFIX}")
                stored.append(chunk, _paint(plan, painter, values, chunk, dealer))
                dealer.done[ranks.rank] += 1
                progress.advance(min(int(dealer.done.sum()) * plan.chunk, progress.total) - progress.done)
                if progress.is_due():
                    progress.say(f"{progress.rate:.0f} a second")
            seconds = time.monotonic() - began
    finally:
        if stored:
            stored.close()
    records = np.array(stored.records if stored else [], np.int64).reshape(-1, 3)
    return _Drawn(stored.path.name if stored else "", records, seconds)


def _paint(plan: Plan, painter: Painter, values: np.ndarray, chunk: int, dealer: Dealer) -> bytes:
    """The stamps of a chunk."""
    rows = plan.rows.of(chunk)
    stamps = np.empty((len(rows), *plan.scene.shape), "<f4")
    painter(np.asarray(values[rows.start : rows.stop]), plan.start + rows.start, stamps, dealer.serve)
    return stamps.tobytes()
