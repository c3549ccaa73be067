"""From a plan to the set, by several processes or MPI ranks, killed or not: the same bytes.

Each process appends the blocks that it made to a journal in the folder OUT.parts; when all are there, they are copied
into the set, which then gets its name. A start after a kill makes what is missing.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcauxvae.data.dealt import Missing, found_in, journals_of, make_dealt, missing_of, next_journal
from hpcauxvae.data.hdf5 import create, refuse_existing
from hpcauxvae.data.importing.plan import Plan
from hpcauxvae.data.importing.recipe import Recipe, holes_in
from hpcauxvae.data.importing.rehearsal import rehearse
from hpcauxvae.data.journal import Journal, Reader, Rows, Stored
from hpcauxvae.runtime.files import attempt, refuse_unwritable, write_json
from hpcauxvae.runtime.lock import RunLock, freed_by_signals
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.runtime.ranks import Ranks
from hpcauxvae.types import InputError

_BLOCK_BYTES, _BLOCK_ROWS = 4 << 20, 256
"""At most, of a block."""
_LINE_EVERY_S = 10.0
_RUN = 8
"""Parts of what is left, a process, of which one is dealt at a time: neighbours are read together."""


class Refused(InputError):
    """An image that cannot be taken: what was made of the others is of no use."""


class _Work(NamedTuple):
    """What every rank knows of a plan."""

    recipe: Recipe
    rows: Rows
    parts: Path
    """The folder of journals."""


def make(plan: Plan, processes: int | None = None) -> None:
    """Raises InputError where an image is refused, and then leaves nothing; where the disk does not take it, too."""
    make_on(Ranks({}), lambda: plan, processes)


def make_on(ranks: Ranks, prepare: Callable[[], Plan], processes: int | None = None) -> None:
    """The same on these ranks, of which rank 0 plans and puts the set together; alone, by so many processes.

    Raises InputError on every rank.
    """
    if processes is not None and (processes < 1 or ranks.size > 1):
        allowed = "1 or more" if ranks.size == 1 else f"none beside MPI, of which {ranks.size} ranks read"
        raise InputError(f"--processes {processes}: allowed is {allowed}")
    plans: list[Plan] = []
    locks: list[RunLock] = []
    work = ranks.first(lambda: _claim(prepare(), plans, locks))
    try:
        with freed_by_signals(locks):
            _make(work, plans, ranks, processes or _cores())
    except InputError as error:
        raise InputError(f"{error}{_left(work, ranks)}", reported=error.reported) from error
    finally:
        for lock in locks:
            lock.release()


def _left(work: _Work, ranks: Ranks) -> str:
    """Of a failure of the disk or of a process, which says nothing against images: what the next start goes on with."""
    if any(path.stat().st_size for path in journals_of(work.parts)):
        return f"; {work.parts} keeps what was read, and the same line goes on with it"
    if ranks.rank == 0:
        shutil.rmtree(work.parts, ignore_errors=True)
    return ""


def _claim(plan: Plan, plans: list[Plan], locks: list[RunLock]) -> _Work:
    """Takes the output and its folder of parts, if they are free and what is in it is of this plan."""
    parts = plan.out.with_name(f"{plan.out.name}.parts")
    refuse_existing(plan.out)
    refuse_unwritable(plan.out.parent)
    rehearse(plan)
    lock = RunLock(parts)
    lock.acquire()
    try:
        _record(plan, parts)
    except BaseException:
        lock.release()
        raise
    plans.append(plan)
    locks.append(lock)
    return _Work(plan.recipe, _rows(plan.recipe, plan.n), parts)


def _make(work: _Work, plans: list[Plan], ranks: Ranks, processes: int) -> None:
    """plans: on rank 0 the plan."""
    rows = work.rows
    paths, done = _found(work, ranks)
    missing = ranks.first(lambda: missing_of(rows, done))
    made = rows.n - rows.count(missing.runs)
    if made and ranks.rank == 0:
        print(f"{plans[0].out}: an earlier start made {made} of {rows.n} images")
    began = time.monotonic()
    own = ranks.deal(lambda: done.shares(ranks.size))
    holes = sum(ranks.each(lambda: _holes(work, paths, own)))
    with Progress(
        rows.n, "image", title="import", done=made, speaks=ranks.rank == 0, every_s=_LINE_EVERY_S
    ) as progress:
        read = ranks.each(lambda: _read(work, missing, paths, ranks, processes, progress))
    seconds = time.monotonic() - began
    ranks.first(lambda: _refuse(work, [problem for _, problem in read if problem]))
    holes += sum(count for count, _ in read)
    paths, found = _found(work, ranks)

    def finish() -> None:
        _say(work, rows.n - made, seconds, holes)
        _store(plans[0], work, paths, found, holes)
        shutil.rmtree(work.parts, ignore_errors=True)

    ranks.first(finish)


def _refuse(work: _Work, problems: list[str]) -> None:
    if problems:
        shutil.rmtree(work.parts, ignore_errors=True)
        raise Refused(problems[0])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rows(recipe: Recipe, n: int) -> Rows:
    return Rows(n, max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // recipe.row_bytes)), recipe.row_bytes)


def _record(plan: Plan, parts: Path) -> None:
    """Takes the folder for this plan, or finds that an earlier start did. Raises InputError where it is another's."""
    record = parts / "plan.json"
    identity = json.loads(json.dumps(plan.identity))
    if not record.exists():
        write_json(record, identity)
        return
    found = json.loads(record.read_text())
    for name in identity | found:
        old, new = found.get(name), identity.get(name)
        if old != new:
            raise InputError(
                f"{parts}: left by an unfinished import with {name} = {old!r:.99}, now {new!r:.99}; allowed: the same "
                "again, or remove the folder"
            )


def _found(work: _Work, ranks: Ranks) -> tuple[list[Path], Stored]:
    """The journals and, on rank 0, the whole blocks in them."""
    paths = ranks.first(lambda: journals_of(work.parts))
    return paths, found_in(paths, work.rows, ranks)


def _holes(work: _Work, paths: list[Path], blocks: Stored) -> int:
    """How many pixels are missing in these blocks."""
    count = 0
    with contextlib.closing(Reader(paths, work.rows)) as reader:
        for record in zip(*(column.tolist() for column in blocks), strict=True):
            images, weights = work.recipe.parts(reader.read(*record), len(work.rows.of(record[0])))
            count += holes_in(images, weights)
    return count


def _read(
    work: _Work, missing: Missing, paths: list[Path], ranks: Ranks, processes: int, progress: Progress
) -> tuple[int, str]:
    """Makes these blocks, or those dealt to this rank; how many pixels are missing in them, and why one is refused."""
    processes = 1 if ranks.size > 1 else min(processes, len(missing))
    try:
        if processes > 1:
            names = [next_journal(work.parts, paths, number) for number in range(processes)]
            return _together(work, missing, names, progress), ""
        return _dealt(work, missing, next_journal(work.parts, paths, ranks.rank), ranks, progress), ""
    except Refused as error:
        return 0, str(error)


def _dealt(work: _Work, missing: Missing, path: Path, ranks: Ranks, progress: Progress) -> int:
    holes = 0

    def block(chunk: int, serve: Callable[[], None]) -> bytes:
        nonlocal holes
        data, problem = attempt(lambda: work.recipe.block(work.rows.of(chunk), serve))
        if data is None:
            raise Refused(problem or "")
        holes += data[1]
        return data[0]

    make_dealt(ranks, work.rows, missing, path, lambda: block, progress, lambda: _rate(work, progress))
    return holes


def _rate(work: _Work, progress: Progress) -> str:
    return f"{progress.rate * work.recipe.row_bytes / 1e6:.3g} MB/s"


def _together(work: _Work, missing: Missing, names: list[Path], progress: Progress) -> int:
    """The same by a process for each name, all of which end with this one."""
    holes = 0
    context = multiprocessing.get_context("spawn")  # libraries that read have threads
    pipes, workers = [], []
    try:
        for path in names:
            here, there = context.Pipe()
            worker = context.Process(target=_work, args=(there, work.recipe, work.rows, path), daemon=True)
            worker.start()
            there.close()
            pipes.append(here)
            workers.append(worker)
        for chunk, lost in _deal(pipes, missing):
            progress.advance(len(work.rows.of(chunk)))
            holes += lost
            if progress.is_due():
                progress.say(_rate(work, progress))
        return holes
    finally:
        for pipe in pipes:
            pipe.close()
        for worker in workers:
            worker.join()


def _deal(pipes: list[Connection], missing: Missing) -> Iterator[tuple[int, int]]:
    """Runs of blocks to the processes as they ask for them; yields each that is made, and its missing pixels."""
    left, waiting = [missing[position] for position in range(len(missing))], list(pipes)
    while waiting:
        for pipe in wait(waiting):
            assert isinstance(pipe, Connection)
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionError):
                raise InputError("a process that read images ended unasked, perhaps for lack of memory") from None
            match kind:
                case "made":
                    yield value
                case "refused":
                    raise Refused(value)
                case "failed":
                    raise InputError(value)
                case "free":
                    count = -(-len(left) // (_RUN * len(pipes)))
                    pipe.send(left[:count])
                    left = left[count:]
                    if count == 0:
                        waiting.remove(pipe)


def _work(pipe: Connection, recipe: Recipe, rows: Rows, path: Path) -> None:
    """A process: makes the blocks that it is sent, until it is sent none, or the one that sends them is gone."""
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt), contextlib.closing(pipe):
        own, problem = attempt(lambda: Journal(path))
        if own is None:
            pipe.send(("failed", problem))
            return
        while True:
            pipe.send(("free", 0))
            chunks = pipe.recv()
            for chunk in chunks:
                data, problem = attempt(lambda chunk=chunk: recipe.block(rows.of(chunk)))  # type: ignore[misc]
                if data is None:
                    pipe.send(("refused", problem))
                    return
                _, problem = attempt(lambda chunk=chunk, data=data: own.append(chunk, data[0]))  # type: ignore[misc]
                if problem:
                    pipe.send(("failed", problem))
                    return
                pipe.send(("made", (chunk, data[1])))
            if not chunks:
                return


def _say(work: _Work, made: int, seconds: float, holes: int) -> None:
    rate = made * work.recipe.row_bytes / 1e6 / max(seconds, 1e-9)
    print(f"{made} images read in {seconds:.0f} s ({made / max(seconds, 1e-9):.0f} images/s, {rate:.3g} MB/s)")
    if holes:
        share = holes / (work.rows.n * int(np.prod(work.recipe.shape)))
        small = ": those of weight 0, or of one too small for float32" if work.recipe.has_weights else ""
        print(f"missing pixels: {holes}, {share:.2%} of all{small}")


def _store(plan: Plan, work: _Work, paths: list[Path], found: Stored, holes: int) -> None:
    """Copies the blocks into the set, in the folder of parts, and moves it to its place."""
    rows, recipe = work.rows, work.recipe
    if len(found.chunk) != rows.chunks:
        raise InputError(f"{work.parts}: {rows.chunks - len(found.chunk)} blocks were lost; start again")
    made = work.parts / plan.out.name
    made.unlink(missing_ok=True)
    shape = (plan.n, *recipe.shape)
    more = plan.beside | {"weights": shape} if recipe.has_weights else dict(plan.beside)
    if holes and not recipe.has_weights:
        more["missing_pixels"] = "nan"
    new = create(made, shape, plan.factors, plan.provenance, recipe.dtype, **more)
    with contextlib.closing(Reader(paths, rows)) as reader, new as (images, values):
        if values is not None:
            values[:] = plan.values
        for record in zip(*(column.tolist() for column in found), strict=True):
            span = rows.of(record[0])
            block, weights = recipe.parts(reader.read(*record), len(span))
            images[span.start : span.stop] = block
            if weights is not None:
                images.file["weights"][span.start : span.stop] = weights
    refuse_existing(plan.out)
    made.rename(plan.out)
