"""The options of `python -m hpcauxvae.simulate`, and the plan that they ask for."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hpcauxvae.data.galaxies import PIXEL_SCALE, STAMP_SIZE
from hpcauxvae.data.hdf5 import ImageSet, check_values, open_set
from hpcauxvae.simulate import designs
from hpcauxvae.simulate.plan import CHUNK, Plan, factors_with
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import Factor, InputError

N = 16384


@dataclass(frozen=True, kw_only=True)
class Options:
    """Simulates galaxies (Table 2 of the paper) with GalSim. Killed and started again, it goes on where it was.

    Two more commands: `merge OUT PART...` makes one set of parts or shards, `verify FILE` draws a sample again.
    """

    out: Path
    """HDF5 file to make (docs/data-format.md). Must not exist."""
    n: int | None = None
    """Galaxies of the design, at least 2. Default: 16384, or as many as LIKE or TABLE has."""
    seed: int = 0
    """Of the design and of the noise; the noise of a galaxy depends on (seed, its number) alone."""
    design: Literal["latin-hypercube", "sobol", "uniform"] = "latin-hypercube"
    """How the factors fill their ranges. A Latin hypercube of n points cannot be extended later, the others can."""
    table: Path | None = None
    """Factors from this CSV, FITS or HDF5 table, one column a factor, in place of a design."""
    ranges: str = ""
    """Other ranges of factors, as radius=0.2:0.8,psf=0.5:1."""
    start: int | None = None
    """Draw the galaxies from this number on, counted from 0: a part of the design for one of several jobs."""
    stop: int | None = None
    """Up to, and without, this number. Default: n."""
    extend: Path | None = None
    """Draw the galaxies that come after those of this set in its design, up to n in all."""
    like: Path | None = None
    """Draw the galaxies of this file again, in its order, in place of a new design."""
    noiseless: bool = False
    """Expected counts in place of noisy ones."""
    profile: Literal["exponential", "sersic", "bulge-disk", "real", "parametric-cosmos"] = "exponential"
    """Kind of galaxy (docs/simulation.md)."""
    psf: Literal["gaussian", "moffat", "kolmogorov"] = "gaussian"
    """Kind of point spread function."""
    catalogue: Path | None = None
    """COSMOS catalogue of GalSim, for real and parametric-cosmos."""
    bands: str = ""
    """Names of the channels, as g,r,i: each has its own factor flux_g ...; none: one channel."""
    stamp_size: int = STAMP_SIZE
    """Pixels on a side."""
    pixel_scale: float = PIXEL_SCALE
    """Arcsec a pixel."""
    sky: float = 0.0
    """Sky level, counts a pixel; its noise stays, its mean is taken off."""
    read_noise: float = 0.0
    """Standard deviation of the read noise, counts a pixel."""
    renderer: Literal["galsim", "batch", "batch-fine"] = "galsim"
    """batch: many stamps at once in Fourier space, with torch; batch-fine: ten times as accurate as batch."""
    device: str = "cpu"
    """Where the batch renderer works: cpu, cuda, cuda:1 ..."""
    chunk: int = CHUNK
    """Galaxies that are dealt, stored and check-summed together."""
    shard_size: int | None = None
    """Galaxies in a shard; 0: one contiguous file. Default: one file up to 2 GiB, else shards of 1 GiB."""
    preview: bool = False
    """Draw only a picture, OUT with .png: some stamps and the distributions of the factors."""


_OF_SCENE = ("profile", "psf", "catalogue", "bands", "stamp_size", "pixel_scale", "sky", "read_noise")
_OF_DESIGN = ("design", "table", "ranges", "start", "stop")


def plan_of(options: Options, arguments: tuple[str, ...]) -> tuple[Plan, np.ndarray]:
    """What to draw, and the factors' values (N, F). Raises InputError where an option, or a file, cannot be used."""
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: allowed is 0 or more")
    if options.chunk < 1:
        raise InputError(f"--chunk {options.chunk}: allowed is 1 or more")
    if options.shard_size is not None and options.shard_size < 0:
        raise InputError(f"--shard-size {options.shard_size}: allowed is 0 or more")
    if options.like is not None:
        scene, settings, values = _like(options)
    elif options.extend is not None:
        scene, settings, values = _extension(options)
    else:
        scene, settings, values = _new(options)
    plan = Plan(
        out=options.out,
        scene=scene,
        chunk=options.chunk,
        shard_size=options.shard_size,
        device=options.device,
        arguments=arguments,
        **({"seed": options.seed} | settings),
    )
    check_values(values, plan.factors, str(options.table or options.like or options.out))
    return plan, values


def _new(options: Options) -> tuple[Scene, dict[str, Any], np.ndarray]:
    """The scene, the rest of the plan, and the values."""
    scene = Scene(
        profile=options.profile,
        psf=options.psf,
        catalogue=options.catalogue.resolve() if options.catalogue else None,
        bands=tuple(options.bands.split(",")) if options.bands else (),
        stamp_size=options.stamp_size,
        pixel_scale=options.pixel_scale,
        sky=options.sky,
        read_noise=options.read_noise,
        noiseless=options.noiseless,
        renderer=options.renderer,
    )
    factors = factors_with(scene.factors, options.ranges)
    if options.table is None:
        return scene, *_design(options, scene, factors)
    if options.design != "latin-hypercube":
        raise InputError(f"--design {options.design}: not allowed beside --table, which gives the factors")
    values = designs.read_table(options.table, factors)
    n = len(values) if options.n is None else options.n
    if n > len(values):
        raise InputError(f"--n {n}: {options.table} has {len(values)} rows")
    start, stop = _span(options, n)
    designs.check_ranges(values[:stop], factors, f"--table {options.table}")
    scene.check(values[:stop], str(options.table))
    settings = {"design": "table", "design_n": n, "start": start, "stop": stop, "factors": factors}
    return scene, settings, np.ascontiguousarray(values[start:stop])


def _design(options: Options, scene: Scene, factors: tuple[Factor, ...]) -> tuple[dict[str, Any], np.ndarray]:
    n = N if options.n is None else options.n
    if n < 2:
        raise InputError(f"--n {n}: allowed is 2 or more")
    start, stop = _span(options, n)
    values = scene.on_grid(designs.rows(options.design, n, options.seed, start, stop, factors), factors)
    scene.check(values, f"--ranges {options.ranges}" if options.ranges else f"--profile {scene.profile}")
    return {"design": options.design, "design_n": n, "start": start, "stop": stop, "factors": factors}, values


def _span(options: Options, n: int) -> tuple[int, int]:
    start = 0 if options.start is None else options.start
    stop = n if options.stop is None else options.stop
    if not 0 <= start < stop <= n or stop - start < 2:
        raise InputError(f"--start {start} --stop {stop}: allowed is 0 <= start, start + 2 <= stop <= n = {n}")
    return start, stop


def _refuse_beside(option: str, other: ImageSet, options: Options, names: tuple[str, ...]) -> None:
    """Raises InputError where an option is given that the other file decides."""
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            flag = f"--{name.replace('_', '-')} {getattr(options, name)}"
            raise InputError(f"{flag}: not allowed beside --{option}, which takes it from {other.path}")


def _scene_like(other: ImageSet, options: Options) -> Scene:
    """The scene of a file, but with the noise and the renderer asked for."""
    return replace(Scene.of(other.provenance, other.path), noiseless=options.noiseless, renderer=options.renderer)


def _like(options: Options) -> tuple[Scene, dict[str, Any], np.ndarray]:
    assert options.like is not None
    other = open_set(options.like)
    if options.n is not None:
        raise InputError(f"--n {options.n}: not allowed beside --like, which draws every galaxy of {options.like}")
    _refuse_beside("like", other, options, (*_OF_SCENE, *_OF_DESIGN, "extend"))
    scene = _scene_like(other, options)
    columns = other.column([factor.name for factor in scene.factors])
    values = np.ascontiguousarray(other.values[:, columns])
    scene.check(values, str(options.like))
    start = int(other.provenance.get("start", 0))
    settings = {
        "design": f"the galaxies of {options.like} (fingerprint {other.fingerprint})",
        "design_n": start + len(values),
        "start": start,
        "stop": start + len(values),
        "factors": tuple(other.factors[column] for column in columns),
    }
    return scene, settings, values


def _extension(options: Options) -> tuple[Scene, dict[str, Any], np.ndarray]:
    assert options.extend is not None
    other = open_set(options.extend)
    _refuse_beside("extend", other, options, (*_OF_SCENE, *_OF_DESIGN, "seed", "noiseless", "renderer"))
    told = other.provenance
    design = str(told.get("design"))
    if design in designs.FIXED_SIZE:
        raise InputError(
            f"--extend {options.extend}: a {design} of {told.get('design_n')} points cannot be extended: with more "
            "points every one of them would move; allowed: sobol and uniform"
        )
    if design not in designs.DESIGNS:
        raise InputError(f"--extend {options.extend}: design {design!r}; allowed: sobol, uniform (a table: --start)")
    begin = int(told["start"]) + len(other)
    if options.n is None or options.n < begin + 2:
        raise InputError(f"--n {options.n}: {options.extend} ends at galaxy {begin}; allowed is {begin + 2} or more")
    scene = Scene.of(told, other.path)
    seed = int(told["seed"])
    values = scene.on_grid(designs.rows(design, options.n, seed, begin, options.n, other.factors), other.factors)
    settings = {"design": design, "design_n": options.n, "start": begin, "stop": options.n, "factors": other.factors}
    return scene, settings | {"seed": seed}, values
