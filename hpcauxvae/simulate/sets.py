"""Sets that are there: parts of a design, or shards, joined into one; a set held against its own record."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import galsim
import h5py
import numpy as np

from hpcauxvae.data.checksums import checksum
from hpcauxvae.data.hdf5 import ImageSet, check_values, open_set, validate
from hpcauxvae.data.shards import shard_of, shard_path
from hpcauxvae.simulate.config import CHUNK, MergeConfig, VerifyConfig
from hpcauxvae.simulate.designs import FIXED_SIZE
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.simulate.stamps import painter_of
from hpcauxvae.simulate.storage import new_file
from hpcauxvae.types import InputError

_SAME = ("seed", "design", "scene", "noise", "renderer", "galsim", "gsparams")


def merge(config: MergeConfig) -> int:
    """Makes the set; returns how many galaxies it has.

    Raises InputError where the parts do not fit together or a part is damaged, before `out` appears.
    """
    if not config.parts:
        raise InputError("parts: none is named; allowed: one or more sets")
    sets = sorted((open_set(path) for path in config.parts), key=_start)
    _check_fit(sets)
    values = np.concatenate([part.values for part in sets])
    check_values(values, sets[0].factors, f"{config.out}, merged")
    provenance = dict(sets[0].provenance)
    provenance["design_n"] = max(int(part.provenance["design_n"]) for part in sets)
    settings = (config.out, sets[0].factors, values, provenance, sets[0].shape, CHUNK)
    if config.virtual:
        with new_file(*settings, list(_sources(sets, config.out))) as file:
            file["checksums"][:] = [crc for _, _, crc in _checked_blocks(sets)]
    else:
        with new_file(*settings) as file:
            crcs = []
            for row, stamps, crc in _checked_blocks(sets):
                file["images"][row : row + len(stamps)] = stamps
                crcs.append(crc)
            file["checksums"][:] = crcs
    return len(values)


def _start(part: ImageSet) -> int:
    if not {"design_n", "start", *_SAME} <= set(part.provenance):
        raise InputError(f"{part.path}: was not made by this version of hpcauxvae.simulate; it cannot be merged")
    return int(part.provenance["start"])


def _check_fit(sets: Sequence[ImageSet]) -> None:
    """Raises InputError where the sets are not neighbouring parts of one design."""
    first, end = sets[0], _start(sets[0]) + len(sets[0])
    for part in sets[1:]:
        for name in _SAME:
            if part.provenance[name] != first.provenance[name]:
                raise InputError(
                    f"{part.path}: {name} = {part.provenance[name]!r}, but {first.path} has {first.provenance[name]!r}"
                )
        if part.factors != first.factors:
            raise InputError(f"{part.path}: factors or their ranges differ from those of {first.path}")
        sizes = {int(part.provenance["design_n"]), int(first.provenance["design_n"])}
        if len(sizes) > 1 and first.provenance["design"] in FIXED_SIZE:
            raise InputError(
                f"{part.path}: {first.provenance['design']} of {part.provenance['design_n']} points, but {first.path} "
                f"is of {first.provenance['design_n']}: the larger does not extend the smaller; sobol and uniform do"
            )
        if _start(part) != end:
            raise InputError(f"{part.path}: begins at galaxy {_start(part)} of the design, but {end} comes next")
        end += len(part)


def _checked_blocks(sets: Sequence[ImageSet]) -> Iterator[tuple[int, np.ndarray, int]]:
    """(first row, stamps, checksum) of every CHUNK galaxies of all sets together, each seen to be undamaged."""
    row, kept = 0, None
    for part in sets:
        for stamps in _checked(part.path):
            kept = stamps if kept is None else np.concatenate([kept, stamps])
            while len(kept) >= CHUNK:
                yield row, kept[:CHUNK], checksum(kept[:CHUNK])
                row, kept = row + CHUNK, kept[CHUNK:]
    if kept is not None and len(kept):
        yield row, kept, checksum(kept)


def _checked(path: Path) -> Iterator[np.ndarray]:
    """A set's images, block after block. Raises InputError where a block does not match its checksum."""
    with h5py.File(path, "r", locking=False) as file:
        images = file["images"]
        rows = int(file["checksums"].attrs["rows"])
        for block, stored in enumerate(file["checksums"][:]):
            stamps = images[block * rows : (block + 1) * rows]
            if checksum(stamps) != int(stored):
                where = shard_of(images, block * rows) if images.is_virtual else path
                raise InputError(
                    f"{where}: galaxies {block * rows} to {block * rows + len(stamps) - 1} of {path} do not match "
                    "their checksum: the file was damaged"
                )
            yield stamps


def _sources(sets: Sequence[ImageSet], out: Path) -> Iterator[tuple[Path, int, int]]:
    """The files in which the images lie, named from the folder of `out`, with their rows there."""
    low = 0
    for part in sets:
        with h5py.File(part.path, "r", locking=False) as file:
            images = file["images"]
            pieces = [(part.path, len(images))]
            if images.is_virtual:
                bounds = [source.vspace.get_select_bounds() for source in images.virtual_sources()]
                files = [shard_path(file, source.file_name) for source in images.virtual_sources()]
                pieces = [(path, int(b[1][0] - b[0][0]) + 1) for path, b in zip(files, bounds, strict=True)]
        for path, length in pieces:
            yield Path(os.path.relpath(path, out.parent)), low, low + length
            low += length


def verify(config: VerifyConfig) -> int:
    """Returns how many galaxies were drawn again. Raises InputError naming what is wrong: nothing is written."""
    if config.sample < 1:
        raise InputError(f"--sample {config.sample}: allowed is 1 or more")
    for error in validate(config.file):
        raise InputError(error)
    data = open_set(config.file)
    told = data.provenance
    if not {"scene", "seed", "start"} <= set(told):
        raise InputError(f"{config.file}: was not made by this version of hpcauxvae.simulate; it cannot be drawn again")
    scene = Scene.of(told, config.file)
    chosen = np.random.default_rng(config.seed).choice(len(data), min(config.sample, len(data)), replace=False)
    painter = painter_of(scene, int(told["seed"]), config.device)
    stamp = np.empty((1, *scene.shape), np.float32)
    for row in sorted(chosen.tolist()):
        painter(data.values[row : row + 1], int(told["start"]) + row, stamp, lambda: None)
        stored = np.asarray(data.images[row])
        if not np.array_equal(stamp[0], stored):
            raise InputError(
                f"{config.file}: sample {row} is not what its record draws (largest difference "
                f"{np.abs(stamp[0] - stored).max():g} counts, peak {stored.max():g})" + _versions(told)
            )
    return len(chosen)


def _versions(told: dict[str, str | int | float]) -> str:
    here = {"galsim": galsim.__version__, "numpy": np.__version__}
    other = [f"{name} {told.get(name)}, here {version}" for name, version in here.items() if told.get(name) != version]
    return f"; it was drawn with {', '.join(other)}" if other else ""
