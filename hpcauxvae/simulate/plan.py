"""What a set will hold, and the folder where it grows."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

import hpcauxvae
from hpcauxvae.runtime.files import whole, write_json
from hpcauxvae.simulate.journal import SUFFIX, Rows
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import Factor, InputError

CHUNK = 64
"""Galaxies in a chunk: some 30 ms of work and 0.3 MB."""

ONE_FILE_BYTES = 2 << 30
"""Sets of up to this many bytes become one contiguous file, which is read fastest; larger ones shards."""

SHARD_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides what the file will hold, but the factors' values: those are in `parts`."""

    out: Path
    scene: Scene
    factors: tuple[Factor, ...]
    """With the ranges to record."""
    design: str
    """In words."""
    design_n: int
    """Points of the whole design."""
    seed: int
    """Of the design and of the noise."""
    start: int
    """Number in the design of the first galaxy of this set."""
    stop: int
    """And of the one after the last."""
    chunk: int = CHUNK
    shard_size: int | None = None
    """Galaxies in a shard, 0 for one file; None chooses by size."""
    device: str = "cpu"
    """Where the batch renderer works."""
    arguments: tuple[str, ...] = ()
    """Of the command line."""

    @property
    def rows(self) -> Rows:
        return Rows(self.stop - self.start, self.chunk, 4 * int(np.prod(self.scene.shape)))

    @property
    def shard_chunks(self) -> int:
        """Chunks in a shard; 0: one file."""
        rows = self.rows
        size = self.shard_size
        if size is None:
            size = SHARD_BYTES // rows.row_bytes if rows.n * rows.row_bytes > ONE_FILE_BYTES else 0
        return -(-size // self.chunk)

    @property
    def parts(self) -> Path:
        """The folder where the set grows, gone once it is whole."""
        return self.out.with_name(f"{self.out.name}.parts")

    @property
    def shards(self) -> Path:
        """The folder of shards, beside the set."""
        return self.out.with_name(f"{self.out.name}.shards")

    @property
    def values_path(self) -> Path:
        """(N, F) float64, on disk so that all ranks of a node share one copy."""
        return self.parts / "factors.npy"

    def journals(self) -> list[Path]:
        """Those of earlier starts, in order."""
        return sorted(self.parts.glob(f"*{SUFFIX}"))

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What the file says about itself."""
        return {
            "simulator": f"hpcauxvae {hpcauxvae.__version__}",
            "command": shlex.join(["python", "-m", "hpcauxvae.simulate", *self.arguments]),
            "seed": self.seed,
            "design": self.design,
            "design_n": self.design_n,
            "start": self.start,
            **self.scene.description,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        }

    def identity(self, values: np.ndarray) -> dict[str, str | int | float]:
        """What two starts must have in common to share their chunks."""
        told = self.provenance
        kept = ("noise", "renderer", "scene", "gsparams", "galsim", "numpy", "start")
        return {
            "factors": hashlib.sha256(np.ascontiguousarray(values).data).hexdigest(),
            "seed": self.seed,
            **{name: told[name] for name in kept},
            "device": self.device,
            "chunk": self.chunk,
            "shard_chunks": self.shard_chunks,
        }

    def record(self, values: np.ndarray) -> None:
        """Takes `parts` for this plan, or finds that an earlier start did.

        Raises InputError where the folder was left by a run of another plan.
        """
        record = self.parts / "plan.json"
        identity = self.identity(values)
        if record.exists():
            found = json.loads(record.read_text())
            for name, value in identity.items():
                if found.get(name) != value:
                    raise InputError(
                        f"{self.parts}: left by an unfinished run with {name} = {found.get(name)}, now {value}; "
                        "finish that run, or remove the folder"
                    )
            return
        with whole(self.values_path) as part, open(part, "wb") as file:
            np.save(file, values)
        write_json(record, identity)


def intervals(numbers: np.ndarray) -> np.ndarray:
    """(M, 2): increasing whole numbers (n,) as half-open runs."""
    if len(numbers) == 0:
        return np.empty((0, 2), np.int64)
    gaps = np.flatnonzero(np.diff(numbers) > 1)
    return np.stack([numbers[[0, *(gaps + 1)]], numbers[[*gaps, -1]] + 1], axis=1)


class Missing:
    """Chunks still to be drawn, kept as runs so that a fresh set of any size takes a few bytes on every rank."""

    def __init__(self, runs: np.ndarray) -> None:
        self._runs = runs
        self._before = np.concatenate([[0], np.cumsum(runs[:, 1] - runs[:, 0])])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, position: int) -> int:
        run = int(np.searchsorted(self._before, position, side="right")) - 1
        return int(self._runs[run, 0] + position - self._before[run])


def factors_with(factors: Sequence[Factor], ranges: str) -> tuple[Factor, ...]:
    """The factors with other ranges: `radius=0.2:0.8,psf=0.5:1`. Raises InputError where that makes no sense."""
    changed = {factor.name: factor for factor in factors}
    for part in filter(None, ranges.split(",")):
        name, _, span = part.partition("=")
        low, _, high = span.partition(":")
        if name not in changed:
            raise InputError(f"--ranges {part}: factor {name!r} is unknown; known are {', '.join(changed)}")
        try:
            changed[name] = changed[name]._replace(low=float(low), high=float(high))
        except ValueError:
            raise InputError(f"--ranges {part}: allowed is NAME=LOW:HIGH") from None
        if not (np.isfinite([changed[name].low, changed[name].high]).all() and changed[name].low < changed[name].high):
            raise InputError(f"--ranges {part}: allowed is LOW < HIGH, both finite")
    return tuple(changed[factor.name] for factor in factors)
