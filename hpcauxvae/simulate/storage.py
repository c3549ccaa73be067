"""From journals to the set: one contiguous file, or shards and a virtual data set over them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from hpcauxvae.data.checksums import create_checksums
from hpcauxvae.data.hdf5 import Provenance, begin, reopen, whole_file
from hpcauxvae.data.journal import Reader, Stored
from hpcauxvae.runtime.ranks import Ranks
from hpcauxvae.simulate.plan import Plan
from hpcauxvae.types import Factor, InputError

_SOURCE_BYTES = 512  # what an entry of a virtual data set takes, generously


def store(plan: Plan, ranks: Ranks, paths: list[Path], found: Stored) -> None:
    """Makes the set. On rank 0 `paths` are the journals and `found` every chunk of the plan.

    Raises InputError where a chunk is damaged, or the disk does not take the set.
    """
    ranks.first(lambda: _complete(plan, found))
    if plan.shard_chunks:
        _store_shards(plan, ranks, paths, found)
    elif ranks.comm and h5py.get_config().mpi:
        _store_together(plan, ranks, paths, found)
    else:
        ranks.first(lambda: _store_file(plan, plan.out, paths, found))


def _complete(plan: Plan, found: Stored) -> None:
    if not np.array_equal(found.chunk, np.arange(plan.rows.chunks)):
        lost = plan.rows.chunks - len(found.chunk)
        raise InputError(f"{plan.parts}: {lost} chunks were lost while drawing; start again")


def _store_file(plan: Plan, out: Path, paths: list[Path], found: Stored) -> None:
    """One contiguous file of these chunks, which follow each other: the whole set, or a shard of it."""
    low, high = plan.rows.of(int(found.chunk[0])).start, plan.rows.of(int(found.chunk[-1])).stop
    values = np.load(plan.values_path, mmap_mode="r")[low:high]
    with new_file(out, plan.factors, values, plan.provenance, plan.scene.shape, plan.chunk) as file:
        file["checksums"][:] = found.crc
        _copy(plan, file["images"], paths, found, low)


def _copy(plan: Plan, images: h5py.Dataset, paths: list[Path], found: Stored, low: int) -> None:
    """Chunks into images whose first row is row `low` of the set."""
    with closing(Reader(paths, plan.rows)) as reader:
        for record in zip(*(column.tolist() for column in found), strict=True):
            rows = plan.rows.of(record[0])
            stamps = np.frombuffer(reader.read(*record), "<f4").reshape(len(rows), *plan.scene.shape)
            images[rows.start - low : rows.stop - low] = stamps


def _store_together(plan: Plan, ranks: Ranks, paths: list[Path], found: Stored) -> None:
    """One contiguous file that every rank writes a part of, through parallel HDF5."""
    with ExitStack() as stack:
        part = ranks.first(lambda: stack.enter_context(_room_for(plan, found)))
        names, own = ranks.deal(lambda: [(paths, part) for part in found.shares(ranks.size)])

        def fill() -> None:
            with reopen(part, driver="mpio", comm=ranks.comm) as file:
                _copy(plan, file["images"], names, own, 0)

        ranks.each(fill)
        ranks.first(stack.close)


@contextmanager
def _room_for(plan: Plan, found: Stored) -> Iterator[Path]:
    """The set but for its images, closed again, with their room allocated."""
    values = np.load(plan.values_path, mmap_mode="r")
    with whole_file(plan.out, n_bytes=plan.rows.n * plan.rows.row_bytes + values.nbytes) as part:
        with reopen(part) as file:
            begin(file, len(values), plan.factors, plan.provenance)[:] = values
            create_checksums(file, len(values), plan.chunk)[:] = found.crc
            settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every chunk is there
            space = h5py.h5s.create_simple((len(values), *plan.scene.shape))
            h5py.h5d.create(file.id, b"images", h5py.h5t.IEEE_F32LE, space, settings)
        yield part


def _store_shards(plan: Plan, ranks: Ranks, paths: list[Path], found: Stored) -> None:
    """Each rank makes some of the shards, in `parts`; the folder moves beside the set, and the set is written last."""
    size = plan.shard_chunks
    count = -(-plan.rows.chunks // size)
    growing = plan.parts / "shards"

    def shares() -> list[tuple[list[Path], list[tuple[int, Stored]]]]:
        if not plan.shards.exists():  # else a kill came between moving them and the last step
            growing.mkdir(exist_ok=True)
        numbers = [n for n in range(count) if growing.exists() and not (growing / shard_name(n)).exists()]
        return [
            (paths, [(n, found.part(n * size, (n + 1) * size)) for n in numbers[rank :: ranks.size]])
            for rank in range(ranks.size)
        ]

    names, own = ranks.deal(shares)

    def fill() -> None:
        for number, chunks in own:
            _store_file(plan, growing / shard_name(number), names, chunks)

    def finish() -> None:
        if growing.exists():
            growing.rename(plan.shards)
        edges = [min(n * size * plan.chunk, plan.rows.n) for n in range(count + 1)]
        sources = [(Path(plan.shards.name) / shard_name(n), *edge) for n, edge in enumerate(pairwise(edges))]
        values = np.load(plan.values_path, mmap_mode="r")
        with new_file(plan.out, plan.factors, values, plan.provenance, plan.scene.shape, plan.chunk, sources) as file:
            file["checksums"][:] = found.crc

    ranks.each(fill)
    ranks.first(finish)


def shard_name(number: int) -> str:
    """Of the file of a shard, counted from 0."""
    return f"{number:05d}.h5"


@contextmanager
def new_file(
    path: Path,
    factors: Sequence[Factor],
    values: np.ndarray,
    provenance: Provenance,
    shape: tuple[int, int, int],
    block: int,
    sources: Sequence[tuple[Path, int, int]] | None = None,
) -> Iterator[h5py.File]:
    """A set with these factors; the block of code fills `images`, and `checksums`, a number for every `block` rows.

    sources: files in which the images lie already (file relative to the folder of `path`, first row, row after).
    Becomes `path` if that ends well. Raises InputError where `path` exists or the disk does not take it.
    """
    n_images = 4 * len(values) * int(np.prod(shape)) if sources is None else _SOURCE_BYTES * len(sources)
    n_bytes = values.nbytes + 4 * (len(values) // block + 1) + n_images
    with whole_file(path, n_bytes) as part, reopen(part) as file:
        begin(file, len(values), factors, provenance)[:] = values
        create_checksums(file, len(values), block)
        if sources is None:
            file.create_dataset("images", (len(values), *shape), "<f4", fillvalue=np.nan)
        else:
            layout = h5py.VirtualLayout((len(values), *shape), "<f4")
            for name, low, high in sources:
                layout[low:high] = h5py.VirtualSource(str(name), "images", (high - low, *shape), "<f4")
            file.create_virtual_dataset("images", layout, fillvalue=np.nan)
        yield file
