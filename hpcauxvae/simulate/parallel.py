"""From a plan to a file, on one process or many MPI ranks, killed or not: the same data.

Galaxies are drawn in chunks of fixed size; rank r of R draws the chunks r, r + R, r + 2R … and writes each to the
folder OUT.parts, under a temporary name until it is whole. When all are there, rank 0 copies them into OUT. A start
after a kill, on any number of ranks, draws what is missing: a galaxy depends on its parameters, the seed and its number
alone.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import galsim
import numpy as np
from tqdm import tqdm

from hpcauxvae.data.galaxies import FACTORS, STAMP_SIZE
from hpcauxvae.data.hdf5 import create, refuse_existing
from hpcauxvae.lock import RunLock
from hpcauxvae.simulate import galaxy
from hpcauxvae.types import Factor, InputError
from hpcauxvae.world import refuse_singletons

CHUNK = 128
"""Galaxies in a chunk: 70 ms of work and 0.6 MB."""

_MPI_VARIABLES = ("PMI", "OMPI_COMM_WORLD_", "PALS_", "MPI_LOCAL")
_LINE_EVERY_S = 10.0
_CRC_BYTES = 4

T = TypeVar("T")


class Ranks:
    """The MPI ranks of this start, or this process alone."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        """MPI is started only where a launcher left its variables.

        Raises InputError where this process sees itself alone and a launcher says that it started several.
        """
        self._comm: Any = None
        found_by = "no MPI launcher"
        if any(name.startswith(_MPI_VARIABLES) for name in env):
            try:
                from mpi4py import MPI

                self._comm, found_by = MPI.COMM_WORLD, "mpi4py"
            except (ImportError, RuntimeError) as error:
                found_by = f"mpi4py cannot be imported: {error}"
        self.rank: int = self._comm.rank if self._comm else 0
        self.size: int = self._comm.size if self._comm else 1
        refuse_singletons(self.size, found_by, env)

    def first(self, work: Callable[[], T]) -> T:
        """Rank 0 works; every rank gets what it returned, or the InputError that it raised."""
        result, error = _attempt(work) if self.rank == 0 else (None, None)
        if self._comm:
            result, error = self._comm.bcast((result, error))
        if error:
            raise InputError(error)
        return result  # type: ignore[return-value]

    def each(self, work: Callable[[], None]) -> None:
        """Every rank works; an InputError of any is raised on all, once all are through."""
        _, error = _attempt(work)
        errors = self._comm.allgather(error) if self._comm else [error]
        for rank, error in enumerate(errors):
            if error:
                raise InputError(f"{error} (rank {rank} of {self.size})" if self.size > 1 else error)

    def abort(self) -> None:
        """After an error of the program itself: the trace, and the end of every rank."""
        traceback.print_exc()
        sys.stderr.flush()
        if self._comm:
            self._comm.Abort(1)


def _attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """What `work` returned, and in words what was wrong."""
    try:
        return work(), None
    except InputError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{error.filename}: {error.strerror}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides what the file will hold."""

    out: Path
    parameters: np.ndarray
    """(N, 5) float64, the columns and units of galaxies.FACTORS."""
    factors: tuple[Factor, ...] = FACTORS
    """The same five, with the ranges to record."""
    seed: int
    """Of the noise."""
    noiseless: bool
    """Expected counts in place of Poisson counts."""
    provenance: dict[str, str | int | float]

    @property
    def parts(self) -> Path:
        """The folder of chunks, gone once the file is whole."""
        return self.out.with_name(f"{self.out.name}.parts")

    @property
    def n_chunks(self) -> int:
        return -(-len(self.parameters) // CHUNK)

    def indices(self, chunk: int) -> range:
        """The galaxies of a chunk."""
        return range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(self.parameters)))

    def count(self, chunks: list[int]) -> int:
        """How many galaxies these chunks hold."""
        return sum(len(self.indices(chunk)) for chunk in chunks)

    def identity(self) -> dict[str, str | int]:
        """What two starts must have in common to share their chunks."""
        return {
            "parameters": hashlib.sha256(self.parameters.tobytes()).hexdigest(),
            "seed": self.seed,
            "noise": "none" if self.noiseless else "Poisson",
            "gsparams": repr(galaxy.ACCURACY),
            "galsim": galsim.__version__,
            "numpy": np.__version__,
            "chunk": CHUNK,
        }


def run(plan: Plan, ranks: Ranks) -> int:
    """Makes the file; returns how many galaxies this start drew (the others were left by an earlier one).

    Raises InputError, on every rank, where the output exists or is being written, or the disk does not take it.
    """
    lock = RunLock(plan.parts)
    ranks.first(lambda: _claim(plan, lock))
    try:
        missing = ranks.first(lambda: [chunk for chunk in range(plan.n_chunks) if _read(plan, chunk) is None])
        ranks.each(lambda: _draw(plan, missing, ranks))
        ranks.first(lambda: _merge(plan))
    finally:
        if ranks.rank == 0:
            lock.release()
    return plan.count(missing)


def _claim(plan: Plan, lock: RunLock) -> None:
    """Takes the output and its folder of chunks, if they are free and the chunks in it are of this plan."""
    refuse_existing(plan.out)
    lock.acquire()
    record = plan.parts / "plan.json"
    try:
        if record.exists():
            found = json.loads(record.read_text())
            for name, value in plan.identity().items():
                if found.get(name) != value:
                    raise InputError(
                        f"{plan.parts}: left by an unfinished run with {name} = {found.get(name)}, now {value}; "
                        "finish that run, or remove the folder"
                    )
        else:
            part = record.with_suffix(".part")
            with open(part, "w") as file:
                json.dump(plan.identity(), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            part.rename(record)
    except BaseException:
        lock.release()
        raise


def _draw(plan: Plan, missing: list[int], ranks: Ranks) -> None:
    """Draws and stores this rank's share of the missing chunks."""
    chunks = missing[ranks.rank :: ranks.size]
    progress = _Progress(plan.count(missing), plan.count(chunks), speaks=ranks.rank == 0)
    for chunk in chunks:
        stamps = np.empty((len(plan.indices(chunk)), 1, STAMP_SIZE, STAMP_SIZE), np.float32)
        for row, index in enumerate(plan.indices(chunk)):
            stamp = galaxy.noiseless(plan.parameters[index])
            stamps[row, 0] = stamp if plan.noiseless else galaxy.with_noise(stamp, plan.seed, index)
        _store(plan, chunk, stamps, ranks.rank)
        progress.add(len(stamps))
    progress.bar.close()


def _chunk_path(plan: Plan, chunk: int) -> Path:
    return plan.parts / f"{chunk:07d}.chunk"


def _store(plan: Plan, chunk: int, stamps: np.ndarray, rank: int) -> None:
    """Stamps and their checksum, so that a chunk which a crash of the machine cut short is known for what it is."""
    path = _chunk_path(plan, chunk)
    part = path.with_suffix(f".{rank}-{os.getpid()}.part")
    data = stamps.tobytes()
    try:
        part.write_bytes(data + zlib.crc32(data).to_bytes(_CRC_BYTES, "little"))
        part.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def _read(plan: Plan, chunk: int) -> np.ndarray | None:
    """The stamps of a chunk, or None where it is not there whole."""
    try:
        stored = _chunk_path(plan, chunk).read_bytes()
    except FileNotFoundError:
        return None
    data, checksum = stored[:-_CRC_BYTES], int.from_bytes(stored[-_CRC_BYTES:], "little")
    shape = (len(plan.indices(chunk)), 1, STAMP_SIZE, STAMP_SIZE)
    if len(data) != 4 * np.prod(shape) or zlib.crc32(data) != checksum:
        return None
    return np.frombuffer(data, np.float32).reshape(shape)


def _merge(plan: Plan) -> None:
    """All chunks into the one file, a chunk at a time; then the folder goes."""
    shape = (len(plan.parameters), 1, STAMP_SIZE, STAMP_SIZE)
    with create(plan.out, shape, plan.factors, plan.provenance) as (images, values):
        values[:] = plan.parameters
        for chunk in range(plan.n_chunks):
            stamps = _read(plan, chunk)
            if stamps is None:
                raise InputError(f"{_chunk_path(plan, chunk)}: missing or damaged; start again to draw it anew")
            rows = plan.indices(chunk)
            images[rows.start : rows.stop] = stamps
    shutil.rmtree(plan.parts, ignore_errors=True)


class _Progress:
    """A bar on a terminal, else a line at intervals. Rank 0 speaks, and takes the others to be as far as itself."""

    def __init__(self, total: int, own: int, speaks: bool) -> None:
        self.total, self.own, self.done, self.speaks = total, own, 0, speaks
        self.started = self.said = time.monotonic()
        self.bar = tqdm(total=total, unit=" stamps", disable=not (speaks and sys.stderr.isatty()))

    def add(self, count: int) -> None:
        """So many more of this rank's own stamps are stored."""
        self.done += count
        shown = self.done * self.total // self.own
        self.bar.update(shown - self.bar.n)
        now = time.monotonic()
        if self.speaks and self.bar.disable and now - self.said > _LINE_EVERY_S:
            self.said, rate = now, shown / (now - self.started)
            left = (self.total - shown) / rate
            print(
                f"{shown} of {self.total} stamps, {rate:.0f} a second, {left:.0f} s left", file=sys.stderr, flush=True
            )
