"""From a plan to the set, by several processes, killed or not: the same bytes.

Each process appends the blocks that it made to a journal in the folder OUT.parts; when all are there, they are copied
into the set, which then gets its name. A start after a kill makes what is missing.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from hpcauxvae.data import journal
from hpcauxvae.data.hdf5 import create, refuse_existing
from hpcauxvae.data.importing.plan import Plan
from hpcauxvae.data.importing.recipe import Recipe, holes_in
from hpcauxvae.data.journal import SUFFIX, Journal, Reader, Rows, Stored
from hpcauxvae.runtime.files import attempt, refuse_unwritable, write_json
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.types import InputError

_BLOCK_BYTES, _BLOCK_ROWS = 4 << 20, 256
"""At most, of a block."""
_LINE_EVERY_S = 10.0
_RUN = 8
"""Parts of what is left, a process, of which one is dealt at a time: neighbours are read together."""


class Refused(InputError):
    """An image that cannot be taken: what was made of the others is of no use."""


def make(plan: Plan, processes: int | None = None) -> None:
    """Raises InputError where an image is refused, and then leaves nothing; where the disk does not take it, too."""
    if processes is not None and processes < 1:
        raise InputError(f"--processes {processes}: allowed is 1 or more")
    parts = plan.out.with_name(f"{plan.out.name}.parts")
    refuse_existing(plan.out)
    refuse_unwritable(plan.out.parent)
    lock = RunLock(parts)
    lock.acquire()
    try:
        _record(plan, parts)
        rows = _rows(plan.recipe, plan.n)
        done = _found(parts, rows)
        began, missing = time.monotonic(), np.setdiff1d(np.arange(rows.chunks), done.chunk)
        if len(done.chunk):
            print(f"{plan.out}: an earlier start made {rows.count(_runs(done.chunk))} of {plan.n} images")
        holes = _holes(plan, parts, rows, done) + _read(
            plan, parts, rows, missing, min(processes or _cores(), len(missing))
        )
        _say(plan, rows.count(_runs(missing)), time.monotonic() - began, holes)
        _store(plan, parts, rows, holes)
        shutil.rmtree(parts, ignore_errors=True)
    except Refused:
        shutil.rmtree(parts, ignore_errors=True)
        raise
    finally:
        lock.release()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rows(recipe: Recipe, n: int) -> Rows:
    return Rows(n, max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // recipe.row_bytes)), recipe.row_bytes)


def _runs(chunks: np.ndarray) -> np.ndarray:
    return np.stack([chunks, chunks + 1], axis=1)


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


def _found(parts: Path, rows: Rows) -> Stored:
    """The whole blocks that are there."""
    paths = sorted(parts.glob(f"*{SUFFIX}"))
    empty = Stored(*(np.empty(0, np.int64) for _ in Stored._fields))
    return journal.distinct([empty, *(journal.scan(path, number, rows) for number, path in enumerate(paths))])


def _holes(plan: Plan, parts: Path, rows: Rows, done: Stored) -> int:
    """How many pixels are missing in these blocks."""
    count, paths = 0, sorted(parts.glob(f"*{SUFFIX}"))
    with contextlib.closing(Reader(paths, rows)) as reader:
        for record in zip(*(column.tolist() for column in done), strict=True):
            images, weights = plan.recipe.parts(reader.read(*record), len(rows.of(record[0])))
            count += holes_in(images, weights)
    return count


def _read(plan: Plan, parts: Path, rows: Rows, missing: np.ndarray, processes: int) -> int:
    """Makes these blocks; how many pixels are missing in them."""
    holes = 0
    first = 1 + max((int(path.stem) for path in parts.glob(f"*{SUFFIX}")), default=-1)  # one may never have begun
    names = [parts / f"{first + number:06d}{SUFFIX}" for number in range(processes)]
    done = plan.n - rows.count(_runs(missing))
    with Progress(plan.n, "image", title="import", done=done, every_s=_LINE_EVERY_S) as progress:
        for chunk, lost in (_alone if processes <= 1 else _together)(plan, rows, missing, names):
            progress.advance(len(rows.of(chunk)))
            holes += lost
            if progress.is_due():
                progress.say(f"{progress.rate * plan.recipe.row_bytes / 1e6:.3g} MB/s")
    return holes


def _alone(plan: Plan, rows: Rows, missing: np.ndarray, names: list[Path]) -> Iterator[tuple[int, int]]:
    """Yields each block that is made, and how many of its pixels are missing."""
    for path in names:
        with contextlib.closing(Journal(path)) as own:
            for chunk in missing.tolist():
                data, problem = attempt(lambda chunk=chunk: plan.recipe.block(rows.of(chunk)))  # type: ignore[misc]
                if data is None:
                    raise Refused(problem or "")
                own.append(chunk, data[0])
                yield chunk, data[1]


def _together(plan: Plan, rows: Rows, missing: np.ndarray, names: list[Path]) -> Iterator[tuple[int, int]]:
    """The same by a process for each name, all of which end with this one."""
    context = multiprocessing.get_context("spawn")  # libraries that read have threads
    pipes, workers = [], []
    try:
        for path in names:
            here, there = context.Pipe()
            worker = context.Process(target=_work, args=(there, plan.recipe, rows, path), daemon=True)
            worker.start()
            there.close()
            pipes.append(here)
            workers.append(worker)
        yield from _deal(pipes, rows, missing)
    finally:
        for pipe in pipes:
            pipe.close()
        for worker in workers:
            worker.join()


def _deal(pipes: list[Connection], rows: Rows, missing: np.ndarray) -> Iterator[tuple[int, int]]:
    """Runs of blocks to the processes as they ask for them."""
    left, waiting = missing, list(pipes)
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
                    pipe.send(left[:count].tolist())
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


def _say(plan: Plan, made: int, seconds: float, holes: int) -> None:
    rate = made * plan.recipe.row_bytes / 1e6 / max(seconds, 1e-9)
    print(f"{made} images read in {seconds:.0f} s ({made / max(seconds, 1e-9):.0f} images/s, {rate:.3g} MB/s)")
    if holes:
        share = holes / (plan.n * int(np.prod(plan.recipe.shape)))
        small = ": those of weight 0, or of one too small for float32" if plan.recipe.has_weights else ""
        print(f"missing pixels: {holes}, {share:.2%} of all{small}")


def _store(plan: Plan, parts: Path, rows: Rows, holes: int) -> None:
    """Copies the blocks into the set, in the folder of parts, and moves it to its place."""
    found = _found(parts, rows)
    paths = sorted(parts.glob(f"*{SUFFIX}"))
    if len(found.chunk) != rows.chunks:
        raise InputError(f"{parts}: {rows.chunks - len(found.chunk)} blocks were lost; start again")
    made = parts / plan.out.name
    made.unlink(missing_ok=True)
    shape = (plan.n, *plan.recipe.shape)
    more = plan.beside | {"weights": shape} if plan.recipe.has_weights else dict(plan.beside)
    if holes and not plan.recipe.has_weights:
        more["missing_pixels"] = "nan"
    new = create(made, shape, plan.factors, plan.provenance, plan.recipe.dtype, **more)
    with contextlib.closing(Reader(paths, rows)) as reader, new as (images, values):
        if values is not None:
            values[:] = plan.values
        for record in zip(*(column.tolist() for column in found), strict=True):
            span = rows.of(record[0])
            block, weights = plan.recipe.parts(reader.read(*record), len(span))
            images[span.start : span.stop] = block
            if weights is not None:
                images.file["weights"][span.start : span.stop] = weights
    refuse_existing(plan.out)
    made.rename(plan.out)
