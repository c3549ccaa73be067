"""A whole set through a run, on any number of ranks: computed in chunks that outlast a kill, then made into one file.

The set may be larger than memory. Each rank computes chunks of fixed size and leaves each, whole or not at all, in the
folder OUT.parts; when all are there, rank 0 makes OUT of them in the order of the data. A start after a kill, on any
number of ranks, computes what is missing.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import Tensor

from hpcauxvae.data.hdf5 import refuse_existing
from hpcauxvae.runtime.agreed_requests import Requests
from hpcauxvae.runtime.collectives import Apart, Processes, on_each_rank, on_first_rank, start, stop
from hpcauxvae.runtime.launchers import World
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.runtime.stop_requests import FAILED, FINISHED, MORE_TO_DO
from hpcauxvae.runtime.watchdog import Watchdog
from hpcauxvae.train import checkpoint
from hpcauxvae.types import InputError

_TIMEOUT_MINUTES = 10.0


def parts_of(out: Path) -> Path:
    """The folder of the chunks of a file."""
    return out.with_name(f"{out.name}.parts")


class Chunked:
    """What one rank knows of the work. A subclass says what is computed, and what the file is made of."""

    TITLE = "computing"

    def __init__(self, out: Path, n: int, size: int, processes: Processes) -> None:
        """n: samples; size: of a chunk."""
        self.out, self.n, self.size, self.processes = out, n, size, processes
        self.parts = parts_of(out)
        self.chunks = range(-(-n // size))

    def identity(self) -> dict[str, Any]:
        """What two starts must have in common to share their chunks."""
        raise NotImplementedError

    def is_written(self) -> bool:
        """Whether `out` is there, whole and of this work: a kill came when only the parts were left to remove."""
        raise NotImplementedError

    def look(self, mark: Callable[[], None]) -> None:
        """Before the first chunk, on all ranks together. mark: to be called now and then."""

    def computed(self, chunk: int) -> dict[str, Tensor]:
        """Of the samples of a chunk."""
        raise NotImplementedError

    def merge(self, mark: Callable[[], None]) -> None:
        """Makes `out` of all chunks. mark: to be called after each."""
        raise NotImplementedError

    def tell(self) -> None:
        """What is to be said of `out`, which was just made, on rank 0."""

    def rows(self, chunk: int) -> slice:
        """Its samples."""
        return slice(chunk * self.size, min(self.n, (chunk + 1) * self.size))

    def do(self, chunk: int) -> None:
        """Computes and stores a chunk. Raises InputError for a full disk."""
        checkpoint.write(self._path(chunk), self.computed(chunk), self.identity())

    def missing(self) -> list[int]:
        """The chunks that are still to do. Raises InputError where the folder holds those of other work."""
        missing = []
        for chunk in self.chunks:
            path = self._path(chunk)
            try:
                found = checkpoint.read(path)[1] if path.exists() else None
            except checkpoint.Damaged:
                found = None
            if found is None:
                missing.append(chunk)
            elif found != self.identity():
                raise InputError(f"{self.parts}: left by an unfinished {self.TITLE} of another kind; remove the folder")
        return missing

    def stored(self, chunk: int) -> dict[str, Any]:
        """A chunk that was computed, as arrays."""
        return {name: values.numpy() for name, values in checkpoint.read(self._path(chunk))[0].items()}

    def all_stored(self, mark: Callable[[], None]) -> Iterator[tuple[slice, dict[str, Any]]]:
        """Each chunk with its samples, in their order."""
        for chunk in self.chunks:
            yield self.rows(chunk), self.stored(chunk)
            mark()

    def _path(self, chunk: int) -> Path:
        return self.parts / f"{chunk:07d}.safetensors"


def make(work: Chunked) -> int:
    """Makes the file; returns FINISHED, or MORE_TO_DO after a request to stop. Raises InputError, on all ranks."""
    lock, processes = RunLock(work.parts), work.processes

    def claim() -> bool:
        """Takes the folder of parts, unless all is done: then it only goes. Raises InputError where it must not."""
        if not work.is_written():
            refuse_existing(work.out)
        lock.acquire()
        if work.is_written():
            shutil.rmtree(work.parts)
            print(f"{work.out}: is there already, of these images and weights", flush=True)
            return True
        return False

    if on_first_rank(claim, processes):
        return FINISHED
    try:
        freed = Watchdog(processes, _TIMEOUT_MINUTES, lambda _: lock.release())
        with Requests(processes, None, None) as requests, freed as watch:
            missing = on_first_rank(work.missing, processes)
            if missing:
                work.look(watch.mark)
            on_each_rank(lambda: _own_chunks(work, missing, requests, watch), processes)
            if requests.agreed_now().stop:
                return MORE_TO_DO
            on_first_rank(lambda: _merged(work, watch), processes)
    finally:
        if processes.world.rank == 0:
            lock.release()
    return FINISHED


def _merged(work: Chunked, watch: Watchdog) -> None:
    work.merge(watch.mark)
    shutil.rmtree(work.parts)
    work.tell()
    print(f"written: {work.out}", flush=True)


def _own_chunks(work: Chunked, missing: list[int], requests: Requests, watch: Watchdog) -> None:
    world = work.processes.world
    own = missing[world.rank :: world.world_size]
    with Progress(len(own), "chunk", title=work.TITLE, speaks=world.rank == 0) as progress:
        for chunk in own:
            if requests.reason:
                return
            work.do(chunk)
            watch.mark()
            progress.advance()
            if progress.is_due():
                progress.say(f"{progress.rate * work.size * world.world_size:.0f} images/s")


def on_ranks(action: Callable[[Processes], int], device: str, world: World) -> int:
    """Does this on the ranks of a launcher, or alone; says where it stopped, and returns the exit code."""
    try:
        # A rank may wait for hours for the others; the watch sees who hangs.
        code = action(start(world, device, timedelta(days=30)))
    except Apart as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    finally:
        stop()
    if world.rank == 0 and code != FINISHED:
        print("stopped; the same command goes on", flush=True)
    return code
