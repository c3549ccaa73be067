"""What a set will hold, as the options ask for it, and the folder where it grows."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import hpcauxvae
from hpcauxvae.data.hdf5 import ImageSet, check_values, open_set
from hpcauxvae.data.journal import Rows
from hpcauxvae.data.tables import read_columns
from hpcauxvae.runtime.files import whole, write_json
from hpcauxvae.simulate import designs
from hpcauxvae.simulate.config import CHUNK, SimulateConfig
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import Factor, InputError

POINTS = 16384
"""Of a design whose number is not given."""

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
    """Number in the design of the galaxy after the last."""
    chunk: int = CHUNK
    shard_size: int | None = None
    """Galaxies in a shard, 0 for one file; None chooses by size."""
    device: str = "cpu"
    """Where the batch renderer works."""
    arguments: tuple[str, ...] = ()
    """Of the command line."""

    @property
    def rows(self) -> Rows:
        """How the rows of the part that is drawn lie in chunks."""
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


_OF_SCENE = ("profile", "psf", "catalogue", "bands", "stamp_size", "pixel_scale", "sky", "read_noise")
_OF_DESIGN = ("design", "table", "ranges", "start", "stop")


def plan_of(config: SimulateConfig, arguments: tuple[str, ...]) -> tuple[Plan, np.ndarray]:
    """What to draw, and the factors' values (N, F). Raises InputError where an option, or a file, cannot be used."""
    if not 0 <= config.seed < 2**64:
        raise InputError(f"--seed {config.seed}: allowed is 0 to {2**64 - 1}")
    if config.chunk < 1:
        raise InputError(f"--chunk {config.chunk}: allowed is 1 or more")
    if config.shard_size is not None and config.shard_size < 0:
        raise InputError(f"--shard-size {config.shard_size}: allowed is 0 or more")
    if config.like is not None:
        scene, settings, values = _like(config)
    elif config.extend is not None:
        scene, settings, values = _extension(config)
    else:
        scene, settings, values = _new(config)
    plan = Plan(
        out=config.out,
        scene=scene,
        chunk=config.chunk,
        shard_size=config.shard_size,
        device=config.device,
        arguments=arguments,
        **({"seed": config.seed} | settings),
    )
    check_values(values, plan.factors, str(config.table or config.like or config.out))
    return plan, values


def _new(config: SimulateConfig) -> tuple[Scene, dict[str, Any], np.ndarray]:
    """The scene, the rest of the plan, and the values."""
    scene = Scene(
        profile=config.profile,
        psf=config.psf,
        catalogue=config.catalogue.resolve() if config.catalogue else None,
        bands=tuple(config.bands.split(",")) if config.bands else (),
        stamp_size=config.stamp_size,
        pixel_scale=config.pixel_scale,
        sky=config.sky,
        read_noise=config.read_noise,
        noiseless=config.noiseless,
        renderer=config.renderer,
    )
    factors = factors_with(scene.factors, config.ranges)
    if config.table is None:
        return scene, *_design(config, scene, factors)
    if config.design != "latin-hypercube":
        raise InputError(f"--design {config.design}: not allowed beside --table, which gives the factors")
    values = read_columns(config.table, [factor.name for factor in factors])
    n = len(values) if config.n is None else config.n
    if n > len(values):
        raise InputError(f"--n {n}: {config.table} has {len(values)} rows")
    start, stop = _span(config, n)
    designs.check_ranges(values[:stop], factors, str(config.table))
    scene.check(values[:stop], str(config.table))
    settings = {"design": "table", "design_n": n, "start": start, "stop": stop, "factors": factors}
    return scene, settings, np.ascontiguousarray(values[start:stop])


def _design(config: SimulateConfig, scene: Scene, factors: tuple[Factor, ...]) -> tuple[dict[str, Any], np.ndarray]:
    n = POINTS if config.n is None else config.n
    if n < 2:
        raise InputError(f"--n {n}: allowed is 2 or more")
    start, stop = _span(config, n)
    values = scene.on_grid(designs.rows(config.design, n, config.seed, start, stop, factors), factors)
    scene.check(values, f"--ranges {config.ranges}" if config.ranges else f"--profile {scene.profile}")
    return {"design": config.design, "design_n": n, "start": start, "stop": stop, "factors": factors}, values


def _span(config: SimulateConfig, n: int) -> tuple[int, int]:
    start = 0 if config.start is None else config.start
    stop = n if config.stop is None else config.stop
    if not 0 <= start < stop <= n or stop - start < 2:
        raise InputError(f"--start {start} --stop {stop}: allowed is 0 <= start, start + 2 <= stop <= n = {n}")
    return start, stop


def _refuse_beside(option: str, other: ImageSet, config: SimulateConfig, names: tuple[str, ...]) -> None:
    """Raises InputError where an option is given that the other file decides."""
    defaults = {field.name: field.default for field in fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            flag = f"--{name.replace('_', '-')} {getattr(config, name)}"
            raise InputError(f"{flag}: not allowed beside --{option}, which takes it from {other.path}")


def _scene_like(other: ImageSet, config: SimulateConfig) -> Scene:
    """The scene of a file, but with the noise and the renderer asked for."""
    return replace(Scene.of(other.provenance, other.path), noiseless=config.noiseless, renderer=config.renderer)


def _like(config: SimulateConfig) -> tuple[Scene, dict[str, Any], np.ndarray]:
    assert config.like is not None
    other = open_set(config.like)
    if config.n is not None:
        raise InputError(f"--n {config.n}: not allowed beside --like, which draws every galaxy of {config.like}")
    _refuse_beside("like", other, config, (*_OF_SCENE, *_OF_DESIGN, "extend"))
    scene = _scene_like(other, config)
    columns = other.column([factor.name for factor in scene.factors])
    values = np.ascontiguousarray(other.values[:, columns])
    scene.check(values, str(config.like))
    start = int(other.provenance.get("start", 0))
    settings = {
        "design": f"the galaxies of {config.like} (fingerprint {other.fingerprint})",
        "design_n": start + len(values),
        "start": start,
        "stop": start + len(values),
        "factors": tuple(other.factors[column] for column in columns),
    }
    return scene, settings, values


def _extension(config: SimulateConfig) -> tuple[Scene, dict[str, Any], np.ndarray]:
    assert config.extend is not None
    other = open_set(config.extend)
    _refuse_beside("extend", other, config, (*_OF_SCENE, *_OF_DESIGN, "seed", "noiseless", "renderer"))
    told = other.provenance
    design = str(told.get("design"))
    if design in designs.FIXED_SIZE:
        raise InputError(
            f"--extend {config.extend}: a {design} of {told.get('design_n')} points cannot be extended: with more "
            "points all of them would move; allowed: sobol and uniform"
        )
    if design not in designs.DESIGNS:
        raise InputError(f"--extend {config.extend}: design {design!r}; allowed: sobol, uniform (a table: --start)")
    begin = int(told["start"]) + len(other)
    if config.n is None or config.n < begin + 2:
        raise InputError(f"--n {config.n}: {config.extend} ends at galaxy {begin}; allowed is {begin + 2} or more")
    scene = Scene.of(told, other.path)
    seed = int(told["seed"])
    values = scene.on_grid(designs.rows(design, config.n, seed, begin, config.n, other.factors), other.factors)
    settings = {"design": design, "design_n": config.n, "start": begin, "stop": config.n, "factors": other.factors}
    return scene, settings | {"seed": seed}, values
