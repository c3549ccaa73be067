"""Does a set hold what its own record says? Checksums of all images, and a random sample drawn again."""

from dataclasses import dataclass
from pathlib import Path

import galsim
import numpy as np

from hpcauxvae.data.hdf5 import open_set, validate
from hpcauxvae.simulate.painter import painter_of
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import InputError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checks a simulated set: the rules of the format, every checksum, and a random sample drawn again."""

    file: Path
    """The set."""
    sample: int = 100
    """Galaxies to draw again; all if the set has fewer."""
    seed: int = 0
    """Of the choice."""
    device: str = "cpu"
    """Where the batch renderer works; draw on the kind of machine that drew the set."""


def verify(options: Options) -> int:
    """Returns how many galaxies were drawn again. Raises InputError naming what is wrong: nothing is written."""
    if options.sample < 1:
        raise InputError(f"--sample {options.sample}: allowed is 1 or more")
    for error in validate(options.file):
        raise InputError(error)
    data = open_set(options.file)
    told = data.provenance
    if not {"scene", "seed", "start"} <= set(told):
        raise InputError(
            f"{options.file}: was not made by this version of hpcauxvae.simulate; it cannot be drawn again"
        )
    scene = Scene.of(told, options.file)
    chosen = np.random.default_rng(options.seed).choice(len(data), min(options.sample, len(data)), replace=False)
    painter = painter_of(scene, int(told["seed"]), options.device)
    stamp = np.empty((1, *scene.shape), np.float32)
    for row in sorted(chosen.tolist()):
        painter(data.values[row : row + 1], int(told["start"]) + row, stamp, lambda: None)
        stored = np.asarray(data.images[row])
        if not np.array_equal(stamp[0], stored):
            raise InputError(
                f"{options.file}: sample {row} is not what its record draws (largest difference "
                f"{np.abs(stamp[0] - stored).max():g} counts, peak {stored.max():g})" + _versions(told)
            )
    return len(chosen)


def _versions(told: dict[str, str | int | float]) -> str:
    here = {"galsim": galsim.__version__, "numpy": np.__version__}
    other = [f"{name} {told.get(name)}, here {version}" for name, version in here.items() if told.get(name) != version]
    return f"; it was drawn with {', '.join(other)}" if other else ""
